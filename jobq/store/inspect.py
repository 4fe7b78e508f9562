"""Inspector: what is in the queue, for people and dashboards. Reads only, bounded, and never used by the hot path."""

from __future__ import annotations

import asyncio
import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from jobq.errors import BadRequest, CorruptRecord
from jobq.job import Job, Status
from jobq.record import parse
from jobq.store import keys
from jobq.store.store import told

P = ParamSpec("P")
T = TypeVar("T")

PRIORITIES = range(9, -1, -1)
SLOT = 10
"""Seconds of one slot of statistics."""
RATE_SLOTS = 6
"""Whole slots that a rate is taken over: the last minute."""
MOST_LOOKED_AT = 5000
"""Records one page looks at. A filter that matches less than a page by then says so."""
BATCH = 200
HEADS = 10
"""Entries looked at of each list for the one that waits longest: the first may be of a job that is over."""
LONGEST_SILENCE = 10.0
"""Seconds without an answer of the server after which a worker is not taken for one that works."""
EMITTED_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")


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
    """`in`, `completed`, `failed`, `cancelled`, `retried`, `lost`: those that happened."""
    workers: int

    @property
    def depth(self) -> int:
        return sum(self.ready.values())


def consuming(about: Mapping[str, Any], seen_seconds: float) -> bool:
    """Whether a worker that said this of itself so long ago takes jobs and keeps those it has.

    One in another language, or of an older version, need not tell how old its last answers are: being there counts.
    """
    ages = [about.get("pumped_ms", 0), about.get("beat_ms", 0)]
    told = [age for age in ages if isinstance(age, int | float)]
    return about.get("state", "running") == "running" and max(told, default=0) / 1000 + seen_seconds <= LONGEST_SILENCE


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker that was heard of lately, and what it runs."""

    worker: str
    seen_seconds: float
    about: dict[str, Any]
    """What it said of itself: host, pid, queues, concurrency, tasks, started_at, state, pumped_ms, beat_ms."""
    running: list[str]
    """Ids of the jobs it holds."""

    @property
    def queues(self) -> set[str]:
        names = self.about.get("queues")
        return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()

    @property
    def consuming(self) -> bool:
        return consuming(self.about, self.seen_seconds)


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
    """Where a page ended. Only in a list is it a position, which claims shift; elsewhere nothing shifts."""

    source: str = ""
    """Name of the source: sources come and go between pages, and what follows is what sorts behind."""
    began: int = 0
    """When the first page was made, ms. What ended since then was shown before it did, or not at all."""
    score: float | None = None
    """In a source sorted by time: from this score on."""
    offset: int = 0
    """Entries to pass over, of the list or from that score on."""
    after: str = ""
    """In the source sorted by id: behind this one."""


@dataclass(slots=True)
class JobPage:
    jobs: list[Job] = field(default_factory=list)
    next: Place | None = None
    """May turn out to be an empty page."""
    capped: bool = False
    """The page ends early because it looked at MOST_LOOKED_AT records."""


Batch = list[tuple[str, Place]]
"""Ids, each with the place behind it."""


class Source(NamedTuple):
    """One place where jobs are kept."""

    name: str
    read: Callable[[Place], AsyncIterator[Batch]]
    shows: Callable[[Job, int], bool]
    """Whether this is the source that shows this job, and no other, to a reader who began then."""


def _running(job: Job, began: int) -> bool:
    return not _ended(job, began)


def _waiting(job: Job, began: int) -> bool:
    """The list entry of a job that was cancelled, has expired, or runs already stays behind."""
    runs = job.status is Status.PROCESSING and (job.started_at or 0) <= began
    return not runs and not _ended(job, began)


def _ended(job: Job, began: int) -> bool:
    return job.status.over and job.finished_at is not None and job.finished_at <= began


def _over(status: str, job: Job, began: int) -> bool:
    return job.status.value == status


def telling(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Raises our errors in place of redis-py's, and leaves no unread reply behind when it is cancelled."""

    @wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.shield(asyncio.ensure_future(method(*args, **kwargs)))
        except (RedisError, OSError) as error:
            raise told(error) from error

    return call


