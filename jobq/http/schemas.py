"""What goes over the wire. Strict: no unknown members, no `"5"` for 5, no `true` for 1."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)

from jobq.client import JobDetails
from jobq.http.strict import is_json
from jobq.http.timeline import ErrorView, Event, error_view, rfc3339, timeline
from jobq.job import MAX_DELAY, UUID, Job, Status, SubmitOptions
from jobq.policy import Rules
from jobq.settings import NAME
from jobq.store.pages import Filter

RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
UUID_PATTERN = f"^{UUID.pattern}$"


def _only_rfc3339(value: Any) -> Any:
    """Pydantic alone would also take numbers, and numbers in strings, as seconds or as milliseconds."""
    if not isinstance(value, str) or not RFC3339.fullmatch(value):
        raise ValueError("expected a time with its zone, such as 2030-01-31T12:00:00Z")
    return value


Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
Uuid = Annotated[str, Field(pattern=UUID_PATTERN)]
Seconds = Annotated[float, Field(ge=0, le=MAX_DELAY, allow_inf_nan=False)]
SomeSeconds = Annotated[float, Field(gt=0, le=MAX_DELAY, allow_inf_nan=False)]
Moment = Annotated[
    AwareDatetime,
    Field(strict=False),
    BeforeValidator(_only_rfc3339),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


Limit = Annotated[int, Field(ge=1, le=1000, description="How many at most.")]
Cursor = Annotated[str | None, Field(description="`next_cursor` of the page before, asked for with the same filter.")]


class SubmitJob(BaseModel):
    """A request to run a task. Only `task` is needed; what is absent or null is as the task says, then the service."""

    model_config = ConfigDict(strict=True, extra="forbid")

    task: Annotated[Name, Field(description="The name of a task that the service has.")]
    payload: Annotated[dict[str, Any] | None, Field(description="The task's arguments by name.")] = None
    job_id: Annotated[
        Uuid | None, Field(description="A UUID of your own: submitting it again gives the same job, not another one.")
    ] = None
    queue: Name | None = None
    priority: Annotated[int | None, Field(ge=0, le=9, description="Higher first within a queue.")] = None
    delay: Annotated[Seconds | None, Field(description="Seconds from now. At most one of `delay` and `run_at`.")] = None
    run_at: Annotated[Moment | None, Field(description="Not before this time.")] = None
    max_retries: Annotated[int | None, Field(ge=0, le=1000, description="Further attempts after an error.")] = None
    backoff: Annotated[
        float | None,
        Field(
            ge=0,
            le=600,
            allow_inf_nan=False,
            description="Seconds before the first retry; doubles each time. 0 requeues at once.",
        ),
    ] = None
    timeout: Annotated[SomeSeconds | None, Field(description="Seconds one attempt may take.")] = None
    expires_in: Annotated[
        SomeSeconds | None, Field(description="Seconds. Not started by then: failed, and never run.")
    ] = None

    def options(self, idempotency_key: str | None = None) -> SubmitOptions:
        stated = self.model_dump(exclude={"task", "payload"}, exclude_none=True)
        return cast("SubmitOptions", {**stated, "idempotency_key": idempotency_key})


class NewJob(SubmitJob):
    """A job to submit under `/v1`."""


class JobAccepted(BaseModel):
    """The answer to a submit."""

    job_id: Uuid


class JobStatus(BaseModel):
    """A job in the four words of the contract: one that was cancelled reads `failed`."""

    job_id: Uuid
    task: str
    status: Literal["pending", "processing", "completed", "failed"]
    retries: int

    @classmethod
    def of(cls, job: Job) -> JobStatus:
        return cls.model_validate(
            {"job_id": job.job_id, "task": job.task, "status": job.status.contract, "retries": job.retries}
        )


class CancelJob(BaseModel):
    """Why a job is cancelled."""

    model_config = ConfigDict(strict=True, extra="forbid")

    reason: Annotated[str, Field(max_length=500)] = ""


class JobSummary(BaseModel):
    """A job in a list. Times are RFC 3339, in UTC."""

    job_id: Uuid
    task: str
    status: Status
    retries: int
    max_retries: int
    queue: str
    priority: int
    created_at: str | None
    run_at: str | None
    started_at: str | None
    finished_at: str | None
    attempt: Annotated[int, Field(description="How often a worker has taken it.")]
    lost: Annotated[int, Field(description="How often the worker that ran it vanished.")]
    worker: str | None
    error: Annotated[ErrorView | None, Field(description="Of the last attempt that had one.")]

    @classmethod
    def of(cls, job: Job, rules: Rules) -> JobSummary:
        error = error_view(job.error)
        if error:
            error.pop("traceback", None)
        return cls(**_of_record(job, rules), error=error)


def _of_record(job: Job, rules: Rules) -> dict[str, Any]:
    """What a list shows of a job, but for its error."""
    return {
        "job_id": job.job_id,
        "task": job.task,
        "status": job.status,
        "retries": job.retries,
        "max_retries": rules.max_retries,
        "queue": job.queue,
        "priority": job.priority,
        "created_at": rfc3339(job.created_at),
        "run_at": rfc3339(job.run_at),
        "started_at": rfc3339(job.started_at),
        "finished_at": rfc3339(job.finished_at),
        "attempt": job.attempt,
        "lost": job.lost,
        "worker": job.worker,
    }


class Progress(BaseModel):
    """How far a running job is, as far as it said."""

    fraction: Annotated[float | None, Field(description="From 0 to 1.")] = None
    message: str | None = None

    @classmethod
    def read(cls, data: str | None) -> Progress | None:
        """From what was emitted. A worker in another language may have emitted anything."""
        try:
            return cls.model_validate_json(data) if data else None
        except ValidationError:
            return None


class JobView(JobSummary):
    """A job with all that is kept of it. Times are RFC 3339, in UTC."""

    progress: Annotated[Progress | None, Field(description="Of a running job.")] = None
    cancel_requested: Annotated[
        str | None, Field(description="Why a running job is to be cancelled, as long as its worker has not done it.")
    ] = None
    payload: Annotated[
        Any, Field(description="An object, but for what a foreign producer has stored; null when that is no JSON.")
    ] = {}
    result: Annotated[Any, Field(description="What the task returned, while it is kept.")] = None
    timeline: list[Event]

    @classmethod
    def whole(cls, details: JobDetails, rules: Rules) -> JobView:
        """All but payload and result (see `text`), and what only a running job has (see `runs`)."""
        return cls(
            **_of_record(details.job, rules),
            error=error_view(details.job.error),
            timeline=timeline(details.job, details.attempts),
        )

    def runs(self, progress: str | None, cancel_requested: str | None) -> None:
        """Complete the view of a running job."""
        self.progress, self.cancel_requested = Progress.read(progress), cancel_requested

    def text(self, payload: bytes | None, result: bytes | None) -> bytes:
        """The view as JSON, with payload and result as they are stored: decoding would harm big numbers."""
        head = self.model_dump_json(exclude={"payload", "result"}).encode()
        # Any producer may have written the payload, so it is looked at before it becomes part of our own JSON.
        shown = payload if payload and is_json(payload) else b"null" if payload else b"{}"
        return b'%s,"payload":%s,"result":%s}' % (head[:-1], shown, result or b"null")


class JobsQuery(BaseModel):
    """Which jobs to list."""

    status: Annotated[Status | None, Field(description="`pending` are also those that wait for their time.")] = None
    task: Name | None = None
    queue: Name | None = None
    created_after: Annotated[Moment | None, Field(description="Created then or later.")] = None
    created_before: Annotated[Moment | None, Field(description="Created earlier than that.")] = None
    limit: Limit = 50
    cursor: Cursor = None

    def filter(self) -> Filter:
        return Filter(
            status=self.status.value if self.status else None,
            task=self.task,
            queue=self.queue,
            created_after=_ms(self.created_after),
            created_before=_ms(self.created_before),
        )


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


class JobList(BaseModel):
    """A page of jobs: running ones, waiting ones in their order, then those that are over, newest first."""

    jobs: list[JobSummary]
    next_cursor: Annotated[str | None, Field(description="For the next page; null on the last one.")] = None
    capped: Annotated[bool, Field(description="The page ends early: it looked at 5,000 jobs.")] = False


class BatchSubmit(BaseModel):
    """Many jobs to submit."""

    model_config = ConfigDict(strict=True, extra="forbid")

    jobs: Annotated[
        list[Any],
        Field(min_length=1, max_length=10_000),
        WithJsonSchema(
            {"type": "array", "items": {"$ref": "#/components/schemas/NewJob"}, "minItems": 1, "maxItems": 10_000}
        ),
    ]


class Health(BaseModel):
    """All is well: anything else is a problem."""

    status: Literal["ok"] = "ok"


class FieldError(BaseModel):
    """One thing that is wrong with a request."""

    loc: list[str | int]
    msg: str


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(description="A page of this service that explains this kind of problem.")]
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: Annotated[list[FieldError], Field(description="What is wrong with the request, where it is known.")] = []


class Rejection(BaseModel):
    """A job of a batch that was not stored, and the problem it would have been answered with on its own."""

    index: Annotated[int, Field(description="Its place in the request, from 0.")]
    problem: Problem


class BatchAccepted(BaseModel):
    """What became of a batch."""

    accepted: Annotated[list[Uuid], Field(description="The ids of those that are stored, in the order of the request.")]
    rejected: list[Rejection]
