"""The pump: one script call in flight that settles what has finished and claims into the free slots.

While it flies, more outcomes gather, so batches grow by themselves under load and are one job long when idle. Each call
has a number; a call whose reply was lost is repeated under the same number, and then claims nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jobq.errors import StoreUnavailable
from jobq.settings import Settings
from jobq.store.connect import Server
from jobq.store.store import CLAIM_BATCH, RETRIABLE, SETTLE_BATCH, Claim, Pumped, Settlement
from jobq.telemetry import logger

POLL = 0.5
"""Seconds after which an idle worker looks for work without a mark: a foreign producer sets none."""
LONGEST_PAUSE = 1.0
"""Seconds between repeats of a call while the server is away."""


@dataclass(frozen=True, slots=True)
class ServerClock:
    """The server's clock, carried on by our own monotonic one: neither host's wall clock matters."""

    server_ms: int
    monotonic: float

    @classmethod
    def read(cls, server_ms: int) -> ServerClock:
        return cls(server_ms, time.monotonic())

    def now(self) -> int:
        """Integer ms."""
        return self.server_ms + round((time.monotonic() - self.monotonic) * 1000)


class Queues:
    """The order in which queues are asked: strict (`mail,default`), or drawn anew by weight (`mail:3,default:1`)."""

    def __init__(self, names: Sequence[str]) -> None:
        pairs = [name.partition(":") for name in names]
        self.names = [name for name, _, _ in pairs]
        self._weights = [float(weight) for _, _, weight in pairs if weight]

    def order(self) -> str:
        if not self._weights:
            return ",".join(self.names)
        # Efraimidis and Spirakis: sorting by u^(1/w) draws without replacement in proportion to the weights.
        keys = {n: random.random() ** (1 / w) for n, w in zip(self.names, self._weights, strict=True)}  # noqa: S311
        return ",".join(sorted(self.names, key=keys.__getitem__, reverse=True))


class Pump:
    """Owns the traffic of one lane. `start` gets each claim, `written` the token of each outcome that is stored."""

    def __init__(
        self,
        server: Server,
        worker_id: str,
        settings: Settings,
        queues: Queues,
        start: Callable[[Claim, ServerClock], None],
        written: Callable[[str], None],
    ) -> None:
        self._server = server
        self._store = server.lane(settings.lease)
        self._marks = server.marks()
        self._lane = (worker_id, "0")
        self._limits = {"lease": round(settings.lease * 1000), "result_ttl": settings.result_ttl * 1000}
        self._queues = queues
        self._start = start
        self._written = written
        self._seq = 0
        self._held = 0
        self._slots = settings.concurrency
        self._outcomes: list[Settlement] = []
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._more = True
        self._patient = True
        self.claiming = True
        """False: settle only; `run` returns once nothing is held."""
        self.quiet = False
        """True: settle only, but stay."""
        self.last_claim = time.monotonic()
        """When a call last brought a job, by the monotonic clock."""
        self.last_answer = time.monotonic()
        """When the server last answered, or there was nothing to ask of it: an idle worker asks twice a second, one
        that is busy only when a job is over."""

    def report(self, settlement: Settlement) -> None:
        """What came of a claim. It is written with the next call."""
        self._outcomes.append(settlement)
        self._work.set()

    def forget(self) -> None:
        """A claim is not ours any more: its slot is free, there is nothing to write."""
        self._release(1)

    def drain(self) -> None:
        """Claim nothing more."""
        self.claiming = False
        self._work.set()

    def give_up(self) -> None:
        """Do not wait for a server that is away: what is held is left to the reaper."""
        self._patient = False

    async def run(self) -> None:
        """Until drained. Raises StoreUnavailable when it was told to give up and the server is away."""
        marks = asyncio.create_task(self._watch_marks())
        try:
            while self.claiming or self._held:
                await self._until_work()
                await self._call()
        finally:
            self.claiming = False
            marks.cancel()
            await asyncio.gather(marks, return_exceptions=True)
            await self._store.close()
            await self._marks.close()

    async def _until_work(self) -> None:
        if self._outcomes or (self._more and self._free()):
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._work.wait(), POLL)

    async def _call(self) -> None:
        self._work.clear()
        settles = self._outcomes[:SETTLE_BATCH]
        want = self._free(being_settled=len(settles))
        if not settles and not want:
            self.last_answer = time.monotonic()
            return
        self._seq += 1
        pumped = await self._answered(settles, want)
        clock = ServerClock.read(pumped.now)
        self.last_answer = clock.monotonic
        del self._outcomes[: len(settles)]
        if want:
            self._more = len(pumped.claims) == want
        self._held += len(pumped.claims)
        self._release(len(settles))
        if pumped.claims:
            self.last_claim = clock.monotonic
        for settle, verdict in zip(settles, pumped.verdicts, strict=True):
            self._written(settle.token)
            if verdict == "stale":
                logger().warning("outcome refused: the lease had been lost", job_id=settle.job_id)
        for claim in pumped.claims:
            self._accept(claim, clock)

    def _accept(self, claim: Claim, clock: ServerClock) -> None:
        """A reply that comes when we already stop is given back unread."""
        if self.claiming:
            self._start(claim, clock)
        else:
            self.report(Settlement(claim.job_id, claim.token, "release", claim.record.decode("utf-8", "replace")))

    async def _answered(self, settles: Sequence[Settlement], want: int) -> Pumped:
        """Repeats the call under its number until it is answered, or nobody waits any longer."""
        pause = 0.05
        order = self._queues.order()
        while True:
            try:
                return await self._store.pump(self._lane, self._seq, settles, want, queues=order, **self._limits)
            except RETRIABLE as error:
                if not self._patient:
                    raise StoreUnavailable(f"{self._held} jobs could not be settled") from error
                trouble = f"{type(error).__name__}: {error}"[:200]
                logger().warning("the server did not answer, trying again", error=trouble)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                pause = min(LONGEST_PAUSE, pause * 2)
                with contextlib.suppress(Exception):
                    await self._server.revive()

    async def _watch_marks(self) -> None:
        # Not for ever: on Python 3.11 a cancel that meets redis-py's wait_for can get lost.
        while self.claiming:
            if not self._free():
                # A mark taken without a free slot would be missed by a worker that has one.
                self._room.clear()
                await self._room.wait()
            try:
                if await self._marks.wait(self._queues.names, POLL):
                    self._more = True
                    self._work.set()
            except RETRIABLE:
                await asyncio.sleep(POLL)

    def _free(self, being_settled: int = 0) -> int:
        return min(self._slots - self._held + being_settled, CLAIM_BATCH) if self.claiming and not self.quiet else 0

    def _release(self, slots: int) -> None:
        self._held -= slots
        if self._free():
            self._room.set()

    @property
    def held(self) -> int:
        """Claims not yet written off."""
        return self._held
