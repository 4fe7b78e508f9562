"""Readiness: would a submit be accepted now, by a server that is fit for it? One call serves all who ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from uuid import uuid4

from jobq.errors import StoreUnavailable, StoreUnfit
from jobq.settings import Settings
from jobq.store.checks import examine, refused
from jobq.store.store import Store

FRESH = 2.0
"""Seconds for which a yes is believed."""
BAD = 0.25
"""Seconds for which a no is: whoever waits for the start asks often."""
ALARM = 60.0
"""Seconds for which data that was lost keeps us from being ready. Then what there is now is what there is: nothing
comes back by itself, and a service that stays away for good would be a second fault."""


class Readiness:
    """Of one process. `alarm` is told once of everything that makes it unready, but not of a server that is away."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        alarm: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._settings = settings
        self._alarm = alarm
        self._clock = clock
        self._lock = asyncio.Lock()
        self._asked_again_at = 0.0
        self._wrong: StoreUnavailable | None = None
        self._epoch: str | None = None
        self._lost_until = 0.0
        self._told = ""

    async def check(self) -> None:
        """Raises StoreUnavailable with the one reason, StoreUnfit when waiting alone does not help."""
        async with self._lock:
            if self._clock() >= self._asked_again_at:
                self._wrong = await self.ask()
                self._asked_again_at = self._clock() + (BAD if self._wrong else FRESH)
        if self._wrong:
            # Each raise adds to a traceback: that of a shared error would grow.
            raise self._wrong.with_traceback(None)

    async def ask(self) -> StoreUnavailable | None:
        """What is wrong right now."""
        try:
            await self._store.writable()
            await self._look_at_epoch()
            finding = refused(examine(await self._store.facts(), self._settings, "redis-cli …"), self._settings)
        except StoreUnavailable as error:
            return error
        reason = finding.line if finding else ""
        if self._clock() < self._lost_until:
            reason = "the server has lost all that it held: somebody flushed it, or it started without its data"
        if reason and reason != self._told:
            self._alarm(reason)
        self._told = reason
        return StoreUnfit(reason) if reason else None

    async def _look_at_epoch(self) -> None:
        """A name that whoever comes first writes beside the data: when it is gone, so are they."""
        epoch = await self._store.epoch(uuid4().hex)
        if epoch and self._epoch and epoch != self._epoch:
            self._lost_until = self._clock() + ALARM
        self._epoch = epoch or self._epoch
