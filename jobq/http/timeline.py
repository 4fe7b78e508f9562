"""The history of a job, told from its record and its past attempts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from operator import itemgetter
from typing import (
    Any,
    Literal,
    NamedTuple,
    NotRequired,  # pydantic cannot use those of Python 3.11
)

from typing_extensions import TypedDict

from jobq.job import Job

Happening = Literal["created", "scheduled", "started", "retry", "released", "lost", "completed", "failed", "cancelled"]


class ErrorView(TypedDict):
    """Why an attempt ended without a result."""

    type: str
    message: str
    reason: str
    traceback: NotRequired[str]


class Event(TypedDict):
    """One thing that happened to a job, with what is known about it."""

    event: Happening
    at: str
    attempt: NotRequired[int]
    worker: NotRequired[str]
    error: NotRequired[ErrorView]


def timeline(job: Job, attempts: Iterable[Mapping[str, Any]]) -> list[Event]:
    """What happened to the job, oldest first. `scheduled` stands where the job became due, or will."""
    moments = [_Moment("created", job.created_at), *_past(attempts), *_due(job), *_present(job)]
    events = [(moment.at or 0, moment.event()) for moment in moments]
    return [event for _, event in sorted(events, key=itemgetter(0)) if event["at"]]


def error_view(error: Any) -> ErrorView | None:
    """An error as it may be shown. A foreign producer may have written anything in its place."""
    if not isinstance(error, dict):
        return None
    told = {name: printable(str(error.get(name, ""))) for name in ("type", "message", "reason", "traceback")}
    view = ErrorView(type=told["type"], message=told["message"], reason=told["reason"])
    return ErrorView(**view, traceback=told["traceback"]) if told["traceback"] else view


def printable(text: str) -> str:
    """An error about a file's name may hold half surrogate pairs, which UTF-8 has no bytes for."""
    return text.encode("utf-8", "backslashreplace").decode()


def rfc3339(ms: int | None) -> str | None:
    """The server's ms as UTC text; None for absent, and for what a foreign producer made up."""
    try:
        moment = datetime.fromtimestamp(ms / 1000, UTC) if ms else None
    except (ValueError, OverflowError, OSError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None


class _Moment(NamedTuple):
    happening: Happening
    at: int | None
    attempt: int = 0
    worker: str | None = None
    error: Any = None

    def event(self) -> Event:
        event = Event(event=self.happening, at=rfc3339(self.at) or "")
        if self.attempt:
            event["attempt"] = self.attempt
        if self.worker:
            event["worker"] = self.worker
        if error := error_view(self.error):
            event["error"] = error
        return event


_OUTCOMES: dict[str, Happening] = {
    "retry": "retry", "release": "released", "lost": "lost", "failed": "failed", "cancelled": "cancelled",
}  # fmt: skip


def _past(attempts: Iterable[Mapping[str, Any]]) -> Iterator[_Moment]:
    for line in attempts:
        attempt, worker, outcome = line["attempt"], line.get("worker"), line["outcome"]
        yield _Moment("started", line.get("started_at"), attempt, worker)
        # A released attempt had no error: what its line holds is left from the attempt before.
        error = None if outcome == "release" else line.get("error")
        yield _Moment(_OUTCOMES[outcome], line["finished_at"], attempt, worker, error)


def _due(job: Job) -> Iterator[_Moment]:
    """Nothing was due any more when the job ended before that."""
    if job.run_at and not (job.finished_at and job.finished_at < job.run_at):
        yield _Moment("scheduled", job.run_at)


def _present(job: Job) -> Iterator[_Moment]:
    yield _Moment("started", job.started_at, job.attempt, job.worker)
    if job.status in _ENDS:
        yield _Moment(_ENDS[job.status], job.finished_at, job.attempt, job.worker, job.error)


_ENDS: dict[str, Happening] = {"completed": "completed", "failed": "failed", "cancelled": "cancelled"}
