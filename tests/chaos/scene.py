"""The scene of a run: a server, workers, an API and a proxy, all real processes, and the means to harm them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from redis.asyncio import Redis

from jobq import Client, Settings
from tests.chaos.history import History
from tests.chaos.proxy import Proxy
from tests.chaos.tasks import registry
from tests.support.processes import ROOT, free_port
from tests.support.servers import Valkey

START = 20.0
"""Seconds in which a process has to be ready."""


class Member:
    """A worker or an API in a process group of its own, its output in a file."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], folder: Path, ready: str) -> None:
        self.log = folder / f"{name}.log"
        self._ready = ready
        with self.log.open("ab") as output:
            inherited = {k: v for k, v in os.environ.items() if not k.startswith("JOBQ_") and k != "REDIS_URL"}
            self.popen = subprocess.Popen(
                [sys.executable, *command],
                env={**inherited, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **env},
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    async def ready(self) -> Self:
        deadline = time.monotonic() + START
        while self._ready not in self.log.read_text(errors="replace"):
            if not self.alive or time.monotonic() > deadline:
                raise RuntimeError(f"it did not start:\n{self.log.read_text(errors='replace')[-4000:]}")
            await asyncio.sleep(0.02)
        return self

    def signal(self, number: int) -> None:
        """To the process itself."""
        if self.alive:
            self.popen.send_signal(number)

    def signal_all(self, number: int) -> None:
        """To the process and all its children, as when a machine stands still."""
        if self.alive:
            os.killpg(self.pid, number)

    async def ended(self, timeout: float) -> int:
        return await asyncio.wait_for(asyncio.to_thread(self.popen.wait), timeout)

    def rss(self) -> int:
        """Bytes of this process in memory."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def cpu(self) -> float:
        """Seconds of processor time that it has used."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def limit_files(self, number: int) -> int:
        """How many files it may have open from now on, and how many those were before."""
        process = psutil.Process(self.pid)
        usual, most = process.rlimit(psutil.RLIMIT_NOFILE)
        process.rlimit(psutil.RLIMIT_NOFILE, (number, most))
        return int(usual)

    def ports(self) -> set[int]:
        """Those from which it is connected to somebody."""
        return {each.laddr.port for each in psutil.Process(self.pid).net_connections("tcp") if each.laddr}

    def kill(self) -> None:
        if self.alive:
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()


class Scene:
    """What a fault gets to act on. Closed, its processes are gone; history and logs stay, to be looked into."""

    def __init__(
        self,
        *,
        lease: float,
        sabotage: str | None = None,
        server: tuple[str, ...] = (),
        proxied: bool = False,
        env: dict[str, str] | None = None,
        concurrency: int = 100,
        make_server: Callable[..., Valkey] = Valkey,
    ) -> None:
        self.lease = lease
        self.random = random.Random()
        """Seeded anew for each round: every choice of a fault and of the load comes from it."""
        self.folder = Path(tempfile.mkdtemp(prefix="jobq-chaos-"))
        self.history = History(self.folder / "history.jsonl")
        self.server = make_server(*server)
        self.proxy = Proxy(str(self.server.socket)) if proxied else None
        self.workers: list[Member] = []
        self.apis: list[Member] = []
        self.concurrency = concurrency
        self._sabotage = sabotage
        self._env = env or {}
        self._members: list[Member] = []

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.server.start)
        if self.proxy:
            self.proxy.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for member in self._members:
            member.kill()
        if self.proxy:
            self.proxy.__exit__()
        self.server.kill()
        self.history.close()

    @property
    def url(self) -> str:
        """What the members use: the proxy's, if there is one."""
        return self.proxy.url if self.proxy else self.server.url

    def settings(self) -> Settings:
        return Settings.load(redis_url=self.url, lease=self.lease)

    def redis(self) -> Redis:
        """Straight to the server: for looking, and for harm that nobody would submit."""
        return Redis.from_url(self.server.url)

    def client(self) -> Client:
        """One that submits over the same way as the members."""
        return Client(settings=self.settings(), registry=registry)

    async def start_worker(self, **env: str) -> Member:
        """A worker that has announced itself."""
        if self._sabotage:
            env["CHAOS_SABOTAGE"] = self._sabotage
        worker = self._member("worker", ["-m", "tests.chaos.worker", "worker"], "worker serves", env)
        self.workers.append(worker)
        return await worker.ready()

    async def start_api(self, **env: str) -> tuple[Member, str]:
        """An API that listens, and its URL."""
        port = free_port()
        if self._sabotage:
            env["CHAOS_SABOTAGE"] = self._sabotage
        command = ["-m", "tests.chaos.worker", "api", "--port", str(port)]
        api = self._member("api", command, "Uvicorn running on", env)
        self.apis.append(api)
        await api.ready()
        return api, f"http://127.0.0.1:{port}"

    def _member(self, kind: str, command: list[str], ready: str, env: dict[str, str]) -> Member:
        own = {
            "JOBQ_REDIS_URL": self.url,
            "JOBQ_APP": "tests.chaos.tasks:registry",
            "JOBQ_LEASE": str(self.lease),
            "JOBQ_CONCURRENCY": str(self.concurrency),
            "JOBQ_LOG_FORMAT": "json",
            "CHAOS_HISTORY": str(self.history.path),
        }
        name = f"{kind}{len(self._members)}"
        member = Member(name, command, {**own, **self._env, **env}, self.folder, ready)
        self._members.append(member)
        return member

    # What faults do.

    async def some_time(self, least: float, most: float) -> None:
        await asyncio.sleep(self.random.uniform(least, most))

    def any_worker(self) -> Member:
        return self.random.choice(self.workers)

    def hit(self, member: Member | None, text: str) -> None:
        """Note the fault, before it is made: what happens from now on may be its doing."""
        self.history.write("fault", text=text, **({"pid": member.pid} if member else {}))

    def healed(self) -> None:
        self.history.write("healed")

    def broken(self, text: str) -> None:
        """Note a promise that was not kept and that only the fault itself can see."""
        self.history.write("left", text=text)

    def note(self, text: str) -> None:
        """A figure for people."""
        self.history.write("note", text=text)

    def said(self, text: str) -> int:
        """How often the members' logs hold this text, so far."""
        return sum(member.log.read_text(errors="replace").count(text) for member in self._members)

    def repaired(self) -> int:
        """How often the scrubber found something, so far; but it also shortens leases when the clock was set back."""
        return self.said("records and indexes disagreed") - self.said('"repaired": "lease shortened"')

    def kill(self, member: Member) -> None:
        """kill -9, of its children too."""
        self.hit(member, "SIGKILL")
        member.kill()
        if member in self.workers:
            self.workers.remove(member)

    def look_after_workers(self) -> None:
        """Workers that nobody killed are there."""
        for worker in [worker for worker in self.workers if not worker.alive]:
            self.broken(f"a worker that nobody killed ended with {worker.popen.returncode}")
            self.workers.remove(worker)
