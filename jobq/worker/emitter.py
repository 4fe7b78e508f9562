"""Sends what attempts tell to the store, without ever holding one up. What cannot be sent is dropped."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from jobq.job import Job
from jobq.store.store import Store
from jobq.telemetry import logger
from jobq.worker.capture import Entries

INTERVAL = 0.2
"""Seconds between two calls for a job."""
LONGEST_FINISH = 1.0
"""Seconds that the last entries of an attempt may take before it is settled without them."""
ROWS = 100
CALLS = 16
"""In flight at once."""


class Log(Entries):
    """What one attempt tells."""

    def __init__(self, emitter: Emitter, job: Job, token: str) -> None:
        super().__init__()
        self.job = job
        self.token = token
        self.number = 0
        """Of the last entry that was sent, within the attempt."""
        self.told = False
        self.sending = asyncio.Lock()
        self._emitter = emitter

    def wake(self) -> None:
        self.told = True
        self._emitter.mark(self)


class Emitter:
    """Of one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._marked: list[Log] = []
        self._wake = asyncio.Event()
        self._calls = asyncio.Semaphore(CALLS)

    def open(self, job: Job, token: str) -> Log:
        """For an attempt that begins."""
        return Log(self, job, token)

    def mark(self, log: Log) -> None:
        """It has something to send. Called in any thread."""
        with suppress(RuntimeError):  # the loop is closed: a thread has outlived its worker
            self._loop.call_soon_threadsafe(self._note, log)

    async def finish(self, log: Log) -> None:
        """Send the last entries of an attempt; what it tells later is dropped."""
        log.closed = True
        if log.told:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._send(log), LONGEST_FINISH)

    async def run(self) -> None:
        """Send what is marked, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            marked, self._marked = self._marked, []
            await asyncio.gather(*map(self._send, marked))
            await asyncio.sleep(INTERVAL)

    def _note(self, log: Log) -> None:
        self._marked.append(log)
        self._wake.set()

    async def _send(self, log: Log) -> None:
        async with self._calls, log.sending:  # entries taken first are written first
            entries = log.take()
            for start in range(0, len(entries), ROWS):
                rows = [(log.number + n, *entry) for n, entry in enumerate(entries[start : start + ROWS], 1)]
                log.number += len(rows)
                try:
                    await self._store.emit(log.job.job_id, log.token, log.job.attempt, rows)
                except Exception as error:  # whatever it is, it is not worth a job
                    logger().debug("log of a job dropped", job_id=log.job.job_id, entries=len(rows), error=str(error))
