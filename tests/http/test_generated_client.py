"""The OpenAPI document in the hands of a public generator."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.support.processes import Process, free_port, stop_all, worker
from tests.support.servers import Valkey

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

GENERATOR = "openapi-python-client==0.29.1"
"""It wants an older typer than ours, so it is not in requirements-dev.txt but in a virtual environment of its own.

What it generates runs there too: nothing of jobq is in reach.
"""

USE = """
import sys, time
from client import Client
from client.api.jobs import create_job, get_job, get_job_status, submit_job
from client.models import NewJob, Status, SubmitJob

service = Client(base_url=sys.argv[1], raise_on_unexpected_status=True)

def by_contract():
    job = submit_job.sync(client=service, body=SubmitJob.from_dict({"task": "note", "payload": {"text": "Ada"}}))
    while (shown := get_job_status.sync(job.job_id, client=service)).status in ("pending", "processing"):
        time.sleep(0.05)
    return kind(job), kind(shown), shown.task, shown.status.value, shown.retries, shown.job_id == job.job_id

def by_v1():
    job = create_job.sync(client=service, body=NewJob.from_dict({"task": "note", "payload": {"text": "Ada"}}))
    while (shown := get_job.sync(job.job_id, client=service)).status in (Status.PENDING, Status.PROCESSING):
        time.sleep(0.05)
    events = [event.event.value for event in shown.timeline]
    return kind(job), kind(shown), shown.status is Status.COMPLETED, shown.payload, shown.result, shown.error, events

def failed():
    shown = create_job.sync(client=service, body=NewJob(task="always_raises", max_retries=0), wait=30)
    return kind(shown), shown.status is Status.FAILED, kind(shown.error), shown.error.type_, shown.error.message

def unknown():
    asked = [one.sync_detailed(sys.argv[2], client=service) for one in (get_job_status, get_job)]
    return [(answer.status_code.value, kind(answer.parsed), answer.parsed.type_) for answer in asked]

def foreign():
    return [get_job.sync(job_id, client=service).payload for job_id in sys.argv[3:]]

def kind(thing):
    return type(thing).__name__

print([by_contract(), by_v1(), failed(), unknown(), foreign()])
"""


@pytest.fixture
def service(valkey: Valkey) -> Iterator[str]:
    """The URL of an API with a worker."""
    env, port = {"JOBQ_REDIS_URL": valkey.url}, free_port()
    api = Process("-m", "jobq", "api", "--app", "tests.support.tasks:registry", "--port", str(port), env=env)
    processes = [api]
    try:
        api.wait_for("Uvicorn running on")
        processes.append(worker(env))
        yield f"http://127.0.0.1:{port}"
    finally:
        stop_all(processes)


def test_a_generated_client(service: str, valkey: Valkey, tmp_path: Path) -> None:
    """One made from /openapi.json, without a warning, has every operation; it submits jobs and reads them, typed."""
    document = httpx.get(f"{service}/openapi.json")
    (tmp_path / "openapi.json").write_bytes(document.content)
    tool = tmp_path / "tool"
    run(tmp_path, sys.executable, "-m", "venv", str(tool))
    run(tmp_path, f"{tool}/bin/pip", "install", "-q", GENERATOR)
    env = {"PATH": f"{tool}/bin:{os.environ['PATH']}"}  # where it looks for ruff

    generate = ("generate", "--path", "openapi.json", "--meta", "none", "--output-path", "client", "--fail-on-warning")
    said = run(tmp_path, f"{tool}/bin/openapi-python-client", *generate, **env)
    assert said == "Generating client\n"
    offered = {one["operationId"] for methods in document.json()["paths"].values() for one in methods.values()}
    assert offered == {file.stem for file in (tmp_path / "client" / "api").glob("*/[!_]*.py")}

    foreign = [uuid4(), uuid4(), uuid4()]
    with valkey.client() as redis:
        for job_id, payload in zip(foreign, ("{}", "[1]", "no JSON"), strict=True):
            redis.set(f"job:{job_id}", f'{{"job_id":"{job_id}","task":"note","status":"failed","retries":0}}')
            redis.set(f"job:{job_id}:payload", payload)
    seen = run(tmp_path, f"{tool}/bin/python", "-c", USE, service, str(uuid4()), *map(str, foreign))
    assert ast.literal_eval(seen) == [
        ("JobAccepted", "JobStatus", "note", "completed", 0, True),
        ("JobView", "JobView", True, {"text": "Ada"}, "Ada", None, ["created", "started", "completed"]),
        ("JobView", True, "ErrorView", "ValueError", "as always"),
        [(404, "Problem", "/problems/job-not-found")] * 2,
        [{}, [1], None],
    ]


def run(folder: Path, *command: str, **env: str) -> str:
    """What it prints, when all is well."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        command, cwd=folder, env={**outside, **env}, capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
