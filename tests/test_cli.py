"""The command line, as typed: real processes, real signals, an embedded server of the test's own."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import psutil
import pytest

from tests.support.processes import ROOT, Process, eventually, free_port, stop_all

Run = Callable[..., Process]
SERVICE = ("api.py", "config.py", "models.py", "tasks.py", "worker.py")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: the socket of the embedded server lies in there."""
    path = Path(tempfile.mkdtemp(prefix="jq"))
    yield path
    shutil.rmtree(path, ignore_errors=True)  # its server may still be writing; without the folder it ends


@pytest.fixture
def run(folder: Path) -> Iterator[Run]:
    """Start a command with a data directory and an outbox in `folder`."""
    processes: list[Process] = []

    def start(*command: str, cwd: Path = ROOT, bare: bool = False, **env: str) -> Process:
        if not bare:
            env |= {"JOBQ_DATA_DIR": str(folder / "d"), "OUTBOX": str(folder / "out"), "JOBQ_RETRY_BACKOFF": "0"}
        processes.append(Process(*command, cwd=cwd, env=env))
        return processes[-1]

    yield start
    children = [child for process in processes for child in family(process)]
    stop_all(processes)
    psutil.wait_procs(children, 5)
    for child in children:
        assert not child.is_running(), f"{child} outlived its test"


def family(process: Process) -> list[psutil.Process]:
    try:
        children: list[psutil.Process] = psutil.Process(process.popen.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return children


def up(run: Run, *flags: str, **env: str) -> tuple[Process, str]:
    """`up`, ready, and the URL of its API."""
    port = free_port()
    process = run("-m", "jobq", "up", "--port", str(port), *flags, **env)
    process.wait_for("Ctrl-C stops everything")
    return process, f"http://127.0.0.1:{port}"


def call(url: str, body: dict[str, object] | None = None) -> dict[str, object]:
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, {"Content-Type": "application/json"}), timeout=5) as answer:
        content: dict[str, object] = json.load(answer)
        return content


def status(url: str, job_id: object) -> object:
    return call(f"{url}/job-status/{job_id}")["status"]


def test_demo_once(run: Run, folder: Path) -> None:
    demo = run("-m", "jobq", "up", "--demo", "--once", "--port", "0", "--host", "0.0.0.0", "--insecure")
    assert demo.wait(30) == 0, demo.output
    assert '-d \'{"task": "send_email"}\'' in demo.output
    assert re.search(r"^send_email +completed +0 +{.*outbox", demo.output, re.MULTILINE), demo.output
    assert re.search(r"^sleep +completed  0 +1.0$", demo.output, re.MULTILINE), demo.output
    assert re.search(r"^flaky +(completed|failed +3 +gave up: SimulatedFailure)", demo.output, re.MULTILINE)
    assert len(list((folder / "out").glob("*.eml"))) == 1


def test_demo_of_tasks_that_lie_anywhere(run: Run, folder: Path) -> None:
    (folder / "mytasks.py").write_text(
        "from jobq import Registry\n"
        "registry = Registry()\n"
        "@registry.task(example={'a': 2, 'b': 3})\n"
        "def add(a: int, b: int) -> int:\n"
        "    return a + b\n"
        "@registry.task\n"
        "def broken() -> None:\n"
        "    raise RuntimeError('as expected')\n"
    )
    flags = ("--demo", "--once", "--port", "0", "--host", "0.0.0.0")
    demo = run("-m", "jobq", "up", "--app", "mytasks:registry", *flags, cwd=folder, JOBQ_API_KEY="0123456789abcdef")
    assert demo.wait(30) == 0, demo.output
    assert '-H "Authorization: Bearer $JOBQ_API_KEY"' in demo.output
    assert "0123456789abcdef" not in demo.output
    assert "add     completed  0        5" in demo.output
    assert "broken  failed     3        gave up: RuntimeError: as expected" in demo.output


@pytest.mark.parametrize("command", ["-m jobq up --port 0", "-m uvicorn api:app --port 0"])
def test_a_wrong_setting_is_one_line(command: str, run: Run) -> None:
    process = run(*command.split(), SIMULATED_FAILURE_RATE="2")
    assert process.wait() == (2 if "jobq" in command else 1)
    assert process.output == "jobq: SIMULATED_FAILURE_RATE: Input should be less than or equal to 1"


@pytest.mark.parametrize(
    ("command", "code"),
    [("-m jobq up --port 0", 69), ("-m jobq api --port 0", 69), ("-m jobq worker", 69), ("worker.py", 2)],
)
def test_a_server_that_is_not_there_is_one_line(command: str, code: int, run: Run) -> None:
    process = run(*command.split(), JOBQ_REDIS_URL=f"redis://:s3cret@127.0.0.1:{free_port()}")
    assert process.wait() == code
    (line,) = process.lines
    assert line.startswith("jobq: cannot use the Redis at redis://")
    assert "JOBQ_REDIS_URL" in line
    assert "s3cret" not in line


