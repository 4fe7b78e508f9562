"""What lies between the members and the server: connections that break, stall, carry nothing, or are refused."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import httpx

from jobq import Client
from tests.chaos.checker import Limits
from tests.chaos.faults import fault
from tests.chaos.history import read
from tests.chaos.load import Load, submit
from tests.chaos.proxy import Proxy
from tests.chaos.scene import Scene

UNHURT = Limits(duplicates=0, losses=False)
"""Nothing runs twice and no lease is lost: the members live, and can reach the server before a lease is over."""
AGAIN = 5.0
"""Seconds in which everything works again."""
REFUSAL = 0.1
"""Seconds that an API needs to say that the server cannot be reached."""
CUTS = 100
"""Calls that are cut in a round, at least."""


@fault(
    "F21",
    "all connections are killed every 200 ms",
    Limits(duplicates=0, losses=False, consume=AGAIN),
    load=Load(over=3.0),
)
async def connections_killed(scene: Scene) -> None:
    redis: Any
    async with scene.redis() as redis:
        await asyncio.sleep(0.5)
        usual = await _connections(redis)
        killed = 0
        for _ in range(20):
            await asyncio.sleep(0.2)
            killed += int(await redis.execute_command("CLIENT", "KILL", "TYPE", "normal"))
        scene.healed()
        await _more(scene)
        left = await _settled(redis, usual)
        scene.note(f"{killed} connections were killed; {usual} there were before, {left} are there after")
        if left > usual + 2:
            scene.broken(f"{left} connections, {usual} before they were killed")


@fault(
    "F22",
    "replies of a hundred calls and more are lost after they were carried out",
    Limits(duplicates=0, losses=False, consume=AGAIN),
    load=Load(over=3.0, longest=4.0),
    proxied=True,
)
async def replies_lost(scene: Scene) -> None:
    refused = scene.said("outcome refused")
    await _cut(scene, replies=0.3)
    await asyncio.sleep(1.0)
    if scene.said("outcome refused") > refused:
        scene.broken("an outcome whose first reply was lost was refused when it was sent again")


@fault(
    "F23",
    "a hundred calls and more are cut off in the middle",
    Limits(duplicates=0, losses=False, consume=AGAIN),
    load=Load(over=3.0, longest=4.0),
    proxied=True,
)
async def requests_lost(scene: Scene) -> None:
    await _cut(scene, requests=0.3)


async def _cut(scene: Scene, replies: float = 0.0, requests: float = 0.0) -> None:
    proxy = _proxy(scene)
    before = proxy.cuts.copy()
    proxy.dice.seed(scene.random.random())
    proxy.lose_replies, proxy.lose_requests = replies, requests
    deadline = time.monotonic() + 30
    while proxy.cuts.total() - before.total() < CUTS and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    proxy.lose_replies = proxy.lose_requests = 0.0
    scene.healed()
    cuts = proxy.cuts - before
    scene.note(f"{cuts.total()} calls were cut: {', '.join(f'{name} {n}' for name, n in cuts.most_common())}")
    if cuts.total() < CUTS or not (cuts["pump"] or cuts["another"]):
        scene.broken(f"the round shows nothing: {cuts}")
    await _more(scene)


@fault(
    "F24",
    "connections stay open and carry nothing, those of a worker or all",
    Limits(duplicates=0, consume=AGAIN + 1),
    load=Load(longest=8.0),
    proxied=True,
)
async def half_open(scene: Scene) -> None:
    await scene.some_time(0.1, 1.5)
    # Only half of the time of all: the others then see to it that leases which are over are noticed.
    whose = None if scene.random.random() < 0.5 else scene.any_worker().ports()
    _proxy(scene).freeze(whose)
    scene.note(f"frozen: {'all' if whose is None else len(whose)}")
    await asyncio.sleep(0.2)  # what had been handed out has begun
    # From now on the network works; but whoever does not notice waits for ever.
    scene.healed()
    await _more(scene)


@fault(
    "F25",
    "an answer takes 400 ms longer",
    UNHURT,
    load=Load(longest=4.0),
    proxied=True,
    env={"JOBQ_LEASE": "5"},
)
async def latency(scene: Scene) -> None:
    _proxy(scene).delay = 0.2
    await asyncio.sleep(10)
    _proxy(scene).delay = 0.0


@fault(
    "F26b",
    "the server cannot be reached for 10 s",
    Limits(duplicates=0, losses=False, consume=AGAIN),
    load=Load(jobs=100, over=1.0, longest=15.0),
    proxied=True,
)
async def refused(scene: Scene) -> None:
    _, url = await scene.start_api()
    await asyncio.sleep(1.0)
    took: list[float] = []
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        _proxy(scene).refuse()
        over = time.monotonic() + 10
        while time.monotonic() < over:
            began = time.monotonic()
            status = (await http.post("/submit-job", json={"task": "waits", "payload": {"seconds": 0}})).status_code
            took.append(time.monotonic() - began)
            if status != 503:
                scene.broken(f"the API answered {status} while the server could not be reached")
            await asyncio.sleep(0.02)
        _proxy(scene).listen()
        scene.healed()
        await _more(scene)
        while (await http.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.05)
        scene.note(f"the API serves again after {time.monotonic() - over:.2f} s")
    for api in scene.apis:
        api.kill()
    p99 = statistics.quantiles(took, n=100)[98]
    if p99 > REFUSAL:
        scene.broken(f"an answer of 503 took {p99:.3f} s (p99), the limit is {REFUSAL:.1f} s")
    scene.note(f"{len(took)} answers of 503: median {statistics.median(took):.3f} s, p99 {p99:.3f} s")


@fault(
    "F50",
    "a worker can open no file any more, for 5 s",
    lambda lease: Limits(rerun=lease + 1, retries=True),
    load=Load(over=2.0, longest=3.0),
    proxied=True,
)
async def files_exhausted(scene: Scene) -> None:
    """It has lost its connections besides, and cannot open others until the limit is lifted."""
    await asyncio.sleep(1.0)
    worker = scene.any_worker()
    few = scene.said("Too many open files")
    scene.hit(worker, "no more files")
    usual = worker.limit_files(3)  # what has these numbers is open: none below is free
    _proxy(scene).drop()
    began = worker.cpu()
    await asyncio.sleep(5)
    spent = worker.cpu() - began
    worker.limit_files(usual)
    scene.healed()
    position = scene.history.position()
    said = scene.said("Too many open files") - few
    scene.note(f"said {said} times that there are too many open files; {spent:.1f} s of processor time in 5 s")
    if not worker.alive or spent > 2.5:
        scene.broken(f"the worker {'used up a processor' if worker.alive else 'died'} for want of files")
    if not said:
        scene.broken("nothing in the logs says that there are too many open files")
    deadline = time.monotonic() + AGAIN
    while time.monotonic() < deadline:
        await _more(scene)
        lines = read(scene.history.path, position)
        if any(line["what"] == "start" and line["pid"] == worker.pid for line in lines):
            return
    scene.broken(f"the worker began no job within {AGAIN:.0f} s after it could open files again")


async def _more(scene: Scene) -> None:
    """A few jobs that nothing stands in the way of: so that there is something to begin with."""
    direct = scene.settings().having(redis_url=scene.server.url)
    async with Client(settings=direct, registry=None) as client:
        await submit(Load(jobs=20, over=0.2, longest=0.2), client, scene.history, scene.random)


async def _connections(redis: Any) -> int:
    return int((await redis.info("clients"))["connected_clients"])


async def _settled(redis: Any, usual: int) -> int:
    """How many connections there are, at the latest after the time in which everything works again."""
    deadline = time.monotonic() + AGAIN
    while (there := await _connections(redis)) > usual and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    return there


def _proxy(scene: Scene) -> Proxy:
    assert scene.proxy
    return scene.proxy
