"""Inspector: what is in the queue, for people and dashboards. Reads only, bounded, and never used by the hot path."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from redis.asyncio import Redis

from jobq.errors import CorruptRecord
from jobq.job import Job, parse
from jobq.store import keys

PRIORITIES = range(9, -1, -1)
SLOT = 10
"""Seconds of one slot of statistics."""
RATE_SLOTS = 6
"""Whole slots that a rate is taken over: the last minute."""
MOST_LOOKED_AT = 5000
"""Records one page looks at. A filter that matches less than a page by then says so."""
BATCH = 200


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue now. Rates are jobs a second over the last minute."""

    name: str
    ready: dict[int, int]
    """Ready jobs by priority; only priorities in use."""
    paused: bool
    oldest_seconds: float | None
    """For how long the job that has waited longest at the head of a list has been claimable; None when none waits."""
    rates: dict[str, float]
    """`in`, `completed`, `failed`, `cancelled`, `retried`, `lost`."""
    workers: int

    @property
    def depth(self) -> int:
        return sum(self.ready.values())


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker that was heard of lately, and what it runs."""

    worker: str
    seen_seconds: float
    about: dict[str, Any]
    """What it said of itself: host, pid, queues, concurrency, tasks, started_at, state."""
    running: list[str]
    """Ids of the jobs it holds."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The numbers of a front page."""

    ready: int
    scheduled: int
    processing: int
    parked: int
    missing: int
    quarantined: int
    finished: dict[str, int]
    rates: dict[str, float]


class Filter(NamedTuple):
    """Which jobs a page shows. Times are ms."""

    status: str | None = None
    task: str | None = None
    queue: str | None = None
    created_after: int | None = None
    created_before: int | None = None

    def fits(self, job: Job) -> bool:
        return (
            (self.status is None or job.status.value == self.status)
            and (self.task is None or job.task == self.task)
            and (self.queue is None or job.queue == self.queue)
            and (self.created_after is None or job.created_at >= self.created_after)
            and (self.created_before is None or job.created_at < self.created_before)
        )


class Place(NamedTuple):
    """Where a page ended. In a list by position, which claims shift; where sorted by time, nothing shifts."""

    source: int = 0
    score: float | None = None
    """For sources sorted by time: from this score on."""
    offset: int = 0
    """Entries to pass over, of the list or from that score on."""


@dataclass(slots=True)
class JobPage:
    jobs: list[Job] = field(default_factory=list)
    next: Place | None = None
    capped: bool = False
    """The page ends early because it looked at MOST_LOOKED_AT records."""


Batch = list[tuple[str, Place]]
"""Ids, each with the place behind it."""
Source = Callable[[Place], AsyncIterator[Batch]]


