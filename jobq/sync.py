"""SyncClient: what `Client` does, for code without an event loop.

Each verb is built once, in `Client`: over a store that blocks, its coroutines have nothing to wait for, and `drive`
runs them in the thread that asks. Only waiting for a result is another matter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, overload

from jobq.client import Client, JobDetails, JobHandle
from jobq.errors import StoreUnavailable
from jobq.events import LONGEST_READ, RELOOK
from jobq.job import Job, Status, SubmitOptions
from jobq.settings import Settings
from jobq.store.blocking import connect, drive
from jobq.store.readiness import Readiness
from jobq.store.store import RETRIABLE, FinishedJobs
from jobq.task import JobSpec, Registry
from jobq.telemetry import warn

R = TypeVar("R")

PAUSE = 0.2
"""Seconds before the stream is asked again after the server was away."""


class SyncJobHandle(Generic[R]):
    """A submitted job. `R` is what it returns."""

    def __init__(self, handle: JobHandle[R]) -> None:
        self.job_id = handle.job_id
        self.task = handle.task
        self.created = handle.created
        """False when a job of that id existed already: it is the one meant here."""
        self.replayed = handle.replayed
        """True when this idempotency key had made it before."""
        self._handle = handle

    def __repr__(self) -> str:
        return repr(self._handle)

    def get(self) -> Job:
        """The job as it is now. Raises JobNotFound."""
        return drive(self._handle.get())

    def status(self) -> Status:
        return drive(self._handle.status())

    def result(self, timeout: float | None = None) -> R:
        """What the task returned, waiting up to `timeout` seconds (None: as long as it takes).

        Raises JobFailed or JobCancelled with the remote error, ResultTimeout, ResultExpired, JobNotFound.
        """
        return drive(self._handle.result(timeout))

    def cancel(self, reason: str = "") -> Status:
        """See `SyncClient.cancel`."""
        return drive(self._handle.cancel(reason))

    def retry(self) -> None:
        """See `SyncClient.retry`."""
        drive(self._handle.retry())


class SyncClient:
    """The way in for synchronous Python code. Use it as a context manager, or `open` and `close` it.

    Arguments as for `Client`. Any number of threads may use one. A process that is forked while it is open may use it
    too, over connections of its own. A call takes one of 100 connections, a wait for a result one of 100 others; who
    finds all of them in use waits up to 5 s for one. All methods raise StoreUnavailable when Redis is away.
    """

    def __init__(
        self, url: str | None = None, *, registry: Registry | None = None, settings: Settings | None = None
    ) -> None:
        self._client = _BlockingClient(url, registry, settings)
        self.settings = self._client.settings
        self.registry = registry

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Find the server and see that it answers; when it is open already, nothing. Raises ConfigError."""
        drive(self._client.open())

    def close(self) -> None:
        """Close this process's connections, and end its use of an embedded server."""
        drive(self._client.close())

    @overload
    def submit(self, task: JobSpec[R], /, **options: Unpack[SubmitOptions]) -> SyncJobHandle[R]: ...
    @overload
    def submit(
        self, task: str, payload: Mapping[str, Any] | None = None, /, **options: Unpack[SubmitOptions]
    ) -> SyncJobHandle[Any]: ...
    def submit(self, task: Any, payload: Any = None, /, **options: Unpack[SubmitOptions]) -> SyncJobHandle[Any]:
        """Store one job: `task.job(…)`, or a task's name and its arguments.

        Inside a database transaction, call it after the commit: a worker may be quicker than that.
        Raises BadRequest (UnknownTask, InvalidPayload, PayloadTooLarge among them) and QueueFull: nothing was stored.
        """
        return SyncJobHandle(drive(self._client.submit(task, payload, **options)))

    def submit_many(self, specs: Iterable[JobSpec[R]], *, atomic: bool = False) -> list[SyncJobHandle[R]]:
        """Store many, up to 200 a call. All are checked before the first is stored.

        Raises QueueFull when some found no room (all others are stored), or another StoreUnavailable when it had to
        end early; `stored` and `refused` of the error say which. What got no answer is refused there, and may be
        stored.
        With `atomic` at most 200, in one call: either all are stored or none.
        """
        try:
            return [SyncJobHandle(handle) for handle in drive(self._client.submit_many(specs, atomic=atomic))]
        except StoreUnavailable as error:
            error.stored = [SyncJobHandle(handle) for handle in error.stored]
            raise

    def get(self, job_id: str) -> Job:
        """The job as it is now. Raises JobNotFound, CorruptRecord."""
        return drive(self._client.get(job_id))

    def details(self, job_id: str) -> JobDetails:
        """The job with payload, result and past attempts. Raises JobNotFound, CorruptRecord."""
        return drive(self._client.details(job_id))

    def wait(self, job_id: str, timeout: float | None = None) -> bytes | None:
        """The result as JSON (None for None), once the job is over. Raises as `SyncJobHandle.result`."""
        return drive(self._client.wait(job_id, timeout))

    def cancel(self, job_id: str, reason: str = "") -> Status:
        """Cancel: `cancelled` when it was pending, `processing` when its worker has been asked.

        Raises JobNotFound; Conflict when it is over.
        """
        return drive(self._client.cancel(job_id, reason))

    def retry(self, job_id: str) -> None:
        """Put a failed or cancelled job back into its queue with a fresh retry budget. Raises JobNotFound, Conflict."""
        drive(self._client.retry(job_id))

    def delete(self, job_id: str) -> None:
        """Erase a job with payload and result. Raises JobNotFound; Conflict while it runs."""
        drive(self._client.delete(job_id))

    def pause(self, queue: str) -> None:
        """Claim nothing more from this queue, in any worker, until `resume`. What runs goes on."""
        drive(self._client.pause(queue))

    def resume(self, queue: str) -> None:
        drive(self._client.resume(queue))

    def purge(self, queue: str) -> int:
        """Forget all jobs that are ready in this queue. How many."""
        return drive(self._client.purge(queue))

    def writable(self) -> None:
        """Raise StoreUnavailable unless a submit would be accepted now."""
        drive(self._client.writable())

    def ready(self) -> None:
        """Raise StoreUnavailable unless a submit would be accepted, and by a server that is fit to keep jobs (else it
        is StoreUnfit). It is asked each time."""
        drive(self._client.ready())


