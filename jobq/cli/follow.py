"""Following jobs to their end, with what they say of their progress."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple

from jobq import Client, Job, JobDetails, Status
from jobq.errors import ResultTimeout
from jobq.http.schemas import Progress

TICK = 0.25
"""Seconds after which a job is looked at again, for its progress."""


class Seen(NamedTuple):
    """A job as it was seen last, and what it said of its progress."""

    job: Job
    progress: str = ""

    def line(self, *, with_id: bool) -> str:
        """For a person: `resize  processing  1 retry  40% reading`."""
        job = self.job
        parts = [job.job_id] if with_id else []
        parts += [job.task, job.status.value]
        if job.retries:
            parts.append("1 retry" if job.retries == 1 else f"{job.retries} retries")
        if job.finished_at and job.started_at:
            parts.append(f"after {(job.finished_at - job.started_at) / 1000:.1f} s")
        return "  ".join([*parts, self.progress] if self.progress else parts)


Show = Callable[[Sequence[Seen]], None]
"""Is given all jobs whenever they have been looked at."""


async def follow(client: Client, job_ids: Sequence[str], limit: float | None, show: Show) -> list[JobDetails]:
    """The jobs once all are over. Raises ResultTimeout, JobNotFound, CorruptRecord."""
    seen: dict[str, Seen] = {}
    deadline = inf if limit is None else time.monotonic() + limit

    async def until_over(job_id: str) -> JobDetails:
        while True:
            left = deadline - time.monotonic()
            # The first look is at once, for there is something to show.
            details = await client.settled(job_id, max(0.0, min(TICK, left)) if job_id in seen else 0.0)
            seen[job_id] = await _look(client, details.job)
            if len(seen) == len(set(job_ids)):
                show([seen[job_id] for job_id in job_ids])
            if details.job.status.over:
                return details
            if left <= 0:
                raise ResultTimeout(f"job {job_id} is not over yet: it goes on")

    followers = [asyncio.ensure_future(until_over(job_id)) for job_id in job_ids]
    try:
        return await asyncio.gather(*followers)
    finally:
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)


async def _look(client: Client, job: Job) -> Seen:
    if job.status is not Status.PROCESSING:
        return Seen(job)
    return Seen(job, progress_text(await client.inspect.progress(job.job_id)))


def progress_text(data: str | None) -> str:
    """What a task emitted as its progress, for people. A worker in another language may have emitted anything."""
    progress = Progress.read(data)
    if progress is None:
        return ""
    fraction = "" if progress.fraction is None else f"{progress.fraction:.0%}"
    return " ".join(part for part in (fraction, progress.message) if part)
