"""The built wheel where nothing else is: no checkout, no dev packages, no setting."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.processes import ROOT, eventually, free_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

TASKS = """\
from jobq import Registry
registry = Registry()
@registry.task
async def hello(name: str = "world") -> str:
    return f"Hello, {name}"
"""


@dataclass(frozen=True)
class Machine:
    """Folders of a user who has installed the wheel, and nothing besides."""

    root: Path

    @property
    def venv(self) -> Path:
        return self.root / "venv"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def project(self) -> Path:
        return self.root / "project"

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": f"{self.venv}/bin:{os.defpath}", "HOME": str(self.home), "TMPDIR": str(self.home)}

    def jobq(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [f"{self.venv}/bin/jobq", *arguments]
        return subprocess.run(command, cwd=self.project, env=self.env, capture_output=True, text=True, timeout=30)

    def processes(self) -> list[psutil.Process]:
        """Those that run anything which lies here."""
        return [one for one in psutil.process_iter(["cmdline"]) if str(self.root) in str(one.info["cmdline"])]

    def written(self) -> dict[Path, int]:
        """When each file and folder outside the project was last changed."""
        return {path: path.lstat().st_mtime_ns for top in (self.venv, self.home) for path in (top, *top.rglob("*"))}


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine(Path(tempfile.mkdtemp(prefix="jq")))  # short: the socket of the embedded server lies in there
    machine.home.mkdir()
    machine.project.mkdir()
    dist = machine.root / "dist"
    for command in (
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist), str(ROOT)],
        [sys.executable, "-m", "venv", str(machine.venv)],
    ):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = dist.glob("*.whl")
    subprocess.run([f"{machine.venv}/bin/pip", "install", "-q", str(wheel)], check=True)
    yield machine
    for process in machine.processes():
        with suppress(psutil.NoSuchProcess):
            process.kill()
    shutil.rmtree(machine.root, ignore_errors=True)


def test_the_wheel_serves_tasks_that_live_elsewhere(machine: Machine) -> None:
    """From a folder with a tasks file alone: help, a result, a clean end; nothing runs on or is written elsewhere."""
    (machine.project / "mytasks.py").write_text(TASKS)
    before = machine.written()
    assert machine.jobq("--help").stdout.startswith("Usage: jobq ")

    log = machine.root / "log"
    with log.open("w") as output:
        command = [f"{machine.venv}/bin/jobq", "up", "--app", "mytasks:registry", "--port", str(free_port())]
        up = subprocess.Popen(command, cwd=machine.project, env=machine.env, stdout=output, stderr=output)
    eventually(lambda: "Ctrl-C stops everything" in log.read_text(), 30, log.read_text)
    submitted = machine.jobq("submit", "hello", "name=Ada", "--wait")
    assert (submitted.returncode, submitted.stdout) == (0, '"Hello, Ada"\n'), submitted.stderr

    assert up.pid in {process.pid for process in machine.processes()}
    up.send_signal(signal.SIGINT)
    assert up.wait(15) == 0, log.read_text()
    # The server outlives its last user by five seconds.
    eventually(lambda: not machine.processes(), 20, lambda: str(machine.processes()))
    assert {".jobq", "mytasks.py"} == {path.name for path in machine.project.iterdir()} - {"__pycache__"}
    assert before == machine.written()