class Inspector:
    """Over its own client, so that a slow page never delays a job."""

    def __init__(self, client: Redis) -> None:
        # redis-py's types do not tell bytes from text.
        self._client: Any = client

    async def close(self) -> None:
        await self._client.aclose()

    async def now(self) -> int:
        seconds, micros = await self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def overview(self, queues: Sequence[str]) -> Overview:
        pipe = self._client.pipeline(transaction=False)
        pipe.zcard(keys.NAMES["schedule"])
        pipe.hlen(keys.NAMES["running"])
        pipe.zcard(keys.NAMES["missing"])
        pipe.hlen(keys.NAMES["quarantine"])
        for status in ("completed", "failed", "cancelled"):
            pipe.zcard(keys.NAMES["index"] + status)
        scheduled, processing, missing, quarantined, *finished = await pipe.execute()
        views = await self.queues(queues)
        rates: Counter[str] = Counter()
        for view in views:
            rates.update(view.rates)
        return Overview(
            ready=sum(view.depth for view in views),
            scheduled=scheduled,
            processing=processing,
            parked=await self._parked(),
            missing=missing,
            quarantined=quarantined,
            finished=dict(zip(("completed", "failed", "cancelled"), finished, strict=True)),
            rates=dict(rates),
        )

    async def queue_names(self, known: Iterable[str] = ()) -> list[str]:
        """Queues that were ever submitted to, and `known` ones."""
        stored = await self._client.smembers(keys.NAMES["queues"])
        return sorted({name.decode() for name in stored} | set(known))

    async def queues(self, known: Iterable[str] = ()) -> list[QueueView]:
        names = await self.queue_names(known)
        now = await self.now()
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            for priority in PRIORITIES:
                pipe.llen(keys.ready(name, priority))
            for priority in PRIORITIES:
                pipe.lindex(keys.ready(name, priority), 0)
        pipe.smembers(keys.NAMES["paused"])
        *answers, paused = await pipe.execute()
        rates = await self._rates(now)
        served: Counter[str] = Counter()
        for worker in await self.workers():
            served.update(worker.about.get("queues", ()))
        views = []
        for i, name in enumerate(names):
            depths, heads = answers[20 * i : 20 * i + 10], answers[20 * i + 10 : 20 * i + 20]
            ready = {p: depth for p, depth in zip(PRIORITIES, depths, strict=True) if depth}
            oldest = await self._oldest([head.decode() for head in heads if head], now)
            views.append(
                QueueView(name, ready, name.encode() in paused, oldest, rates.get(name, {}), served.get(name, 0))
            )
        return views

    async def workers(self) -> list[WorkerView]:
        ids = [
            (w.decode(), seen) for w, seen in await self._client.zrange(keys.NAMES["workers"], 0, -1, withscores=True)
        ]
        if not ids:
            return []
        now = await self.now()
        about = await self._client.mget([keys.NAMES["worker"] + worker for worker, _ in ids])
        held = await self._held()
        return [
            WorkerView(worker, max(0.0, (now - at) / 1000), json.loads(text), held.get(worker, []))
            for (worker, at), text in zip(ids, about, strict=True)
            if text is not None
        ]

    async def order(self, worker: str, word: str) -> bool:
        """Tell a worker to be `quiet` or to `stop`; it hears it within two seconds. False when it is not there."""
        if not await self._client.exists(keys.NAMES["worker"] + worker):
            return False
        await self._client.set(keys.NAMES["order"] + worker, word, ex=86_400)
        return True

    async def emitted(self, job_id: str, after: str = "-", limit: int = 1000) -> list[dict[str, str]]:
        """What the job's attempts emitted, oldest first: id, at, kind, data."""
        low = after if after == "-" else f"({after}"
        entries = await self._client.xrange(keys.emitted(job_id), low, "+", count=limit)
        return [
            {"id": i.decode(), **{k.decode(): v.decode() for k, v in fields.items()}} for i, fields in entries or ()
        ]

    async def progress(self, job_id: str) -> str | None:
        """The last progress of a running job, as it was emitted."""
        data = await self._client.hget(keys.NAMES["progress"], job_id)
        return data.decode() if data else None

    async def jobs(self, wanted: Filter, place: Place, limit: int, queues: Iterable[str] = ()) -> JobPage:
        """A page: running jobs, ready ones in order, scheduled ones by time, then finished ones, newest first."""
        page, looked_at = JobPage(), 0
        sources = await self._sources(wanted, queues)
        for number in range(place.source, len(sources)):
            start = place if number == place.source else Place(number)
            async for batch in sources[number](start):
                looked_at += len(batch)
                jobs = await self._read([job_id for job_id, _ in batch])
                for (_, job), (_, behind) in zip(jobs, batch, strict=True):
                    if job is not None and wanted.fits(job):
                        page.jobs.append(job)
                    if len(page.jobs) == limit:
                        page.next = behind
                        return page
                if looked_at >= MOST_LOOKED_AT:
                    page.next, page.capped = batch[-1][1], True
                    return page
        return page

    async def _sources(self, wanted: Filter, queues: Iterable[str]) -> list[Source]:
        sources: list[Source] = []
        if wanted.status in (None, "processing"):
            sources.append(partial(self._by_time, keys.NAMES["leases"], newest_first=False))
        if wanted.status in (None, "pending"):
            names = [wanted.queue] if wanted.queue else await self.queue_names(queues)
            sources += [partial(self._listed, keys.ready(name, priority)) for name in names for priority in PRIORITIES]
            sources.append(partial(self._by_time, keys.NAMES["schedule"], newest_first=False))
        for status in ("completed", "failed", "cancelled"):
            if wanted.status in (None, status):
                sources.append(partial(self._by_time, keys.NAMES["index"] + status, newest_first=True))
        return sources

    async def _listed(self, key: str, place: Place) -> AsyncIterator[Batch]:
        offset = place.offset
        while ids := await self._client.lrange(key, offset, offset + BATCH - 1):
            yield [(i.decode(), place._replace(offset=offset + n)) for n, i in enumerate(ids, start=1)]
            offset += len(ids)

    async def _by_time(self, key: str, place: Place, *, newest_first: bool) -> AsyncIterator[Batch]:
        """Goes on by score, so that entries that come or go at the front shift nothing."""
        read = self._client.zrevrangebyscore if newest_first else self._client.zrangebyscore
        first, last = ("+inf", "-inf") if newest_first else ("-inf", "+inf")
        while True:
            start = first if place.score is None else place.score
            entries = await read(key, start, last, start=place.offset, num=BATCH, withscores=True)
            if not entries:
                return
            batch = []
            for job_id, score in entries:
                same = place.offset + 1 if score == place.score else 1
                place = place._replace(score=score, offset=same)
                batch.append((job_id.decode(), place))
            yield batch

    async def _read(self, ids: Sequence[str]) -> list[tuple[str, Job | None]]:
        records = await self._client.mget([keys.job(job_id) for job_id in ids])
        return [(job_id, _readable(job_id, record)) for job_id, record in zip(ids, records, strict=True)]

    async def _oldest(self, heads: Sequence[str], now: int) -> float | None:
        if not heads:
            return None
        waiting = [job for _, job in await self._read(heads) if job and job.created_at]
        return max((max(0, now - max(job.created_at, job.run_at or 0)) / 1000 for job in waiting), default=None)

    async def _held(self) -> dict[str, list[str]]:
        held: dict[str, list[str]] = {}
        tokens = await self._client.hgetall(keys.NAMES["running"])
        for job_id, token in tokens.items():
            held.setdefault(token.decode().partition(".")[0], []).append(job_id.decode())
        return held

    async def _rates(self, now: int) -> dict[str, dict[str, float]]:
        slot = now // (SLOT * 1000)
        pipe = self._client.pipeline(transaction=False)
        for back in range(1, RATE_SLOTS + 1):
            pipe.hgetall(keys.NAMES["stats"] + str(slot - back))
        rates: dict[str, dict[str, float]] = {}
        for counts in await pipe.execute():
            for name, number in counts.items():
                queue, _, word = name.decode().partition("|")
                of_queue = rates.setdefault(queue, {})
                of_queue[word] = of_queue.get(word, 0.0) + int(number) / (SLOT * RATE_SLOTS)
        return rates

    async def _parked(self) -> int:
        pipe = self._client.pipeline(transaction=False)
        for task in await self._client.smembers(keys.NAMES["lots"]):
            pipe.llen(keys.NAMES["parked"] + task.decode())
        return sum(await pipe.execute())


def _readable(job_id: str, record: bytes | None) -> Job | None:
    try:
        return parse(job_id, record) if record is not None else None
    except CorruptRecord:
        return None
