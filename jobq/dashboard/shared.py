"""What many viewers look at is read once for all of them, and not at all when nobody looks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

from jobq.client import Client
from jobq.store.inspect import Overview, QueueView, WorkerView
from jobq.store.pages import Filter, JobPage, Place
from jobq.store.statistics import HISTORY, Slot

T = TypeVar("T")

FRESH = 1.0
"""Seconds for which an answer stands for all who ask."""
PAGE = 50
FAILURES = 5
"""The latest ones, on the front page."""
SHORTEST = 30
"""Slots of a chart: five minutes, also of a service that has just begun."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The numbers of all pages, as of one moment."""

    at: int
    """The server's ms."""
    overview: Overview
    history: list[Slot]
    """For the chart: without the time before anything happened."""

    @property
    def queues(self) -> list[QueueView]:
        return self.overview.queues

    @property
    def workers(self) -> list[WorkerView]:
        return self.overview.workers

    @property
    def counts(self) -> dict[str, int]:
        """Jobs by status; those that are scheduled are among the pending ones."""
        now = self.overview
        pending = now.ready + now.scheduled + now.parked
        return {"pending": pending, "scheduled": now.scheduled, "processing": now.processing, **now.finished}

    @property
    def total(self) -> int:
        return sum(self.counts.values()) - self.overview.scheduled

    @property
    def paused(self) -> int:
        """Ready jobs that nobody may claim."""
        return sum(queue.depth for queue in self.queues if queue.paused)

    @property
    def slots(self) -> int:
        return sum(slots(worker) for worker in self.workers)

    @property
    def longest_waiting(self) -> QueueView | None:
        waiting = [queue for queue in self.queues if queue.oldest_seconds is not None]
        return max(waiting, key=lambda queue: queue.oldest_seconds or 0, default=None)

    @property
    def failing(self) -> float | None:
        """Of what ended in the last minute, how much failed; None when nothing ended."""
        failed = self.overview.rates.get("failed", 0.0)
        ended = failed + self.overview.rates.get("completed", 0.0)
        return failed / ended if ended else None

    @property
    def seconds_to_drain(self) -> float | None:
        """At the rate of the last minute, if that is enough to get there."""
        rates = self.overview.rates
        net = sum(rates.get(word, 0.0) for word in ("completed", "failed", "cancelled")) - rates.get("in", 0.0)
        left = self.overview.ready - self.paused
        return left / net if left and net > 0 else None


class Shared:
    """One for each client. An answer younger than a second serves again."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._answers: dict[Hashable, tuple[float, asyncio.Task[Any]]] = {}
        self._history: list[Slot] = []

    async def snapshot(self) -> Snapshot:
        return await self._once("snapshot", self._snapshot())

    async def jobs(self, wanted: Filter, place: Place) -> JobPage:
        page = self.client.inspect.jobs(wanted, place, PAGE, self.known_queues())
        return await self._once((wanted, place), page)

    async def failures(self) -> JobPage:
        page = self.client.inspect.jobs(Filter("failed"), Place(), FAILURES)
        return await self._once("failures", page)

    def forget(self) -> None:
        """Something was changed here: whoever changed it wants to see it."""
        self._answers.clear()

    def known_queues(self) -> list[str]:
        return self.client.registry.queues() if self.client.registry is not None else []

    def known_tasks(self) -> list[str]:
        return self.client.registry.names() if self.client.registry is not None else []

    async def _once(self, key: Hashable, read: Coroutine[Any, Any, T]) -> T:
        now = monotonic()
        # Also one that takes longer stays, so that no reader overtakes another.
        self._answers = {k: (at, t) for k, (at, t) in self._answers.items() if now - at < FRESH or not t.done()}
        if key in self._answers:
            read.close()
        else:
            self._answers[key] = now, asyncio.ensure_future(read)
        answer: T = await asyncio.shield(self._answers[key][1])
        return answer

    async def _snapshot(self) -> Snapshot:
        inspect, known = self.client.inspect, self.known_queues()
        now, overview, history = await asyncio.gather(
            inspect.now(),
            inspect.overview(known),
            # A slot that is over stays as it is: each is read once.
            inspect.history(self._history[-1].at + 1 if self._history else 0),
        )
        overview.workers.sort(key=lambda worker: (str(worker.about.get("started_at", "")), worker.worker))
        self._history = [*self._history, *history][-HISTORY:]
        return Snapshot(now, overview, _begun(self._history))


def _begun(history: list[Slot]) -> list[Slot]:
    begun = next((n for n, slot in enumerate(history) if slot.counts), len(history))
    return history[max(0, min(begun, len(history) - SHORTEST)) :]


def slots(worker: WorkerView) -> int:
    """What it says it has. Another version of it may say it otherwise, or not at all."""
    number = worker.about.get("concurrency")
    return number if isinstance(number, int) else 0