class Inspector:
    """Over its own client, so that a slow page never delays a job."""

    def __init__(self, client: Redis) -> None:
        # redis-py's types do not tell bytes from text.
        self._client: Any = client

    async def close(self) -> None:
        await self._client.aclose()

    @telling
    async def now(self) -> int:
        seconds, micros = await self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    @telling
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

    @telling
    async def queue_names(self, known: Iterable[str] = ()) -> list[str]:
        """Queues that were ever submitted to, and `known` ones."""
        stored = await self._client.smembers(keys.NAMES["queues"])
        return sorted({_text(name) for name in stored} | set(known))

    @telling
    async def queues(self, known: Iterable[str] = ()) -> list[QueueView]:
        names = await self.queue_names(known)
        now = await self.now()
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            for priority in PRIORITIES:
                pipe.llen(keys.ready(name, priority))
            for priority in PRIORITIES:
                pipe.lrange(keys.ready(name, priority), 0, HEADS - 1)
        pipe.smembers(keys.NAMES["paused"])
        *answers, paused = await pipe.execute()
        of_queue = {name: answers[20 * i : 20 * i + 20] for i, name in enumerate(names)}
        heads = {name: [_text(i) for ids in lists[10:] for i in ids] for name, lists in of_queue.items()}
        waited = await self._waited({job_id for ids in heads.values() for job_id in ids}, now)
        rates = await self._rates(now)
        served: Counter[str] = Counter()
        for worker in await self.workers():
            served.update(worker.queues)
        return [
            QueueView(
                name,
                {priority: depth for priority, depth in zip(PRIORITIES, of_queue[name][:10], strict=True) if depth},
                name.encode() in paused,
                max((waited[job_id] for job_id in heads[name] if job_id in waited), default=None),
                rates.get(name, {}),
                served[name],
            )
            for name in names
        ]

    @telling
    async def workers(self) -> list[WorkerView]:
        ids = [(_text(w), seen) for w, seen in await self._client.zrange(keys.NAMES["workers"], 0, -1, withscores=True)]
        if not ids:
            return []
        now = await self.now()
        about = await self._client.mget([keys.NAMES["worker"] + worker for worker, _ in ids])
        held = await self._held()
        return [
            WorkerView(worker, max(0.0, (now - at) / 1000), _about(text), held.get(worker, []))
            for (worker, at), text in zip(ids, about, strict=True)
            if text is not None
        ]

    @telling
    async def order(self, worker: str, word: str) -> bool:
        """Tell a worker to be `quiet` or to `stop`; it hears it within two seconds. False when it is not there."""
        if not await self._client.exists(keys.NAMES["worker"] + worker):
            return False
        await self._client.set(keys.NAMES["order"] + worker, word, ex=86_400)
        return True

    @telling
    async def emitted(self, job_id: str, after: str = "-", limit: int = 1000) -> list[dict[str, str]]:
        """What the job's attempts emitted after that id, oldest first: id, at, kind, data. Raises BadRequest."""
        if after != "-" and not EMITTED_ID.fullmatch(after):
            raise BadRequest("after: the id of an entry, as 1-7")
        low = after if after == "-" else f"({after}"
        try:
            entries = await self._client.xrange(keys.emitted(job_id), low, "+", count=limit)
        except ResponseError as error:
            if "WRONGTYPE" in str(error)[:64]:
                return []
            raise
        return [{"id": _text(i), **{_text(k): _text(v) for k, v in fields.items()}} for i, fields in entries or ()]

    @telling
    async def progress(self, job_id: str) -> str | None:
        """The last progress of a running job, as it was emitted."""
        data = await self._client.hget(keys.NAMES["progress"], job_id)
        return None if data is None else _text(data)

    @telling
    async def running(self, job_id: str) -> tuple[str | None, str | None]:
        """Of a running job: its last progress, as it was emitted, and the reason of a cancel that was asked for."""
        pipe = self._client.pipeline(transaction=False)
        pipe.hget(keys.NAMES["progress"], job_id)
        pipe.hget(keys.NAMES["cancel"], job_id)
        progress, reason = await pipe.execute()
        return (None if progress is None else _text(progress)), (None if reason is None else _text(reason))

    @telling
    async def jobs(self, wanted: Filter, place: Place, limit: int, queues: Iterable[str] = ()) -> JobPage:
        """A page: running jobs, ready ones in order, scheduled ones by time, parked ones, then those that are over,
        newest first."""
        page, looked_at = JobPage(), 0
        if not place.began:
            place = place._replace(began=await self.now())
        for source in await self._sources(wanted, queues):
            if source.name < place.source:
                continue
            start = place if source.name == place.source else Place(source.name, place.began)
            async for batch in source.read(start):
                looked_at += len(batch)
                jobs = await self._read([job_id for job_id, _ in batch])
                for job, (_, behind) in zip(jobs, batch, strict=True):
                    if job is not None and wanted.fits(job) and source.shows(job, place.began):
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
            sources.append(Source("0", self._held_by_id, _running))
        if wanted.status in (None, "pending"):
            names = [wanted.queue] if wanted.queue else await self.queue_names(queues)
            sources += [
                Source(f"1:{name}:{9 - priority}", partial(self._listed, keys.ready(name, priority)), _waiting)
                for name in names
                for priority in PRIORITIES
            ]
            sources.append(Source("2", partial(self._by_time, keys.NAMES["schedule"], newest_first=False), _waiting))
            for task in await self._lots():
                if wanted.task in (None, task):
                    sources.append(Source(f"3:{task}", partial(self._listed, keys.NAMES["parked"] + task), _waiting))
        for number, status in enumerate(("completed", "failed", "cancelled"), start=4):
            if wanted.status in (None, status):
                read = partial(self._by_time, keys.NAMES["index"] + status, newest_first=True)
                sources.append(Source(f"{number}", read, partial(_over, status)))
        return sorted(sources)

    async def _held_by_id(self, place: Place) -> AsyncIterator[Batch]:
        """By id, for heartbeats move every deadline. What runs at once is what all workers have slots for."""
        ids = sorted(_text(job_id) for job_id in await self._client.hkeys(keys.NAMES["running"]))
        for start in range(bisect_right(ids, place.after), len(ids), BATCH):
            yield [(job_id, place._replace(after=job_id)) for job_id in ids[start : start + BATCH]]

    async def _listed(self, key: str, place: Place) -> AsyncIterator[Batch]:
        offset = place.offset
        while ids := await self._client.lrange(key, offset, offset + BATCH - 1):
            yield [(_text(i), place._replace(offset=offset + n)) for n, i in enumerate(ids, start=1)]
            offset += len(ids)

    async def _by_time(self, key: str, place: Place, *, newest_first: bool) -> AsyncIterator[Batch]:
        """Goes on by score, so that entries that come or go at the front shift nothing."""
        read = self._client.zrevrangebyscore if newest_first else self._client.zrangebyscore
        first, last = (place.began, "-inf") if newest_first else ("-inf", "+inf")
        while True:
            start = first if place.score is None else place.score
            entries = await read(key, start, last, start=place.offset, num=BATCH, withscores=True)
            if not entries:
                return
            batch = []
            for job_id, score in entries:
                same = place.offset + 1 if score == place.score else 1
                place = place._replace(score=score, offset=same)
                batch.append((_text(job_id), place))
            yield batch

    async def _read(self, ids: Sequence[str]) -> list[Job | None]:
        records = await self._client.mget([keys.job(job_id) for job_id in ids])
        return [_readable(job_id, record) for job_id, record in zip(ids, records, strict=True)]

    async def _waited(self, ids: Iterable[str], now: int) -> dict[str, float]:
        """Seconds since each of these jobs became claimable; without those that are not."""
        waited, rest = {}, sorted(ids)
        for start in range(0, len(rest), BATCH):
            for job in await self._read(rest[start : start + BATCH]):
                if job and job.created_at and job.status is Status.PENDING and (job.run_at or 0) <= now:
                    waited[job.job_id] = max(0, now - max(job.created_at, job.run_at or 0)) / 1000
        return waited

    async def _held(self) -> dict[str, list[str]]:
        held: dict[str, list[str]] = {}
        tokens = await self._client.hgetall(keys.NAMES["running"])
        for job_id, token in tokens.items():
            held.setdefault(_text(token).partition(".")[0], []).append(_text(job_id))
        return held

    async def _rates(self, now: int) -> dict[str, dict[str, float]]:
        slot = now // (SLOT * 1000)
        pipe = self._client.pipeline(transaction=False)
        for back in range(1, RATE_SLOTS + 1):
            pipe.hgetall(keys.NAMES["stats"] + str(slot - back))
        totals: dict[str, Counter[str]] = {}
        for counts in await pipe.execute():
            for name, number in counts.items():
                queue, _, word = _text(name).partition("|")
                totals.setdefault(queue, Counter())[word] += int(number)
        seconds = SLOT * RATE_SLOTS
        return {queue: {word: n / seconds for word, n in words.items()} for queue, words in totals.items()}

    async def _parked(self) -> int:
        pipe = self._client.pipeline(transaction=False)
        for task in await self._lots():
            pipe.llen(keys.NAMES["parked"] + task)
        return sum(await pipe.execute())

    async def _lots(self) -> list[str]:
        return [_text(task) for task in await self._client.smembers(keys.NAMES["lots"])]


def _readable(job_id: str, record: bytes | None) -> Job | None:
    """The job, unless the record is none or another job's."""
    try:
        job = parse(job_id, record) if record is not None else None
    except CorruptRecord:
        return None
    return job if job and job.job_id == job_id else None


def _about(text: bytes) -> dict[str, Any]:
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def _text(raw: bytes) -> str:
    """Keys and entries are ours and ASCII, but anybody can push anything."""
    return raw.decode(errors="backslashreplace")
