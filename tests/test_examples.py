"""The examples, run as their own first lines say. Those that need other frameworks are marked `system`."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from jobq import SyncClient
from tests.support.processes import ROOT, Process, eventually, free_port, stop_all
from tests.support.servers import Valkey

EXAMPLES = ROOT / "examples"
Run = Callable[..., Process]


@pytest.fixture
def run(valkey: Valkey, tmp_path: Path) -> Iterator[Run]:
    """Start Python with these arguments in a folder with copies of the examples, on an empty queue."""
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    processes: list[Process] = []

    def start(*arguments: str) -> Process:
        processes.append(Process(*arguments, cwd=tmp_path, env={"JOBQ_REDIS_URL": valkey.url}))
        return processes[-1]

    yield start
    stop_all(processes)


def worker(run: Run, app: str) -> None:
    run("-m", "jobq", "worker", "--app", app).wait_for("worker serves")


def test_they_are_short_and_say_how_to_run_them() -> None:
    """Each begins with the commands to type and has at most 60 lines."""
    for file in EXAMPLES.glob("*.py"):
        lines = file.read_text().splitlines()
        assert len(lines) <= 60, file
        assert re.search(rf"^    .*{file.stem}", "\n".join(lines[:9]), re.MULTILINE), file


def test_own_tasks(run: Run) -> None:
    """`up` serves five lines of tasks."""
    port = free_port()
    run("-m", "jobq", "up", "--app", "own_tasks:registry", "--port", str(port)).wait_for("Ctrl-C stops everything")
    url = f"http://127.0.0.1:{port}"
    job_id = httpx.post(f"{url}/submit-job", json={"task": "hello"}).json()["job_id"]
    eventually(lambda: "completed" == httpx.get(f"{url}/job-status/{job_id}").json()["status"])
    assert "Hello, world" == httpx.get(f"{url}/v1/jobs/{job_id}").json()["result"]


def test_mounted_fastapi(run: Run) -> None:
    """Both the application's own route and the API below its prefix work."""
    port = free_port()
    run("-m", "uvicorn", "mounted_fastapi:app", "--port", str(port)).wait_for("Uvicorn running")
    worker(run, "mounted_fastapi:registry")
    url = f"http://127.0.0.1:{port}"
    job_id = httpx.post(f"{url}/orders", json={"item": "book"}).json()["job_id"]
    eventually(lambda: "completed" == httpx.get(f"{url}/jobs/job-status/{job_id}").json()["status"])
    assert "book is on its way" == httpx.get(f"{url}/jobs/v1/jobs/{job_id}").json()["result"]
    assert "/jobs/submit-job" in httpx.get(f"{url}/openapi.json").json()["paths"]


@pytest.mark.system
def test_flask(run: Run, valkey: Valkey) -> None:
    """An order that is committed is shipped; one that is refused leaves no job."""
    port = free_port()
    run("-m", "flask", "--app", "flask_app", "run", "--port", str(port)).wait_for("Press CTRL+C")
    worker(run, "flask_app:registry")
    url = f"http://127.0.0.1:{port}/orders"
    taken = httpx.post(url, data={"item": "book"})
    assert 202 == taken.status_code
    eventually(lambda: {"state": "shipped"} == httpx.get(f"{url}/{taken.json()['order']}").json())
    with SyncClient(valkey.url) as client:
        assert b'"book"' == client.wait(taken.json()["job_id"], 5)
    assert 400 == httpx.post(url).status_code
    assert 404 == httpx.get(f"{url}/{taken.json()['order'] + 1}").status_code
    assert 1 == len(jobs(valkey))


@pytest.mark.system
def test_django(run: Run, valkey: Valkey, tmp_path: Path) -> None:
    """An order that is committed is shipped; of one that is rolled back there is neither a row nor a job."""
    port = free_port()
    run("django_app.py", "runserver", "--noreload", str(port)).wait_for("Quit the server")
    worker(run, "django_app:registry")
    url = f"http://127.0.0.1:{port}/orders"
    assert 202 == httpx.post(url, data={"item": "book"}).status_code
    assert 400 == httpx.post(url, data={"item": ""}).status_code
    with contextlib.closing(sqlite3.connect(tmp_path / "orders.db")) as database:
        eventually(lambda: [("book", "shipped")] == database.execute("select item, state from shop_order").fetchall())
    assert 1 == len(jobs(valkey))


def jobs(valkey: Valkey) -> list[bytes]:
    """The records of all jobs."""
    with valkey.client() as redis:
        return [key for key in redis.scan_iter("job:*") if key.count(b":") == 1]
