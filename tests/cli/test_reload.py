"""`up --reload`, with code that is edited, broken and repaired."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobq.up import changes, syntax_error
from tests.cli.support import TASKS, Shell
from tests.support.processes import Process, eventually

SAYS = 'return f"Hello, {name}"'


@pytest.fixture
def place() -> Iterator[Path]:
    """A short path: the socket of the embedded server lies in there."""
    path = Path(tempfile.mkdtemp(prefix="jq"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def up(place: Path) -> Iterator[Callable[..., Process]]:
    processes: list[Process] = []

    def start(*flags: str) -> Process:
        command = ("-m", "jobq", "up", "--port", "0", "--app", "mytasks:registry", *flags)
        processes.append(Process(*command, cwd=place))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()


def test_reload(up: Callable[..., Process], place: Path) -> None:
    """Broken code never ends `up`: it is shown, what runs goes on, and the next change starts all again."""
    code, shell = place / "mytasks.py", Shell(place, {})
    code.write_text(TASKS + "nothing.at_all\n")
    process = up("--reload")
    process.wait_for("the worker ended with exit code 3: waiting for a change of the code")
    process.wait_for("the api ended with exit code 3")
    assert "NameError: name 'nothing' is not defined" in process.output

    code.write_text(TASKS)
    process.wait_for("Ctrl-C stops everything")
    assert shell.pipe("submit", "hello", "--wait").out == '"Hello, world"\n'

    code.write_text(TASKS + "x = (\n")
    process.wait_for("SyntaxError: '(' was never closed\nmytasks.py changed and is no Python now")
    running = shell.pipe("submit", "resize", "seconds:=60").out.strip()
    eventually(lambda: "status\tprocessing" in shell.pipe("status", running).out)

    # A job that would run on for long is given back soon, and taken by the new worker.
    code.write_text(TASKS.replace(SAYS, 'return f"Good day, {name}"'))
    process.wait_for("mytasks.py changed: starting again")
    eventually(lambda: shell.pipe("submit", "hello", "--wait-timeout", "10").out == '"Good day, world"\n')
    eventually(lambda: json.loads(shell.pipe("status", running, "--json").out)["attempt"] == 2)
    shell.pipe("cancel", running)

    process.signal(signal.SIGINT)
    assert process.wait() == 0, process.output


def test_what_is_no_python(tmp_path: Path) -> None:
    """Told as Python tells it; a file that is gone is no error."""
    (tmp_path / "good.py").write_text("x = 1\n")
    (tmp_path / "bad.py").write_text("x = \n")
    assert syntax_error([tmp_path / "good.py", tmp_path / "gone.py"]) == ""
    assert "bad.py" in syntax_error([tmp_path / "good.py", tmp_path / "bad.py"])


async def test_which_changes_count(tmp_path: Path) -> None:
    """Python files of the project; not those of an environment, of caches, of tests or of the data directory."""
    for folder in (".venv", ".jobq", "tests", "__pycache__", "outbox", "pkg"):
        (tmp_path / folder).mkdir()
    seen = changes(tmp_path)
    first = asyncio.ensure_future(anext(seen))
    async with asyncio.timeout(10):
        while not first.done():
            for name in (".venv/a.py", ".jobq/a.py", "tests/a.py", "__pycache__/a.py", "outbox/a.py", "notes.txt"):
                (tmp_path / name).write_text("")
            (tmp_path / "pkg/mine.py").write_text("")
            await asyncio.sleep(0.05)
    assert await first == {tmp_path / "pkg/mine.py"}
    await seen.aclose()  # type: ignore[attr-defined]
