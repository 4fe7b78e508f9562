"""What goes over the wire. Strict: no unknown members, no `"5"` for 5, no `true` for 1."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, cast

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from jobq.client import JobDetails
from jobq.http.strict import is_json
from jobq.http.timeline import ErrorView, Event, error_view, rfc3339, timeline
from jobq.job import MAX_DELAY, UUID, Job, Status, SubmitOptions
from jobq.policy import Rules
from jobq.settings import NAME

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

    def options(self) -> SubmitOptions:
        return cast("SubmitOptions", self.model_dump(exclude={"task", "payload"}, exclude_none=True))


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


class JobView(BaseModel):
    """A job with all that is kept of it. Times are RFC 3339, in UTC."""

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
    payload: dict[str, Any] = {}
    result: Annotated[Any, Field(description="What the task returned, while it is kept.")] = None
    timeline: list[Event]

    @classmethod
    def of(cls, details: JobDetails, rules: Rules) -> JobView:
        """All but payload and result: see `text`."""
        job = details.job
        return cls(
            job_id=job.job_id,
            task=job.task,
            status=job.status,
            retries=job.retries,
            max_retries=rules.max_retries,
            queue=job.queue,
            priority=job.priority,
            created_at=rfc3339(job.created_at),
            run_at=rfc3339(job.run_at),
            started_at=rfc3339(job.started_at),
            finished_at=rfc3339(job.finished_at),
            attempt=job.attempt,
            lost=job.lost,
            worker=job.worker,
            error=error_view(job.error),
            timeline=timeline(job, details.attempts),
        )

    def text(self, payload: bytes | None, result: bytes | None) -> bytes:
        """The view as JSON, with payload and result as they are stored: decoding would harm big numbers."""
        head = self.model_dump_json(exclude={"payload", "result"}).encode()
        # Any producer may have written the payload, so it is looked at before it becomes part of our own JSON.
        shown = payload if payload and is_json(payload) else b"null" if payload else b"{}"
        return b'%s,"payload":%s,"result":%s}' % (head[:-1], shown, result or b"null")


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
