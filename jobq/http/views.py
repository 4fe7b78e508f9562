"""What is shown of queues, workers, tasks and logs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema

from jobq.http.schemas import Cursor, Limit, Uuid
from jobq.http.timeline import rfc3339
from jobq.policy import Rules
from jobq.store.inspect import QueueView, WorkerView
from jobq.task import Task


class QueueInfo(BaseModel):
    """A queue now. Rates are jobs a second over the last minute."""

    name: str
    depth: Annotated[int, Field(description="How many jobs are ready in it.")]
    ready: Annotated[dict[int, int], Field(description="The same by priority; only priorities that have any.")]
    oldest_seconds: Annotated[float | None, Field(description="For how long the oldest of them has been waiting.")]
    rates: Annotated[dict[str, float], Field(description="`in` are submits.")]
    paused: bool
    workers: Annotated[int, Field(description="How many serve it.")]

    @classmethod
    def of(cls, view: QueueView) -> QueueInfo:
        rates = {word: view.rates.get(word, 0.0) for word in RATES}
        return cls(
            name=view.name, depth=view.depth, ready=view.ready, oldest_seconds=view.oldest_seconds, rates=rates,
            paused=view.paused, workers=view.workers,
        )  # fmt: skip


RATES = ("in", "completed", "failed", "cancelled", "retried", "lost")


class QueueList(BaseModel):
    """All queues that were ever used, and those that tasks name."""

    queues: list[QueueInfo]


class PurgeQueue(BaseModel):
    """The queue's name once more, for there is no way back."""

    model_config = ConfigDict(strict=True, extra="forbid")

    confirm: str


class Purged(BaseModel):
    """How many jobs were forgotten."""

    purged: int


class WorkerInfo(BaseModel):
    """A worker that was heard of lately."""

    worker: Annotated[str, Field(description="Its id.")]
    host: str | None = None
    pid: int | None = None
    state: Annotated[str | None, Field(description="`running`, `quiet` or `stopping`.")] = None
    started_at: str | None = None
    seen_seconds: Annotated[float, Field(description="How long ago it was heard of.")]
    queues: list[str] = []
    tasks: list[str] = []
    concurrency: Annotated[int | None, Field(description="How many jobs it runs at once.")] = None
    running: Annotated[list[Uuid], Field(description="The ids of the jobs it holds.")]
    consuming: Annotated[bool, Field(description="It takes jobs, and the server answers it.")]
    pumped_ms: Annotated[
        float | None, Field(description="How old its last answer to a claim was, as it was heard.")
    ] = None
    beat_ms: Annotated[float | None, Field(description="How old its last heartbeat was, as it was heard.")] = None

    @classmethod
    def of(cls, view: WorkerView) -> WorkerInfo:
        known: dict[str, Any] = {
            "worker": view.worker, "seen_seconds": view.seen_seconds, "running": view.running,
            "consuming": view.consuming,
        }  # fmt: skip
        try:
            started_at = rfc3339(view.about.get("started_at"))
            return cls.model_validate({**view.about, **known, "started_at": started_at})
        except (ValidationError, TypeError):  # one in another language may say anything of itself
            return cls.model_construct(**known)


class WorkerList(BaseModel):
    """The workers that are there."""

    workers: list[WorkerInfo]


class WorkerOrder(BaseModel):
    """What a worker has been told; it hears it within two seconds."""

    worker: str
    order: Literal["quiet", "stop"]


class TaskInfo(BaseModel):
    """A task, and what holds for its jobs unless they say otherwise."""

    name: str
    doc: str
    queue: str
    max_retries: int
    backoff: float
    timeout: Annotated[float | None, Field(description="Seconds one attempt may take; null for no limit.")]
    payload: Annotated[dict[str, Any] | None, Field(description="The JSON Schema of its payload.")]
    workers: Annotated[list[str], Field(description="The ids of the workers that serve it.")]

    @classmethod
    def of(cls, task: Task[..., Any], rules: Rules, workers: Iterable[WorkerView]) -> TaskInfo:
        serving = [view.worker for view in workers if task.name in view.tasks]
        return cls(
            name=task.name, doc=task.doc, queue=task.defaults.queue, max_retries=rules.max_retries,
            backoff=rules.backoff, timeout=rules.timeout, payload=payload_schema(task), workers=serving,
        )  # fmt: skip


def payload_schema(task: Task[..., Any]) -> dict[str, Any] | None:
    """None for arguments that JSON Schema cannot tell."""
    try:
        return task.parameters.model_json_schema()
    except PydanticInvalidForJsonSchema:
        return None


class TaskList(BaseModel):
    """The tasks of the service."""

    tasks: list[TaskInfo]


Level = Literal["debug", "info", "warning", "error", "critical"]
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


class LogPlace(NamedTuple):
    """Where a page of lines ended."""

    after: Annotated[str, Field(pattern=r"^(-|\d{1,18}-\d{1,18})$")] = "-"


class LogsQuery(BaseModel):
    """Which lines to show."""

    level: Annotated[Level, Field(description="This level, and what is above it.")] = "debug"
    limit: Limit = 50
    cursor: Cursor = None


class LogLine(BaseModel):
    """A line that a task logged."""

    at: str | None
    attempt: int
    level: str
    message: str
    logger: str


class LogList(BaseModel):
    """A page of lines, oldest first."""

    lines: list[LogLine]
    next_cursor: Annotated[str | None, Field(description="For the next page; null on the last one.")] = None
