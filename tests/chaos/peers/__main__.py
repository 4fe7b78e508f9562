"""Kill a worker with -9 while jobs run, and wait for what becomes of them: the F1 of jobq, on other queues.

`--environments` is a folder with one virtual environment per peer (`v-celery` and so on) and `bullmq` with its
node_modules; what is missing is installed there from PyPI and npm.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from tests.chaos.history import History, Line, read
from tests.support.servers import Valkey

APPS = Path(__file__).parent / "apps"


@dataclass(frozen=True, slots=True)
class Peer:
    """How to install, start and feed it; what its settings are, by themselves and for a quick recovery."""

    name: str
    package: str
    worker: tuple[str, ...]
    submit: tuple[str, ...]
    settings: str
    tuned: str = ""
    tuned_flags: tuple[str, ...] = ()


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "celery", "celery[redis]",
            ("{bin}/celery", "-A", "celery_app", "worker", "-P", "threads", "-c", "100", "-n", "{n}@%h"),
            ("{bin}/python", "celery_app.py"),
            "acks_late, reject_on_worker_lost, prefetch 1, 100 threads, visibility_timeout 1 h (default)",
            "the same, visibility_timeout {tuned} s",
        ),
        Peer(
            "rq", "rq",
            ("{bin}/rq", "worker-pool", "-u", "{url}", "-n", "8", "-q"),
            ("{bin}/python", "rq_app.py"),
            "worker-pool of 8, Retry(max=3), maintenance every 10 min (default)",
        ),
        Peer(
            "saq", "saq[redis]",
            ("{bin}/saq", "saq_app.settings"),
            ("{bin}/python", "saq_app.py"),
            "concurrency 100, retries 4, timeout 10 s (default), sweep every 60 s (default)",
            "the same, timeout {tuned} s, sweep twice as often",
        ),
        Peer(
            "streaq", "streaq",
            ("{bin}/streaq", "run", "streaq_app:worker"),
            ("{bin}/python", "streaq_app.py"),
            "concurrency 100, max_tries 4, idle_timeout 60 s (default)",
            "the same, idle_timeout {tuned} s",
        ),
        Peer(
            "bullmq", "bullmq",
            ("node", "bullmq_app.mjs", "worker"),
            ("node", "bullmq_app.mjs"),
            "concurrency 100, attempts 4, lockDuration and stalledInterval 30 s, maxStalledCount 1 (defaults)",
            "the same, lockDuration and stalledInterval {tuned} s, maxStalledCount 3",
        ),
    )
}  # fmt: skip


class Play:
    """Rounds on one peer: a server, two workers, and one of them killed a round."""

    def __init__(self, peer: Peer, environments: Path, tuned: float | None, patience: float) -> None:
        self.peer = peer
        self._bin = environments / f"v-{peer.name}" / "bin"
        self._patience = patience
        self._folder = Path(tempfile.mkdtemp(prefix="jobq-peer-"))
        self.history = History(self._folder / "history.jsonl")
        self._port = random.randrange(20_000, 30_000)
        self._server = Valkey("--port", str(self._port))
        self._tuned = tuned
        self._env = {
            "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(APPS),
            "REDIS_URL": f"redis://127.0.0.1:{self._port}", "CHAOS_HISTORY": str(self.history.path),
            "BULLMQ": str(environments / "bullmq"), **({"TUNED": str(tuned)} if tuned else {}),
        }  # fmt: skip
        self._workers: list[subprocess.Popen[bytes]] = []
        self._started = 0

    async def rounds(self, count: int, jobs: int, seed: int) -> list[dict[str, Any]]:
        await asyncio.to_thread(self._server.start)
        try:
            return [
                await self._round(number, jobs, random.Random(f"{self.peer.name}.{seed}.{number}"))
                for number in range(count)
            ]
        finally:
            for worker in self._workers:
                _kill(worker)
            self._server.kill()

    async def _round(self, number: int, jobs: int, rng: random.Random) -> dict[str, Any]:
        while len(self._workers) < 2:
            self._workers.append(self._start(self.peer.worker))
            await asyncio.sleep(6)
        position = self.history.position()
        wanted = [(f"{number}.{index}", rng.uniform(0, 1)) for index in range(jobs)]
        submit = self._start(self.peer.submit, json.dumps(wanted))
        async with asyncio.timeout(60):
            while not any(line["what"] == "start" for line in read(self.history.path, position)):
                await asyncio.sleep(0.01)
        await asyncio.sleep(rng.uniform(0.1, 1.0))
        victim = self._workers.pop(rng.randrange(2))
        family = [psutil.Process(victim.pid), *psutil.Process(victim.pid).children(recursive=True)]
        pids = [process.pid for process in family]
        at = self.history.write("fault", text="SIGKILL", pid=victim.pid)
        for process in family:  # some have sessions of their own
            with suppress(psutil.NoSuchProcess):
                process.kill()
        victim.wait()
        await asyncio.to_thread(submit.wait, 60)
        self._workers.append(self._start(self.peer.worker))
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline and len(_done(read(self.history.path, position))) < jobs:
            await asyncio.sleep(0.2)
        return _sum(read(self.history.path, position), jobs, at, pids)

    def _start(self, command: tuple[str, ...], *more: str) -> subprocess.Popen[bytes]:
        self._started += 1
        words = {"bin": self._bin, "url": self._env["REDIS_URL"], "n": f"w{self._started}"}
        with (self._folder / f"{self._started}.log").open("wb") as log:
            return subprocess.Popen(
                [part.format(**words) for part in command] + list(more), cwd=APPS, env=self._env, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip


def _done(lines: list[Line]) -> set[str]:
    return {line["job"] for line in lines if line["what"] == "end"}


def _sum(lines: list[Line], jobs: int, at: float, pids: list[int]) -> dict[str, Any]:
    starts = [line for line in lines if line["what"] == "start"]
    done = _done(lines)
    ended = {(line["job"], line["pid"]) for line in lines if line["what"] == "end"}
    hit = {line["job"] for line in starts if line["pid"] in pids and (line["job"], line["pid"]) not in ended}
    again = [line for line in starts if line["job"] in hit and line["t"] > at and line["pid"] not in pids]
    twice = Counter(line["job"] for line in starts)
    return {
        "jobs": jobs, "hit": len(hit), "not back": jobs - len(done),
        "back after": [round(line["t"] - at, 2) for line in again],
        "others twice": sum(times > 1 for job, times in twice.items() if job not in hit),
    }  # fmt: skip


def _kill(worker: subprocess.Popen[bytes]) -> None:
    if worker.poll() is None:
        for child in psutil.Process(worker.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        worker.kill()
    worker.wait()


def install(peer: Peer, environments: Path) -> str:
    """Make its environment if it is missing. The version."""
    if peer.name == "bullmq":
        folder = environments / "bullmq"
        if not (folder / "node_modules").exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "package.json").write_text("{}")
            subprocess.run(["npm", "install", "--silent", "bullmq", "ioredis"], cwd=folder, check=True)
        return str(json.loads((folder / "node_modules/bullmq/package.json").read_text())["version"])
    venv = environments / f"v-{peer.name}"
    if not venv.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        packages = [peer.package, "hiredis", "typing_extensions"]
        subprocess.run([str(venv / "bin/pip"), "install", "-q", *packages], check=True)
    shown = subprocess.run(
        [str(venv / "bin/pip"), "show", peer.name], capture_output=True, text=True, check=True
    ).stdout
    return shown.split("Version: ")[1].split()[0]


def main(
    peers: Annotated[str, typer.Option(help="Which, with commas between.")] = ",".join(PEERS),
    environments: Annotated[Path, typer.Option()] = Path("/tmp/jobq-peers"),
    rounds: int = 5,
    jobs: int = 100,
    seed: int = 1,
    patience: Annotated[float, typer.Option(help="Seconds to wait for the jobs of a round.")] = 150.0,
    tuned: Annotated[float | None, typer.Option(help="Seconds: what decides how soon a job comes back.")] = None,
    out: Annotated[Path | None, typer.Option(help="A file for a line a peer.")] = None,
) -> None:
    """One line a peer."""
    chosen = [PEERS[name] for name in peers.split(",") if tuned is None or PEERS[name].tuned]
    versions = {peer.name: install(peer, environments) for peer in chosen}

    async def all_of_them() -> list[list[dict[str, Any]]]:
        plays = [Play(peer, environments, tuned, patience) for peer in chosen]
        return await asyncio.gather(*(play.rounds(rounds, jobs, seed) for play in plays))

    for peer, played in zip(chosen, asyncio.run(all_of_them()), strict=True):
        back = sorted(seconds for each in played for seconds in each["back after"])
        line = {
            "peer": f"{peer.name} {versions[peer.name]}",
            "settings": (peer.tuned if tuned else peer.settings).format(tuned=tuned),
            "rounds": len(played),
            "jobs": sum(each["jobs"] for each in played),
            "hit": sum(each["hit"] for each in played),
            "not back": sum(each["not back"] for each in played), "patience": patience,
            "back after": [back[0], back[len(back) // 2], back[-1]] if back else None,
            "others twice": sum(each["others twice"] for each in played),
        }  # fmt: skip
        typer.echo(json.dumps(line))
        if out:
            with out.open("a") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    typer.run(main)
