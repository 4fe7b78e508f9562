"""One run: a scene, and rounds in it until there are enough or one goes wrong."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from redis.asyncio import Redis

from tests.chaos.checker import Limits, Verdict, check
from tests.chaos.history import read
from tests.chaos.load import Load, all_over, submit, take_down
from tests.chaos.scene import Scene
from tests.support.servers import Valkey

Hurt = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A way to break things, and what it may cost."""

    name: str
    title: str
    hurt: Hurt
    limits: Callable[[float], Limits]
    """Of the lease."""
    load: Load = field(default_factory=Load)
    workers: int = 2
    proxied: bool = False
    server: tuple[str, ...] = ()
    """Options for the server."""
    env: dict[str, str] = field(default_factory=dict)
    """Settings of the members."""
    concurrency: int = 100
    patience: float = 30.0
    """Seconds in which all jobs of a round have to be over, from the end of the harm."""
    repairs: bool = False
    """Whether it harms records or indexes from outside, so that there is something for the scrubber to repair."""
    make_server: Callable[..., Valkey] = Valkey
    missing: str = ""
    """What this machine lacks for it: then it is not played."""


@dataclass(frozen=True, slots=True)
class Round:
    """One line of the report."""

    fault: str
    number: int
    seed: str
    """What repeats this round's choices."""
    seconds: float
    verdict: Verdict


async def play(
    fault: Fault, *, seed: int, first: int, rounds: int, lease: float, sabotage: str | None, jobs: int | None
) -> AsyncGenerator[Round, None]:
    """Rounds number `first` and on. A new scene is set after one that went wrong: it proves nothing about the next."""
    done = rounds if fault.missing else 0
    while done < rounds:
        async with aclosing(_scene(fault, seed, first + done, rounds - done, lease, sabotage, jobs)) as scene:
            async for played in scene:
                done += 1
                yield played


async def _scene(
    fault: Fault, seed: int, first: int, rounds: int, lease: float, sabotage: str | None, jobs: int | None
) -> AsyncGenerator[Round, None]:
    scene = Scene(
        lease=lease, sabotage=sabotage, server=fault.server, proxied=fault.proxied, env=fault.env,
        concurrency=fault.concurrency, make_server=fault.make_server,
    )  # fmt: skip
    load = Load(jobs, fault.load.over, fault.load.longest, fault.load.task) if jobs else fault.load
    async with scene, Redis.from_url(scene.server.url) as redis, scene.client() as client:
        since = "0-0"
        for number in range(first, first + rounds):
            scene.random = random.Random(f"{fault.name}.{seed}.{number}")
            while len(scene.workers) < fault.workers:
                await scene.start_worker()
            position, began, repaired = scene.history.position(), time.monotonic(), scene.repaired()
            scene.history.write("note", text=f"round {number} of {fault.name}, seed {seed}")
            rng = random.Random(scene.random.random())
            submitting = asyncio.create_task(submit(load, client, scene.history, rng))
            await fault.hurt(scene)
            await submitting
            scene.look_after_workers()
            # The fault may have brought jobs of its own.
            job_ids = [line["job"] for line in read(scene.history.path, position) if line["what"] == "accepted"]
            await all_over(redis, job_ids, fault.patience)
            if scene.repaired() > repaired and not fault.repairs:
                scene.broken(f"{scene.repaired() - repaired} times records and indexes disagreed")
            since = await take_down(redis, job_ids, since, scene.history)
            verdict = check(read(scene.history.path, position), fault.limits(lease))
            yield Round(fault.name, number, f"{seed}.{number}", time.monotonic() - began, verdict)
            if verdict.wrong:
                return
