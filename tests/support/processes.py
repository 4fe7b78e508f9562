"""Real processes that are really killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """A child with its output collected. Its whole process group ends with `kill`."""

    def __init__(self, *command: str, env: dict[str, str] | None = None, cwd: Path = ROOT) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("JOBQ_") and k != "REDIS_URL"}
        self.popen = subprocess.Popen(
            [sys.executable, *command],
            env={**inherited, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **(env or {})},
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout
        with self.popen.stdout as output:
            for line in output:
                self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, text: str, timeout: float = 15.0) -> None:
        """Until the output holds this text."""
        eventually(lambda: text in self.output or self.popen.poll() is not None, timeout, lambda: self.output)
        assert text in self.output, self.output

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def wait(self, timeout: float = 15.0) -> int:
        code = self.popen.wait(timeout)
        self._reader.join(2)
        return code

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        self._reader.join(2)


def worker(env: dict[str, str], *flags: str, app: str = "tests.support.tasks:registry") -> Process:
    """A worker that has announced itself."""
    process = Process("-m", "jobq", "worker", "--app", app, *flags, env={"JOBQ_LOG_FORMAT": "json", **env})
    process.wait_for("worker serves")
    return process


def eventually(condition: Callable[[], object], timeout: float = 10.0, told: Callable[[], str] = str) -> None:
    """Until the condition holds; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {told()}"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def stop_all(processes: Sequence[Process]) -> None:
    for process in processes:
        process.kill()
