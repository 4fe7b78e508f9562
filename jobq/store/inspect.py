"""Inspector: what is in the queue, for people and dashboards. Reads only, bounded, and never used by the hot path."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from jobq.errors import BadRequest
from jobq.job import Status
from jobq.store import keys
from jobq.store.pages import BATCH, PRIORITIES, Filter, JobPage, Place, lots, read_jobs, read_page, text
from jobq.store.statistics import Slot, read_history, read_rates
from jobq.store.store import told

P = ParamSpec("P")
T = TypeVar("T")

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
        return self._names("queues")

    @property
    def tasks(self) -> set[str]:
        return self._names("tasks")

    def _names(self, of: str) -> set[str]:
        """A worker in another language may say anything of itself."""
        names = self.about.get(of)
        return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()

    @property
    def consuming(self) -> bool:
        return consuming(self.about, self.seen_seconds)


@dataclass(frozen=True, slots=True)
class Overview:
    """The numbers of a front page, and what they are the sums of."""

    ready: int
    scheduled: int
    processing: int
    parked: int
    missing: int
    quarantined: int
    finished: dict[str, int]
    rates: dict[str, float]
    queues: list[QueueView]
    workers: list[WorkerView]


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
        workers = await self.workers()
        views = await self._queues(queues, workers)
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
            queues=views,
            workers=workers,
        )

    @telling
    async def history(self, since: int = 0) -> list[Slot]:
        """The last hour in slots of ten seconds, oldest first: whole ones, empty ones too, that began at `since`, ms,
        or later."""
        return await read_history(self._client, await self.now(), since)

    @telling
    async def queue_names(self, known: Iterable[str] = ()) -> list[str]:
        """Queues that were ever submitted to, and `known` ones."""
        stored = await self._client.smembers(keys.NAMES["queues"])
        return sorted({text(name) for name in stored} | set(known))

    @telling
    async def queues(self, known: Iterable[str] = ()) -> list[QueueView]:
        return await self._queues(known, await self.workers())

    async def _queues(self, known: Iterable[str], workers: Iterable[WorkerView]) -> list[QueueView]:
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
        heads = {name: [text(i) for ids in lists[10:] for i in ids] for name, lists in of_queue.items()}
        waited = await self._waited({job_id for ids in heads.values() for job_id in ids}, now)
        rates = await read_rates(self._client, now)
        served: Counter[str] = Counter()
        for worker in workers:
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
        ids = [(text(w), seen) for w, seen in await self._client.zrange(keys.NAMES["workers"], 0, -1, withscores=True)]
        if not ids:
            return []
        now = await self.now()
        about = await self._client.mget([keys.NAMES["worker"] + worker for worker, _ in ids])
        held = await self._held()
        return [
            WorkerView(worker, max(0.0, (now - at) / 1000), _about(said), held.get(worker, []))
            for (worker, at), said in zip(ids, about, strict=True)
            if said is not None
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
        return [{"id": text(i), **{text(k): text(v) for k, v in fields.items()}} for i, fields in entries or ()]

    @telling
    async def progress(self, job_id: str) -> str | None:
        """The last progress of a running job, as it was emitted."""
        data = await self._client.hget(keys.NAMES["progress"], job_id)
        return None if data is None else text(data)

    @telling
    async def running(self, job_id: str) -> tuple[str | None, str | None]:
        """Of a running job: its last progress, as it was emitted, and the reason of a cancel that was asked for."""
        pipe = self._client.pipeline(transaction=False)
        pipe.hget(keys.NAMES["progress"], job_id)
        pipe.hget(keys.NAMES["cancel"], job_id)
        progress, reason = await pipe.execute()
        return (None if progress is None else text(progress)), (None if reason is None else text(reason))

    @telling
    async def jobs(self, wanted: Filter, place: Place, limit: int, queues: Iterable[str] = ()) -> JobPage:
        """A page: running jobs, ready ones in order, scheduled ones by time, parked ones, then those that are over,
        newest first."""
        if not place.began:
            place = place._replace(began=await self.now())
        names = [wanted.queue] if wanted.queue else await self.queue_names(queues)
        return await read_page(self._client, wanted, place, limit, names)

    async def _waited(self, ids: Iterable[str], now: int) -> dict[str, float]:
        """Seconds since each of these jobs became claimable; without those that are not."""
        waited, rest = {}, sorted(ids)
        for start in range(0, len(rest), BATCH):
            for job in await read_jobs(self._client, rest[start : start + BATCH]):
                if job and job.created_at and job.status is Status.PENDING and (job.run_at or 0) <= now:
                    waited[job.job_id] = max(0, now - max(job.created_at, job.run_at or 0)) / 1000
        return waited

    async def _held(self) -> dict[str, list[str]]:
        held: dict[str, list[str]] = {}
        tokens = await self._client.hgetall(keys.NAMES["running"])
        for job_id, token in tokens.items():
            held.setdefault(text(token).partition(".")[0], []).append(text(job_id))
        return held

    async def _parked(self) -> int:
        pipe = self._client.pipeline(transaction=False)
        for task in await lots(self._client):
            pipe.llen(keys.NAMES["parked"] + task)
        return sum(await pipe.execute())


def _about(said: bytes) -> dict[str, Any]:
    try:
        about = json.loads(said)
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}
