"""The periodic duties: one runner, and the list. Each is an idempotent script: every worker does them, none leads."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from jobq.errors import StoreUnavailable
from jobq.settings import Settings
from jobq.store.store import Store
from jobq.task import Registry
from jobq.telemetry import logger
from jobq.worker.leases import LONGEST_BEAT

FULL = 100
"""What one call of a maintenance script does at most: so many mean that there may be more."""
PATIENCE = 10_000
"""Ms for which a listed id may be without a record: a producer may push first."""
STEP = 5
"""Ms that a step of the scrubber takes of the server."""
PACE = 400
"""Ms between two of its steps, whichever worker makes them."""


@dataclass(frozen=True, slots=True)
class Duty:
    """`work` is done every `every` seconds and answers how much it found."""

    name: str
    every: float
    work: Callable[[], Awaitable[int]]


async def keep(duty: Duty) -> None:
    """Do this duty for ever, again at once while it is full, and out of step with other workers."""
    while True:
        await asyncio.sleep(duty.every * random.uniform(0.9, 1.1))  # noqa: S311
        try:
            while await duty.work() >= FULL:
                pass
        except StoreUnavailable as error:
            logger().debug("duty put off", duty=duty.name, error=str(error))
        except Exception:
            logger().exception("duty failed", duty=duty.name)


class ReapGuard:
    """When a reaper may act: not while leases may have run out for want of a heartbeat that could be written.

    It waits one lease after the server's start, after a jump of the server's clock against our monotonic one, and
    after a call that took more than a second. A fresh process cannot know of a jump just before its first look, so it
    waits until heartbeats have come since. In seconds.
    """

    JUMP = 1.0

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._fresh = min(lease / 3, LONGEST_BEAT) + 0.5
        self._offset: float | None = None
        self._run = ""
        self._not_before = 0.0
        self._blind = False

    def unanswered(self) -> None:
        """A reading failed, and so may heartbeats have: until one succeeds again, nobody knows."""
        self._blind = True

    def allows(self, monotonic: float, server: float, uptime: float, run: str, took: float) -> bool:
        """Judge by a reading of the server's clock, uptime and run that `took` so long and ended at `monotonic`."""
        offset, before = server - monotonic, self._offset
        restarted, self._offset, self._run = run != self._run, offset, run
        blind, self._blind = self._blind, False
        if blind or took > self.JUMP or (before is not None and (restarted or abs(offset - before) > self.JUMP)):
            self._not_before = monotonic + self._lease
        elif before is None:
            # The uptime goes by the server's clock: below zero, that was set back, and the start may be just over.
            wait = self._lease - max(uptime, 0.0)
            self._not_before = monotonic + max(wait, self._fresh)
        return monotonic >= self._not_before


class Duties:
    """What keeps the queue going besides running jobs."""

    def __init__(self, store: Store, settings: Settings, queues: Sequence[str], registry: Registry) -> None:
        self._store = store
        self._settings = settings
        self._queues = queues
        self._tasks = registry.names()
        self._guard = ReapGuard(settings.lease)

    def all(self) -> list[Duty]:
        return [
            Duty("stage", 0.25, self._store.stage),
            Duty("missing", 0.5, self.missing),
            Duty("reap", 0.5, self.reap),
            Duty("scrub", 0.5, self.scrub),
            Duty("expire", 1.0, self._store.expire),
            Duty("unpark", 1.0, self.unpark),
            Duty("prune", 5.0, self.prune),
        ]

    async def missing(self) -> int:
        given_up = await self._store.missing(PATIENCE)
        if given_up:
            logger().error("listed ids without a record, set aside", job_ids=given_up)
        return len(given_up)

    async def reap(self) -> int:
        began = time.monotonic()
        try:
            uptime, server_ms, run = await self._store.uptime()
            now = time.monotonic()
            allowed = self._guard.allows(now, server_ms / 1000, uptime, run, now - began)
            # A call that was held up on its way does nothing: so were heartbeats. One that may do nothing is made all
            # the same: it shows whether writes are refused.
            latest = server_ms + round(self._guard.JUMP * 1000) if allowed else 0
            reaped = await self._store.reap(self._settings.max_lost, latest)
        except StoreUnavailable:
            self._guard.unanswered()
            raise
        if time.monotonic() - now > self._guard.JUMP:
            self._guard.unanswered()
        for job_id, status in reaped:
            logger().warning("lease ran out", job_id=job_id, now=status)
        return len(reaped)

    async def scrub(self) -> int:
        """Not guarded: it ends no lease that somebody holds."""
        repaired = defaultdict(list)
        for job_id, what in await self._store.scrub(STEP, round(self._settings.lease * 1000), PACE):
            repaired[what].append(job_id)
        for what, job_ids in repaired.items():
            logger().warning("records and indexes disagreed", repaired=what, count=len(job_ids), job_ids=job_ids[:FULL])
        return 0

    async def unpark(self) -> int:
        if not self._tasks:
            return 0
        # Not called again at once: what another worker parks again must not become a loop.
        await self._store.unpark(self._queues, self._tasks)
        return 0

    async def prune(self) -> int:
        most = 0
        for status, age in (
            ("completed", self._settings.retention),
            ("failed", self._settings.retention_failed),
            ("cancelled", self._settings.retention_failed),
        ):
            min_age = self._settings.result_ttl if status == "completed" else 0
            pruned = await self._store.prune(
                status, max(age, min_age) * 1000, self._settings.max_finished, min_age * 1000
            )
            most = max(most, pruned)
        return most
