"""Client: submit jobs, look at them, wait for results, cancel and retry."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, overload

import uuid_utils

from jobq.errors import (
    BadRequest,
    Conflict,
    CorruptRecord,
    IdempotencyMismatch,
    JobCancelled,
    JobFailed,
    JobNotFound,
    QueueFull,
    ResultExpired,
    ResultTimeout,
    StoreUnavailable,
)
from jobq.events import RELOOK, Waiters
from jobq.job import DEFAULT_QUEUE, UUID, Job, Status, SubmitOptions
from jobq.policy import cancelled
from jobq.record import inline_payload, is_canonical, parse
from jobq.settings import NAME, Settings
from jobq.store.connect import Server, connect
from jobq.store.inspect import Inspector
from jobq.store.readiness import Readiness
from jobq.store.store import SUBMIT_BATCH, FinishedJobs, Store, Submission
from jobq.task import JobSpec, Registry, check_size
from jobq.telemetry import logger, warn

R = TypeVar("R")
T = TypeVar("T")

SUBMIT_BYTES = 512 * 1024
"""Payload bytes that go to the server in one call at most."""
NOT_OPEN = "the client is not open: use it in a `with` statement, or call open()"


@dataclass(frozen=True, slots=True)
class JobDetails:
    """A job with all that is kept of it. Payload and result are JSON as it was given; None where there is none."""

    job: Job
    payload: bytes | None
    result: bytes | None
    attempts: list[dict[str, Any]]
    """Past attempts, oldest first; the last attempt is in the job itself."""


class JobHandle(Generic[R]):
    """A submitted job. `R` is what it returns."""

    def __init__(self, client: Client, job_id: str, spec: JobSpec[R], *, created: bool, replayed: bool = False) -> None:
        self.job_id = job_id
        self.task = spec.task
        self.created = created
        """False when a job of that id existed already: it is the one meant here."""
        self.replayed = replayed
        """True when this idempotency key had made it before."""
        self._client = client
        self._definition = spec.definition

    def __repr__(self) -> str:
        return f"<job {self.job_id} {self.task}>"

    async def get(self) -> Job:
        """The job as it is now. Raises JobNotFound."""
        return await self._client.get(self.job_id)

    async def status(self) -> Status:
        return (await self.get()).status

    async def result(self, timeout: float | None = None) -> R:
        """What the task returned, waiting up to `timeout` seconds (None: as long as it takes).

        Raises JobFailed or JobCancelled with the remote error, ResultTimeout, ResultExpired, JobNotFound.
        """
        result = await self._client.wait(self.job_id, timeout)
        if self._definition is not None:
            return self._definition.load_result(result)
        value: R = json.loads(result or b"null")
        return value

    async def cancel(self, reason: str = "") -> Status:
        """See `Client.cancel`."""
        return await self._client.cancel(self.job_id, reason)

    async def retry(self) -> None:
        """See `Client.retry`."""
        await self._client.retry(self.job_id)


class Client:
    """The way in for Python code. Open it with `async with`; it belongs to one event loop.

    `Client()` means the server of the settings, `Client("redis://…")` that server. With a registry, names and payloads
    are checked here; without one any legal task name is taken. All methods raise StoreUnavailable when Redis is away.
    """

    def __init__(
        self, url: str | None = None, *, registry: Registry | None = None, settings: Settings | None = None
    ) -> None:
        base = settings or Settings.load()
        self.settings = base.model_copy(update={"redis_url": url}) if url else base
        self.registry = registry
        self._server: Server | None = None
        self._store: Store | None = None
        self._waiters: Waiters | None = None
        self._inspector: Inspector | None = None
        self._readiness: Readiness | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Find the server and see that it answers. Raises ConfigError."""
        self._server = await connect(self.settings)
        warn(self._server.warnings)
        self.attach(self._server.store(), self._server.finished(), self._server.inspector())

    def attach(self, store: Store, finished: FinishedJobs, inspector: Inspector | None = None) -> None:
        """Use these instead of opening a server's."""
        self._store, self._waiters, self._inspector = store, Waiters(finished), inspector
        self._readiness = Readiness(store, self.settings, _alarm)

    async def close(self) -> None:
        if self._waiters:
            await self._waiters.close()
        if self._store:
            await self._store.close()
        if self._inspector:
            await self._inspector.close()
        if self._server:
            await asyncio.to_thread(self._server.close)
        self._server = self._store = self._waiters = self._inspector = self._readiness = None

    @property
    def is_open(self) -> bool:
        return self._store is not None

    @property
    def server(self) -> Server | None:
        """The server behind it, once open."""
        return self._server

    @overload
    async def submit(self, task: JobSpec[R], /, **options: Unpack[SubmitOptions]) -> JobHandle[R]: ...
    @overload
    async def submit(
        self, task: str, payload: Mapping[str, Any] | None = None, /, **options: Unpack[SubmitOptions]
    ) -> JobHandle[Any]: ...
    async def submit(
        self, task: str | JobSpec[Any], payload: Mapping[str, Any] | None = None, /, **options: Unpack[SubmitOptions]
    ) -> JobHandle[Any]:
        """Store one job: `task.job(…)`, or a task's name and its arguments.

        Raises BadRequest (UnknownTask, InvalidPayload, PayloadTooLarge among them) and QueueFull: nothing was stored.
        """
        spec = task if isinstance(task, JobSpec) else self.spec(task, payload)
        return (await self.submit_many([spec.with_options(**options) if options else spec]))[0]

    async def submit_many(self, specs: Iterable[JobSpec[R]], *, atomic: bool = False) -> list[JobHandle[R]]:
        """Store many, up to 200 a call. All are checked before the first is stored.

        Raises QueueFull when some found no room (all others are stored), or another StoreUnavailable when it had to
        end early; `stored` and `refused` of the error say which. What got no answer is refused there, and may be
        stored.
        With `atomic` at most 200, in one call: either all are stored or none.
        """
        planned = [(spec, self._row(spec)) for spec in specs]
        if atomic and len(planned) > SUBMIT_BATCH:
            raise BadRequest(f"at most {SUBMIT_BATCH} jobs can be stored all or nothing")
        handles: list[JobHandle[R]] = []
        refused: list[int] = []
        for batch in [planned] if atomic else _batches(planned):
            done = len(handles) + len(refused)
            try:
                rows = [row for _, row in batch]
                verdicts = await self._open_store.submit(rows, self.settings.max_queued, atomic=atomic)
            except StoreUnavailable as error:
                error.stored, error.refused = handles, [*refused, *range(done, len(planned))]
                raise
            for place, ((spec, row), verdict) in enumerate(zip(batch, verdicts, strict=True), done):
                if verdict == "full":
                    refused.append(place)
                else:
                    handles.append(self._handle(spec, row, verdict))
        if refused:
            raise self._queue_full(planned[refused[0]][1].queue, handles, refused)
        return handles

    def _queue_full(self, queue: str, handles: list[JobHandle[R]], refused: list[int]) -> QueueFull:
        most = self.settings.max_queued
        error = QueueFull(f"queue {queue} is full: {most} jobs or more are ready in it (JOBQ_MAX_QUEUED); try later")
        error.stored, error.refused = handles, refused
        return error

    def spec(self, task: str, payload: Mapping[str, Any] | bytes | None = None) -> JobSpec[Any]:
        """A request by name. Bytes are JSON, kept as they are."""
        if not isinstance(task, str) or not NAME.fullmatch(task):
            raise BadRequest(f"task: must match {NAME.pattern}")
        text = payload if isinstance(payload, bytes) else _to_json(payload)
        check_size(text)
        known = self.registry.get(task) if self.registry is not None else None
        if known is not None:
            return known.spec(text)
        if self.registry is not None and self.settings.unknown_tasks == "reject":
            self.registry.require(task)
        return JobSpec(task, text)

    async def get(self, job_id: str) -> Job:
        """The job as it is now. Raises JobNotFound, CorruptRecord."""
        return parse(job_id, await self._record(job_id))

    async def details(self, job_id: str) -> JobDetails:
        """The job with payload, result and past attempts. Raises JobNotFound, CorruptRecord."""
        stored = await self._open_store.stored(check_id(job_id))
        if stored is None:
            raise JobNotFound(f"no job {job_id}")
        job = parse(job_id, stored.record)
        payload = stored.payload if stored.payload is not None else inline_payload(job) or None
        return JobDetails(job, payload, stored.result, [json.loads(line) for line in stored.attempts])

    async def wait(self, job_id: str, timeout: float | None = None) -> bytes | None:
        """The result as JSON (None for None), once the job is over. Raises as `JobHandle.result`."""
        details = await self.settled(job_id, timeout)
        if not details.job.status.over:
            raise ResultTimeout(f"job {job_id} is not over yet")
        return outcome(details)

    async def settled(self, job_id: str, timeout: float | None = None) -> JobDetails:
        """The job once it is over; or as it is when the time is up, or when this process is about to stop.

        Raises JobNotFound, CorruptRecord.
        """
        clock, waiters = asyncio.get_running_loop().time, self._open_waiters
        deadline = inf if timeout is None else clock() + timeout
        with waiters.watch(job_id) as changed:
            await waiters.ready()
            while True:
                changed.clear()
                details = await self.details(job_id)
                left = deadline - clock()
                if details.job.status.over or left <= 0 or waiters.released:
                    return details
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(left, RELOOK))

    async def cancel(self, job_id: str, reason: str = "") -> Status:
        """Cancel: `cancelled` when it was pending, `processing` when its worker has been asked.

        Raises JobNotFound; Conflict when it is over.
        """
        reason = reason[:500]
        verdict, status = await self._open_store.cancel(check_id(job_id), reason, cancelled(reason).text())
        if verdict == "foreign":
            await self._adopt(job_id)
            verdict, status = await self._open_store.cancel(job_id, reason, cancelled(reason).text())
        _raise_for(verdict, status, job_id, "cancelled")
        return Status(status)

    async def retry(self, job_id: str) -> None:
        """Put a failed or cancelled job back into its queue with a fresh retry budget. Raises JobNotFound, Conflict."""
        record = await self._record(job_id)
        if not is_canonical(record):
            record = await self._adopt(job_id)
        job = parse(job_id, record)
        if job.status not in (Status.FAILED, Status.CANCELLED):
            _raise_for("state", job.status, job_id, "retried")
        _raise_for(*await self._open_store.retry(job_id, job.attempt), job_id, "retried")

    async def delete(self, job_id: str) -> None:
        """Erase a job with payload and result. Raises JobNotFound; Conflict while it runs."""
        verdict, status = await self._open_store.delete(check_id(job_id))
        _raise_for(verdict, status, job_id, "deleted")

    async def pause(self, queue: str) -> None:
        """Claim nothing more from this queue, in any worker, until `resume`. What runs goes on."""
        await self._open_store.pause(check_queue(queue))

    async def resume(self, queue: str) -> None:
        await self._open_store.resume(check_queue(queue))

    async def purge(self, queue: str) -> int:
        """Forget all jobs that are ready in this queue. How many."""
        check_queue(queue)
        total = 0
        while purged := await self._open_store.purge(queue):
            total += purged
        return total

    @property
    def inspect(self) -> Inspector:
        """What is in the queue, for people."""
        if self._inspector is None:
            raise RuntimeError(NOT_OPEN)
        return self._inspector

    async def writable(self) -> None:
        """Raise StoreUnavailable unless a submit would be accepted now."""
        await self._open_store.writable()

    async def ready(self) -> None:
        """Raise StoreUnavailable unless a submit would be accepted, and by a server that is fit to keep jobs (else it
        is StoreUnfit). A yes is believed for two seconds; all who ask meanwhile share it. What is unfit is logged."""
        if self._readiness is None:
            raise RuntimeError(NOT_OPEN)
        await self._readiness.check()

    async def _record(self, job_id: str) -> bytes:
        record = await self._open_store.record(check_id(job_id))
        if record is None:
            raise JobNotFound(f"no job {job_id}")
        return record

    async def _adopt(self, job_id: str) -> bytes:
        """Bring a foreign record that nobody runs into canonical form."""
        record = await self._record(job_id)
        text = parse(job_id, record).text()
        await self._open_store.adopt(job_id, "", record, text)
        return text.encode()

    def _handle(self, spec: JobSpec[R], row: Submission, verdict: str) -> JobHandle[R]:
        word, _, known_id = verdict.partition(":")
        if word == "mismatch":
            raise IdempotencyMismatch("this idempotency key came with another request before")
        if word == "replay":
            # Its own id answers a call whose first reply was lost.
            replayed = known_id != row.job_id
            return JobHandle(self, known_id, spec, created=not replayed, replayed=replayed)
        # Without an id of the caller's own, `repeat` answers a call whose first reply was lost.
        return JobHandle(self, row.job_id, spec, created=word == "ok" or spec.options.job_id is None)

    def _row(self, spec: JobSpec[Any]) -> Submission:
        options = spec.options
        queue = options.queue or (spec.definition.defaults.queue if spec.definition else DEFAULT_QUEUE)
        job_id = options.job_id or str(uuid_utils.uuid7())
        row = Submission(
            job_id, spec.task, queue, options.priority, options.due(), options.expires(), options.tail(), spec.payload
        )
        if options.idempotency_key is None:
            return row
        # What was asked, without the id that is new each time.
        asked = repr(row._replace(job_id=options.job_id or "")).encode()
        return row._replace(idem=_digest(options.idempotency_key.encode()), body=_digest(asked))

    @property
    def _open_store(self) -> Store:
        if self._store is None:
            raise RuntimeError(NOT_OPEN)
        return self._store

    @property
    def _open_waiters(self) -> Waiters:
        if self._waiters is None:
            raise RuntimeError(NOT_OPEN)
        return self._waiters


