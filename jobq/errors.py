"""Every error jobq raises on purpose.

    JobqError
    ├── ConfigError           what the operator has to change; one line, shown without a traceback
    ├── BadRequest            what the caller has to change
    │   ├── UnknownTask
    │   ├── InvalidPayload
    │   ├── IdempotencyMismatch
    │   ├── PayloadTooLarge
    │   └── ResultInvalid     a task returned what cannot be stored
    ├── JobNotFound
    │   └── ResultExpired     the job is known, its result no longer
    ├── Conflict              the job is in a state that does not allow this
    ├── JobFailed             the job is over without a result
    │   └── JobCancelled
    ├── ResultTimeout         not over yet (also a TimeoutError)
    ├── CorruptRecord         somebody else wrote something unreadable under the job's key
    └── StoreUnavailable      Redis does not answer, or refuses writes
        ├── StoreFull
        ├── StoreUnfit        it would lose jobs, or has lost them
        └── QueueFull         this queue takes no more for now

Each carries the HTTP status and the problem slug under which the HTTP side reports it (RFC 9457).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class JobqError(Exception):
    """Base of all errors raised on purpose."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"


class ConfigError(JobqError):
    """A setting or the environment is wrong. The text says what, and what to do."""

    slug = "configuration"
    title = "Configuration error"


class BadRequest(JobqError, ValueError):
    """The request cannot be carried out as it stands."""

    status = 422
    slug = "invalid"
    title = "Invalid request"


class UnknownTask(BadRequest):
    """No task of this name is registered here."""

    slug = "unknown-task"
    title = "Unknown task"


class InvalidPayload(BadRequest):
    """The arguments do not fit the task's signature.

    `errors` is a list of `(location, message)`; it never holds the offending values.
    """

    slug = "invalid-payload"
    title = "Payload does not fit the task"

    def __init__(self, message: str, errors: Sequence[tuple[tuple[str | int, ...], str]] = ()) -> None:
        super().__init__(message)
        self.errors = list(errors)


class IdempotencyMismatch(BadRequest):
    """This idempotency key came before, with another request."""

    slug = "idempotency-mismatch"
    title = "Idempotency key used for another request"


class PayloadTooLarge(BadRequest):
    """The payload has more bytes than are kept."""

    status = 413
    slug = "payload-too-large"
    title = "Payload too large"


class ResultInvalid(BadRequest):
    """A task returned something that is not JSON, or is larger than the limit."""

    slug = "result-invalid"
    title = "Result cannot be stored"


class JobNotFound(JobqError, LookupError):
    """No job with this id, or no longer: finished jobs are forgotten after their retention."""

    status = 404
    slug = "job-not-found"
    title = "Job not found"


class ResultExpired(JobNotFound):
    """The job completed, and its result was kept no longer than `JOBQ_RESULT_TTL`."""

    slug = "result-expired"
    title = "Result no longer kept"


class Conflict(JobqError):
    """The job's status does not allow this. `job_status` is what it is now."""

    status = 409
    slug = "conflict"
    title = "Not possible in this state"

    def __init__(self, message: str, job_status: str = "") -> None:
        super().__init__(message)
        self.job_status = job_status


class JobFailed(JobqError):
    """The job ended without a result. `type`, `traceback` and `reason` are those of its last attempt."""

    status = 409
    slug = "job-failed"
    title = "The job failed"

    def __init__(self, message: str, *, type: str = "", traceback: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.type = type
        self.traceback = traceback
        self.reason = reason


class JobCancelled(JobFailed):
    """The job was cancelled."""

    slug = "job-cancelled"
    title = "The job was cancelled"


class ResultTimeout(JobqError, TimeoutError):
    """The job was not over within the time the caller gave it. It goes on."""

    status = 504
    slug = "result-timeout"
    title = "Not finished yet"


class CorruptRecord(JobqError):
    """The job's key holds something that is not a job."""

    status = 409
    slug = "corrupt-record"
    title = "The job's record is unreadable"


class StoreUnavailable(JobqError):
    """Redis cannot be reached or refuses writes. Nothing was accepted; the call may be repeated."""

    status = 503
    slug = "store-unavailable"
    title = "The job store is unavailable"
    retry_after: ClassVar[int] = 1
    """Seconds after which to try again."""

    stored: Sequence[Any] = ()
    """Of `submit_many`: the handles of the jobs that were stored all the same."""
    refused: Sequence[int] = ()
    """Of `submit_many`: the places, in what it was given, of those that were not, or that nothing was heard of."""


class StoreFull(StoreUnavailable):
    """Redis is at its memory limit: jobs run on, submits are refused until some have finished."""

    slug = "store-full"
    title = "The job store is full"
    retry_after = 5


class StoreUnfit(StoreUnavailable):
    """Redis is set up so that it would lose jobs, or it has just lost all it held. Its operator has to act."""

    slug = "store-unfit"
    title = "The job store is not fit for use"
    retry_after = 5


class QueueFull(StoreUnavailable):
    """As many jobs are ready in the queue as `JOBQ_MAX_QUEUED` allows; submits are taken again when some have run."""

    slug = "queue-full"
    title = "The queue is full"
    retry_after = 5
