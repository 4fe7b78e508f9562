"""The API that dies, stops, and is asked for the same thing by many at once."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from tests.chaos.checker import Limits
from tests.chaos.faults import fault
from tests.chaos.load import Load
from tests.chaos.scene import Member, Scene

UNHURT = Limits(duplicates=0, losses=False)
REQUESTS = 200
STOPPED = 5.0
"""Seconds in which an API that was told to stop is gone."""
UNREAD = 0.5
"""Seconds for which a request may have lain at a busy API without being read. What was not read is not answered."""
ENDED = (0, -signal.SIGTERM)
"""Of an API that was told to stop: uvicorn dies of the signal once it has done its duty."""


@dataclass(slots=True)
class Ask:
    """A submit with a key of its own, and what became of it."""

    key: str
    seconds: float
    sent: float = 0.0
    failed: str = ""
    job: str | None = None
    """None: no answer yet, or none that was an acceptance."""

    @classmethod
    def some(cls, number: int, dice: random.Random, longest: float = 0.2) -> list[Ask]:
        return [cls(f"{dice.getrandbits(64):x}", dice.uniform(0, longest)) for _ in range(number)]


class Caller:
    """Somebody who uses the API over HTTP, with many connections."""

    def __init__(self, scene: Scene, url: str, at_once: int = 50) -> None:
        limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
        self._scene = scene
        self._room = asyncio.Semaphore(at_once)
        self.http = httpx.AsyncClient(base_url=url, timeout=15, limits=limits)

    async def __aenter__(self) -> Self:
        await self.http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.http.aclose()

    async def submit(self, ask: Ask, path: str = "/submit-job") -> httpx.Response | None:
        """Once. None when there was no answer; then nobody knows whether the job was taken."""
        body = {"task": "waits", "payload": {"seconds": ask.seconds}}
        async with self._room:
            ask.sent = time.monotonic()
            try:
                answer = await self.http.post(path, json=body, headers={"Idempotency-Key": ask.key})
            except httpx.TransportError as error:
                ask.failed = f"{type(error).__name__} after {time.monotonic() - ask.sent:.2f} s"
                return None
        if answer.status_code not in (200, 202):
            self._scene.broken(f"a submit was answered {answer.status_code}: {answer.text[:200]}")
            return answer
        self._take(ask, answer.json()["job_id"])
        return answer

    async def submit_again(self, asks: list[Ask]) -> None:
        """All, those that were answered too, until each is answered: one job a key."""
        for ask in asks:
            while await self.submit(ask) is None:
                await asyncio.sleep(0.05)

    def _take(self, ask: Ask, job: str) -> None:
        if ask.job is None:
            self._scene.history.write("accepted", job=job)
        elif ask.job != job:
            self._scene.broken(f"one key was answered with the jobs {ask.job} and {job}")
        ask.job = job


@fault("F12", "the API is killed with -9 while 200 submits run", UNHURT, load=Load(jobs=20))
async def api_killed(scene: Scene) -> None:
    asks = Ask.some(REQUESTS, scene.random)
    api, url = await scene.start_api()
    async with Caller(scene, url) as caller:
        submits = asyncio.gather(*(caller.submit(ask) for ask in asks))
        await _until_answered(asks, scene.random.randrange(REQUESTS // 2))
        scene.kill(api)
        await submits
    await _ask_again(scene, asks)


@fault("F13", "the API is told to stop under load", UNHURT, load=Load(jobs=20))
async def api_stopped(scene: Scene) -> None:
    api, url = await scene.start_api()
    patient = Ask.some(20, scene.random, longest=6.0)
    asks = Ask.some(10 * REQUESTS, scene.random)
    async with Caller(scene, url, at_once=30) as caller:
        waits = [asyncio.create_task(caller.submit(ask, "/v1/jobs?wait=10")) for ask in patient]
        await asyncio.sleep(0.5)
        submits = asyncio.gather(*(caller.submit(ask) for ask in asks))
        await _until_answered(asks, scene.random.randrange(REQUESTS))
        told = time.monotonic()
        scene.note("the API is told to stop")
        api.signal(signal.SIGTERM)
        await _stopped(scene, api, told)
        await submits
        answers = await asyncio.gather(*waits)
    unanswered = [ask for ask in asks if ask.job is None and 0 < ask.sent < told - UNREAD]
    if None in answers or unanswered:
        how = [ask.failed for ask in [*patient, *unanswered] if ask.failed]
        scene.broken(f"{answers.count(None)} who waited and {len(unanswered)} submits in flight got no answer: {how}")
    await _ask_again(scene, [ask for ask in [*patient, *asks] if ask.job or ask.sent < told + 0.2])


async def _stopped(scene: Scene, api: Member, told: float) -> None:
    try:
        code = await api.ended(STOPPED)
    except TimeoutError:
        scene.broken(f"the API was still there {STOPPED:.0f} s after it was told to stop")
        scene.kill(api)
        return
    scene.note(f"the API was gone {time.monotonic() - told:.2f} s after it was told to stop")
    if code not in ENDED:
        scene.broken(f"the API that was told to stop ended with {code}")


async def _until_answered(asks: list[Ask], number: int) -> None:
    while sum(ask.job is not None for ask in asks) < number:
        await asyncio.sleep(0.001)


async def _ask_again(scene: Scene, asks: list[Ask]) -> None:
    """Of an API that is started now."""
    open_ = sum(ask.job is None for ask in asks)
    scene.note(f"{len(asks)} submits, {open_} of them without an answer")
    api, url = await scene.start_api()
    async with Caller(scene, url) as caller:
        await caller.submit_again(asks)
    api.kill()


@fault("F48", "fifty submit with the same key at once", UNHURT, load=Load(jobs=20))
async def same_key(scene: Scene) -> None:
    api, url = await scene.start_api()
    async with Caller(scene, url) as caller:
        for ask in Ask.some(10, scene.random):
            same = [Ask(ask.key, ask.seconds) for _ in range(50)]
            answers = await asyncio.gather(*(caller.submit(each) for each in same))
            bodies = Counter(answer.text if answer else "no answer" for answer in answers)
            if len(bodies) != 1:
                scene.broken(f"fifty with one key were answered {bodies}")
    api.kill()


@fault(
    "F47",
    "a job is cancelled while it completes, 200 times",
    Limits(duplicates=0, losses=False, fails=frozenset({"cancelled"})),
    load=Load(jobs=20),
    concurrency=5,
)
async def cancel_races(scene: Scene) -> None:
    api, url = await scene.start_api()
    met: Counter[str] = Counter()
    # A worker hears of a cancel within a third of the lease: some jobs end about then, the others before.
    asks = [*Ask.some(REQUESTS // 2, scene.random, 0.06), *Ask.some(REQUESTS // 2, scene.random, scene.lease / 2)]
    scene.random.shuffle(asks)
    async with Caller(scene, url, at_once=24) as caller:
        room = asyncio.Semaphore(24)

        async def race(ask: Ask) -> None:
            async with room:
                await caller.submit(ask)
                await asyncio.sleep(scene.random.uniform(0, 0.06))
                met[await _cancel(scene, caller.http, str(ask.job))] += 1

        await asyncio.gather(*(race(ask) for ask in asks))
    scene.note(f"cancelled and what came of it: {dict(met)}")
    api.kill()


async def _cancel(scene: Scene, http: httpx.AsyncClient, job: str) -> str:
    """Cancel it, and hold the answer against what becomes of the job."""
    answer = await http.post(f"/v1/jobs/{job}/cancel")
    said: dict[str, Any] = answer.json()
    final = (await http.get(f"/v1/jobs/{job}", params={"wait": 10})).json()["status"]
    match answer.status_code:
        case 200:
            fits = said["status"] == final == "cancelled"
        case 202:
            fits = final in ("cancelled", "completed")
        case 409:
            fits = said["job_status"] == final == "completed"
        case _:
            fits = False
    if not fits:
        scene.broken(f"{job}: cancel was answered {answer.status_code} {answer.text[:200]}, and it is {final}")
    again = (await http.post(f"/v1/jobs/{job}/cancel")).status_code
    if again != (200 if final == "cancelled" else 409):
        scene.broken(f"{job}: it is {final}, and a second cancel was answered {again}")
    return f"{answer.status_code} {final}"


CROWD = 300
"""Jobs that may wait in a queue during the flood."""
GROWTH = 50 << 20
"""Bytes by which an API may grow."""


@fault(
    "F49",
    "ten times more is asked for than can be served",
    UNHURT,
    load=Load(jobs=20),
    env={"JOBQ_MAX_QUEUED": str(CROWD)},
    concurrency=2,
    patience=60.0,
)
async def flood(scene: Scene) -> None:
    """Two workers with two slots each serve about 60 jobs a second."""
    api, url = await scene.start_api()
    met: Counter[str] = Counter()
    took: list[float] = []
    async with Caller(scene, url, at_once=8) as caller:

        async def ask(until: float) -> None:
            while time.monotonic() < until:
                began = time.monotonic()
                met[await _batch(scene, caller.http)] += 1
                took.append(time.monotonic() - began)

        await asyncio.gather(*(ask(time.monotonic() + 1) for _ in range(8)))
        before = largest = api.rss()
        asking = asyncio.gather(*(ask(time.monotonic() + 4) for _ in range(8)))
        while not asking.done():
            await asyncio.sleep(0.1)
            largest = max(largest, api.rss())
        await asking
    answers = f"{dict(met)}, the slowest after {max(took):.2f} s"
    scene.note(f"batches of 10: {answers}; the API grew by {(largest - before) / 2**20:.1f} MiB")
    if largest - before > GROWTH:
        scene.broken(f"the API grew by {(largest - before) / 2**20:.0f} MiB")
    api.kill()


async def _batch(scene: Scene, http: httpx.AsyncClient) -> str:
    """Ten jobs. What was said to them."""
    jobs = [{"task": "waits", "payload": {"seconds": scene.random.uniform(0, 0.1)}} for _ in range(10)]
    answer = await http.post("/v1/jobs/batch", json={"jobs": jobs})
    if answer.status_code in (429, 503):
        await asyncio.sleep(0.05)
        return str(answer.status_code)
    if answer.status_code != 202:
        scene.broken(f"a batch was answered {answer.status_code}: {answer.text[:200]}")
        return str(answer.status_code)
    accepted = answer.json()["accepted"]
    for job in accepted:
        scene.history.write("accepted", job=job)
    return "accepted" if len(accepted) == 10 else "accepted in part"
