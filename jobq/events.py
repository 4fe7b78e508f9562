"""Waiting for jobs to be over: one reader of `job_events` for all who wait in this process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator

from jobq.store.store import RETRIABLE, FinishedJobs

LONGEST_READ = 0.5
"""Seconds one read of the stream blocks."""
RELOOK = 5.0
"""Seconds after which a waiter looks at its job again, whatever the stream said: it may have been trimmed."""


def server_stops() -> bool:
    """Whether the HTTP server that this process runs, if any, has been told to stop.

    ASGI has no word for that before the last answer is given. But uvicorn handles SIGTERM with a method of its server,
    and the server knows.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True


class Waiters:
    """Wakes those who wait for a job. The reader starts with the first waiter and stays until `close`."""

    def __init__(self, finished: FinishedJobs, stopping: Callable[[], bool] = server_stops) -> None:
        self.released = False
        """True when nobody is to wait any longer, for this process is about to stop."""
        self._finished = finished
        self._stopping = stopping
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._reader: asyncio.Task[None] | None = None
        self._reading = asyncio.Event()
        self._closed = False

    @contextlib.contextmanager
    def watch(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event, set when the job may be over. Look at the job after `ready()`, then wait, then look again."""
        event = asyncio.Event()
        self._waiting[job_id].add(event)
        try:
            yield event
        finally:
            self._waiting[job_id].discard(event)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    async def ready(self) -> None:
        """From when on nothing is missed. Bounded: without a server, waiters fall back to looking again."""
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        if self._reading.is_set():
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._reading.wait(), RELOOK)

    async def close(self) -> None:
        self._closed = True
        self._release()
        if self._reader:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self._finished.close()

    async def _read(self) -> None:
        last: bytes | None = None
        # Not for ever: on Python 3.11 a cancel that meets redis-py's wait_for can get lost.
        while not self._closed:
            if not self.released and self._stopping():
                self._release()
            try:
                if last is None:
                    last = await self._finished.last()
                    self._reading.set()
                    self._wake_all()
                last, ids = await self._finished.after(last, LONGEST_READ)
            except RETRIABLE:
                last = None
                await asyncio.sleep(0.2)
                continue
            for job_id in ids:
                for event in self._waiting.get(job_id, ()):
                    event.set()

    def _release(self) -> None:
        self.released = True
        self._wake_all()

    def _wake_all(self) -> None:
        """After a gap nobody knows what was missed: everybody looks."""
        for events in self._waiting.values():
            for event in events:
                event.set()