def _alarm(reason: str) -> None:
    logger().error("the server is not fit for use", reason=reason)


def check_id(job_id: str) -> str:
    """The id, or BadRequest: nothing but a canonical UUID reaches a key."""
    if not UUID.fullmatch(job_id):
        raise BadRequest("job_id: a UUID in lower case")
    return job_id


def check_queue(queue: str) -> str:
    """The name, or BadRequest."""
    if not NAME.fullmatch(queue):
        raise BadRequest(f"queue: must match {NAME.pattern}")
    return queue


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def outcome(details: JobDetails) -> bytes | None:
    """The result of a job that is over, or the error it ended with."""
    job, error = details.job, details.job.error or {}
    if job.status is Status.COMPLETED:
        if details.result is None and '"result_bytes":' in job.tail:
            raise ResultExpired(f"the result of job {job.job_id} is no longer kept")
        return details.result
    kind = JobCancelled if job.status is Status.CANCELLED else JobFailed
    raise kind(
        error.get("message", job.status.value),
        type=error.get("type", ""),
        traceback=error.get("traceback", ""),
        reason=error.get("reason", ""),
    )


def _raise_for(verdict: str, status: str, job_id: str, done: str) -> None:
    match verdict:
        case "ok" | "repeat" | "requested":
            return
        case "missing":
            raise JobNotFound(f"no job {job_id}")
        case "state":
            raise Conflict(f"job {job_id} is {status} and cannot be {done}", status)
        case _:
            raise CorruptRecord(f"the record of job {job_id} is unreadable")


def _to_json(payload: Mapping[str, Any] | None) -> bytes:
    if not payload:
        return b""
    try:
        return json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise BadRequest(f"payload: not JSON ({error})") from None


def _batches(planned: list[tuple[JobSpec[R], Submission]]) -> Iterator[list[tuple[JobSpec[R], Submission]]]:
    batch: list[tuple[JobSpec[R], Submission]] = []
    size = 0
    for entry in planned:
        if batch and (len(batch) == SUBMIT_BATCH or size + len(entry[1].payload) > SUBMIT_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += len(entry[1].payload)
    if batch:
        yield batch
