"""The work of a round: jobs that are submitted one small group after another while something is being broken."""

from __future__ import annotations

import asyncio
import random
import uuid
from dataclasses import dataclass

from redis.asyncio import Redis

from jobq import Client
from jobq.errors import StoreFull, StoreUnavailable
from jobq.record import parse
from jobq.store import keys
from jobq.task import JobSpec
from tests.chaos.history import History
from tests.chaos.tasks import registry
from tests.support.invariants import leftovers, snapshot

GROUP = 10
"""Jobs a submit."""
LOOK = 0.1
"""Seconds between two looks at whether all jobs are over."""


@dataclass(frozen=True, slots=True)
class Load:
    """`jobs` of `task`, spread over `over` seconds, each of which takes up to `longest`."""

    jobs: int = 200
    over: float = 0.8
    longest: float = 1.0
    task: str = "waits"

    def specs(self, rng: random.Random) -> list[JobSpec[object]]:
        """The same for the same seed."""
        task = registry.require(self.task)
        ids = [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(self.jobs)]
        return [task.job(seconds=rng.uniform(0, self.longest)).with_options(job_id=job_id) for job_id in ids]


async def submit(load: Load, client: Client, history: History, rng: random.Random) -> list[str]:
    """Submit all, each group until it is answered. The ids."""
    specs = load.specs(rng)
    for start in range(0, len(specs), GROUP):
        group = specs[start : start + GROUP]
        await _until_accepted(client, group, history)
        await asyncio.sleep(load.over * len(group) / len(specs))
    return [_id(spec) for spec in specs]


async def _until_accepted(client: Client, group: list[JobSpec[object]], history: History) -> None:
    """A submit with an id of one's own may be repeated for as long as it is not answered."""
    while True:
        try:
            await client.submit_many(group, atomic=True)
        except StoreUnavailable as error:
            for spec in group:
                history.write("refused" if isinstance(error, StoreFull) else "unknown", job=_id(spec))
            await asyncio.sleep(0.05)
        else:
            for spec in group:
                history.write("accepted", job=_id(spec))
            return


def _id(spec: JobSpec[object]) -> str:
    assert spec.options.job_id
    return spec.options.job_id


async def all_over(redis: Redis, job_ids: list[str], patience: float) -> None:
    """Until all are over, or the patience is at its end: the checker then finds what is not."""
    waiting, deadline = job_ids, asyncio.get_running_loop().time() + patience
    while waiting and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(LOOK)
        records = await redis.mget([keys.job(job_id) for job_id in waiting])
        waiting = [
            job_id
            for job_id, record in zip(waiting, records, strict=True)
            if record is None or not parse(job_id, record).status.over
        ]


async def take_down(redis: Redis, job_ids: list[str], since: str, history: History) -> str:
    """Write into the history how each job stands, which ends were announced, and what was left behind.

    `since` is the last announcement of the round before; that of this round is returned.
    """
    for job_id in job_ids:
        record, result = await redis.mget(keys.job(job_id), keys.result(job_id))
        if record is None:
            continue
        job = parse(job_id, record)
        history.write(
            "final", job=job_id, status=job.status.value, attempt=job.attempt, retries=job.retries, lost=job.lost,
            reason=(job.error or {}).get("reason"), result=None if result is None else int(result),
        )  # fmt: skip
    mine = set(job_ids)
    for entry, fields in await redis.xrange(keys.EVENTS, min=f"({since}"):
        since = entry.decode()
        for job_id in fields[b"ids"].decode().split(","):
            if job_id in mine:
                history.write("over", job=job_id, status=fields[b"status"].decode())
    for text in leftovers(await snapshot(redis)):
        history.write("left", text=text)
    return since