class _BlockingClient(Client):
    """`Client` over blocking connections: what it awaits is done by then."""

    def __init__(self, url: str | None, registry: Registry | None, settings: Settings | None) -> None:
        super().__init__(url, registry=registry, settings=settings)
        self._finished: FinishedJobs | None = None

    async def open(self) -> None:
        if self._server is not None:
            return
        server = connect(self.settings)
        warn(server.warnings)
        self._store, self._inspector, self._finished = server.store(), server.inspector(), server.finished()
        self._server = server

    async def close(self) -> None:
        for part in (self._store, self._inspector, self._finished):
            if part is not None:
                await part.close()
        if self._server is not None:
            self._server.close()
        self._server = self._store = self._inspector = self._finished = None

    async def ready(self) -> None:
        wrong = await Readiness(self._open_store, self.settings, lambda _: None).ask()
        if wrong:
            raise wrong

    async def settled(self, job_id: str, timeout: float | None = None) -> JobDetails:
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        events: _Events | None = None
        while True:
            details = await self.details(job_id)
            if details.job.status.over or time.monotonic() >= deadline:
                return details
            # What ends before the stream's place is known is found by the look that follows.
            if events is None:
                events = _Events(self._open_finished)
            else:
                events.wait(job_id, deadline)

    @property
    def _open_finished(self) -> FinishedJobs:
        if self._finished is None:
            raise RuntimeError("the client is not open: use it in a `with` statement, or call open()")
        return self._finished


class _Events:
    """One thread's place in the stream of ends. An error only sends whoever waits to look, and there it is told."""

    def __init__(self, finished: FinishedJobs) -> None:
        self._finished = finished
        self._place = self._newest()

    def wait(self, job_id: str, deadline: float) -> None:
        """Until this job may be over, and in any case no longer than until the deadline or RELOOK."""
        end = min(deadline, time.monotonic() + RELOOK)
        while self._place is not None and (left := end - time.monotonic()) > 0:
            try:
                # Not 0 ms: that would be for ever.
                self._place, ids = drive(self._finished.after(self._place, max(0.001, min(left, LONGEST_READ))))
            except RETRIABLE:
                self._place = None
            else:
                if job_id in ids:
                    return
        if self._place is None:
            time.sleep(max(0.0, min(PAUSE, deadline - time.monotonic())))
            self._place = self._newest()

    def _newest(self) -> bytes | None:
        try:
            return drive(self._finished.last())
        except RETRIABLE:
            return None
