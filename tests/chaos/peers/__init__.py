"""F1 on other queues: `python -m tests.chaos.peers`. Each in an environment of its own, with its settings shown."""
