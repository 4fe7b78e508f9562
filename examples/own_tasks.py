"""Your own task in five lines.

In this folder:

    python -m jobq up --app own_tasks:registry
    curl -d '{"task": "hello"}' -H 'Content-Type: application/json' http://127.0.0.1:8000/submit-job
"""

from jobq import Registry

registry = Registry()


@registry.task
def hello(name: str = "world") -> str:
    return f"Hello, {name}"