def test_a_taken_port_is_one_line(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = run("-m", "jobq", "up", "--port", str(port))
        assert process.wait() == 2
    (line,) = process.lines
    assert line.startswith(f"jobq: port {port} is taken: ")
    assert "--port" in line


def test_a_missing_app_is_one_line(run: Run) -> None:
    process = run("-m", "jobq", "up", "--port", "0", "--app", "tasks:settings")
    assert process.wait() == 3
    (line,) = process.lines
    assert "--app" in line


@pytest.mark.parametrize("command", ["up", "api"])
def test_an_open_address_without_a_key_is_refused(command: str, run: Run) -> None:
    process = run("-m", "jobq", command, "--host", "0.0.0.0", "--port", "0")
    assert process.wait() == 2
    (line,) = process.lines
    assert "JOBQ_API_KEY" in line
    assert "--insecure" in line


def test_ctrl_c_stops_and_a_later_up_has_the_queue(run: Run) -> None:
    first, url = up(run)
    done = call(f"{url}/v1/jobs", {"task": "sleep", "payload": {"seconds": 0}})["job_id"]
    waiting = call(f"{url}/v1/jobs", {"task": "sleep", "queue": "nobody-serves-it"})["job_id"]
    eventually(lambda: status(url, done) == "completed")
    children = family(first)
    first.signal(signal.SIGINT)
    assert first.wait(5) == 0, first.output
    assert "worker stopped" in first.output
    assert "Application shutdown complete" in first.output
    assert not any(child.is_running() for child in children)

    _, url = up(run)
    assert status(url, waiting) == "pending"
    assert call(f"{url}/v1/jobs/{done}")["result"] == 0.0


def test_ctrl_c_again_kills(run: Run) -> None:
    process, url = up(run)
    job = call(f"{url}/v1/jobs", {"task": "sleep", "payload": {"seconds": 60}})["job_id"]
    eventually(lambda: status(url, job) == "processing")
    process.signal(signal.SIGINT)
    process.wait_for("worker stops")
    process.signal(signal.SIGINT)
    assert process.wait(5) == 1, process.output


def test_the_end_of_one_process_is_told_and_ends_the_rest(run: Run) -> None:
    process, _ = up(run)
    (worker,) = [child for child in family(process) if child.cmdline()[-1] == "worker.py"]
    worker.kill()
    assert process.wait(5) == 1
    assert "the worker was killed by SIGKILL: stopping the rest" in process.output


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_nothing_outlives_an_up_that_is_killed(run: Run) -> None:
    process, _ = up(run, "--processes", "2")
    eventually(lambda: process.output.count("worker serves") == 2)
    children = family(process)
    assert len(children) == 4, children
    process.signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, 5)
    assert not alive


def test_editing_a_default_changes_every_process(run: Run, folder: Path) -> None:
    """`up` in the project; then, from another folder, `python worker.py` and `uvicorn api:app` on the same server."""
    port, project = free_port(), folder / "p"
    project.mkdir()
    for name in SERVICE:
        shutil.copy(ROOT / name, project)
    for default, edited in (
        ('Path(".jobq")', 'Path("store")'),
        ('Path("outbox")', 'Path("post")'),
        ("port: Port = 8000", f"port: Port = {port}"),
        ("concurrency: Slots = 32", "concurrency: Slots = 2"),
    ):
        edit(project / "config.py", default, edited)

    everything = run("-m", "jobq", "up", cwd=project, bare=True)
    everything.wait_for("Ctrl-C stops everything")
    assert f"redis-cli -s {project}/store/valkey.sock" in everything.output
    everything.wait_for('"concurrency": 2')
    job = call(f"http://127.0.0.1:{port}/submit-job", {"task": "send_email"})["job_id"]
    eventually(lambda: (project / "post" / f"{job}.eml").is_file())

    worker = run(str(project / "worker.py"), cwd=folder, bare=True)
    other = free_port()
    api = run("-m", "uvicorn", "--app-dir", str(project), "api:app", "--port", str(other), cwd=folder, bare=True)
    worker.wait_for("worker serves")
    assert f"redis-cli -s {project}/store/valkey.sock" in worker.output
    assert '"concurrency": 2' in worker.output
    api.wait_for("Uvicorn running")
    eventually(lambda: status(f"http://127.0.0.1:{other}", job) == "completed")


def edit(file: Path, default: str, other: str) -> None:
    text = file.read_text()
    assert text.count(default) == 1
    file.write_text(text.replace(default, other))
