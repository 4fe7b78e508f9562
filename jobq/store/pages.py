"""Pages of jobs, from wherever jobs are kept, while they move. Reads only."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from jobq.errors import CorruptRecord
from jobq.job import Job, Status
from jobq.record import parse
from jobq.store import keys

PRIORITIES = range(9, -1, -1)
MOST_LOOKED_AT = 5000
"""Records one page looks at. A filter that matches less than a page by then says so."""
BATCH = 200
SCHEDULE = "2"
"""Name of the source of jobs that are due later."""


class Filter(NamedTuple):
    """Which jobs a page shows. Times are ms."""

    status: str | None = None
    task: str | None = None
    queue: str | None = None
    created_after: int | None = None
    created_before: int | None = None
    scheduled: bool = False
    """Only those that are due later."""

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


async def read_page(client: Any, wanted: Filter, place: Place, limit: int, queues: Sequence[str]) -> JobPage:
    """From this place, which knows when the reader began."""
    page, looked_at = JobPage(), 0
    for source in await _sources(client, wanted, queues):
        if source.name < place.source:
            continue
        start = place if source.name == place.source else Place(source.name, place.began)
        async for batch in source.read(start):
            looked_at += len(batch)
            jobs = await read_jobs(client, [job_id for job_id, _ in batch])
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


async def read_jobs(client: Any, ids: Sequence[str]) -> list[Job | None]:
    """None in place of what has no readable record of its own."""
    records = await client.mget([keys.job(job_id) for job_id in ids])
    return [_readable(job_id, record) for job_id, record in zip(ids, records, strict=True)]


async def lots(client: Any) -> list[str]:
    """Tasks that jobs are parked for."""
    return [text(task) for task in await client.smembers(keys.NAMES["lots"])]


def text(raw: bytes) -> str:
    """Keys and entries are ours and ASCII, but anybody can push anything."""
    return raw.decode(errors="backslashreplace")


async def _sources(client: Any, wanted: Filter, queues: Sequence[str]) -> list[Source]:
    by_time = partial(_by_time, client, keys.NAMES["schedule"], newest_first=False)
    schedule = Source(SCHEDULE, by_time, _waiting)
    if wanted.scheduled:
        return [schedule]
    sources: list[Source] = []
    if wanted.status in (None, "processing"):
        sources.append(Source("0", partial(_held_by_id, client), _running))
    if wanted.status in (None, "pending"):
        sources += [
            Source(f"1:{name}:{9 - priority}", partial(_listed, client, keys.ready(name, priority)), _waiting)
            for name in queues
            for priority in PRIORITIES
        ]
        sources.append(schedule)
        for task in await lots(client):
            if wanted.task in (None, task):
                sources.append(Source(f"3:{task}", partial(_listed, client, keys.NAMES["parked"] + task), _waiting))
    for number, status in enumerate(("completed", "failed", "cancelled"), start=4):
        if wanted.status in (None, status):
            read = partial(_by_time, client, keys.NAMES["index"] + status, newest_first=True)
            sources.append(Source(f"{number}", read, partial(_over, status)))
    return sorted(sources)


async def _held_by_id(client: Any, place: Place) -> AsyncIterator[Batch]:
    """By id, for heartbeats move every deadline. What runs at once is what all workers have slots for."""
    ids = sorted(text(job_id) for job_id in await client.hkeys(keys.NAMES["running"]))
    for start in range(bisect_right(ids, place.after), len(ids), BATCH):
        yield [(job_id, place._replace(after=job_id)) for job_id in ids[start : start + BATCH]]


async def _listed(client: Any, key: str, place: Place) -> AsyncIterator[Batch]:
    offset = place.offset
    while ids := await client.lrange(key, offset, offset + BATCH - 1):
        yield [(text(i), place._replace(offset=offset + n)) for n, i in enumerate(ids, start=1)]
        offset += len(ids)


async def _by_time(client: Any, key: str, place: Place, *, newest_first: bool) -> AsyncIterator[Batch]:
    """Goes on by score, so that entries that come or go at the front shift nothing."""
    read = client.zrevrangebyscore if newest_first else client.zrangebyscore
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
            batch.append((text(job_id), place))
        yield batch


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


def _readable(job_id: str, record: bytes | None) -> Job | None:
    """The job, unless the record is none or another job's."""
    try:
        job = parse(job_id, record) if record is not None else None
    except CorruptRecord:
        return None
    return job if job and job.job_id == job_id else None
