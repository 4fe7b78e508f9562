"""Decides what becomes of a job after an attempt. Pure: no clock, no dice and no store of its own.

Running a job gives an Outcome; `settle` turns it into a Transition; one place (the worker's pump) writes it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from jobq.job import MAX_DELAY, Job, JobError, Stated, Status
from jobq.settings import Settings
from jobq.task import Task

T = TypeVar("T")

MAX_BACKOFF = 600.0
"""Seconds a retry is put off at most."""


@dataclass(frozen=True, slots=True)
class Completed:
    result: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """The task raised, or ran out of time. `exception` is what `Retry.on` is asked about; None: it has been asked."""

    error: JobError
    exception: BaseException | None


@dataclass(frozen=True, slots=True)
class Postponed:
    """The task raised RetryLater. `delay` in seconds; None for the usual back-off."""

    error: JobError
    delay: float | None


@dataclass(frozen=True, slots=True)
class Refused:
    """No retry can help: discarded by the task, or its payload or result is invalid."""

    error: JobError


@dataclass(frozen=True, slots=True)
class Cancelled:
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Its process died under it. That spends a loss, as the death of a worker does, and no retry."""

    error: JobError


@dataclass(frozen=True, slots=True)
class Released:
    """Given back unfinished: the worker stops."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """This worker has no task of that name."""


Outcome = Completed | Failed | Postponed | Refused | Cancelled | Lost | Released | Unknown


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the settle script: what to do, the record as it shall read, and what goes with it."""

    outcome: str
    """`complete retry fail cancel lose release park`."""
    job: Job
    body: bytes = b""
    """The result of `complete`."""
    due: int | None = None
    """When to retry, ms of the server's clock; None for at once."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits that hold for one job: what the submitter said, else the task, else the service."""

    max_retries: int
    backoff: float
    timeout: float | None
    on: tuple[type[BaseException], ...] = (Exception,)
    max_lost: int = 3

    @classmethod
    def of(cls, stated: Stated, task: Task[..., object] | None, settings: Settings) -> Rules:
        retry = task.defaults.retry if task else None
        timeout = task.defaults.timeout if task else ...
        return cls(
            max_retries=_said(stated.max_retries, retry.max_retries if retry else None, settings.max_retries),
            backoff=_said(stated.backoff, retry.backoff if retry else None, settings.retry_backoff),
            timeout=_said(stated.timeout, settings.timeout if timeout is ... else timeout, None),
            on=retry.on if retry else (Exception,),
            max_lost=settings.max_lost,
        )


def settle(
    job: Job, outcome: Outcome, rules: Rules, now: int, jitter: Callable[[], float] = random.random
) -> Transition:
    """What follows from this outcome. `now` is ms of the server's clock, `jitter` gives numbers in [0, 1)."""
    match outcome:
        case Completed(result):
            # So that a reader can tell a result that has expired from one that never was.
            size = f',"result_bytes":{len(result)}' if result else ""
            done = replace(job, tail=job.tail + size)
            return Transition("complete", _over(done, Status.COMPLETED, None, now), result)
        case Failed(error, exception) if exception is not None and not isinstance(exception, rules.on):
            return Transition("fail", _over(job, Status.FAILED, error, now))
        case Failed(error, _):
            return _retry_or_fail(job, error, rules, now, backoff(rules.backoff, job.retries, jitter()))
        case Postponed(error, delay):
            wait = backoff(rules.backoff, job.retries, jitter()) if delay is None else delay
            return _retry_or_fail(job, error, rules, now, wait)
        case Refused(error):
            return Transition("fail", _over(job, Status.FAILED, error, now))
        case Cancelled(reason):
            return Transition("cancel", _over(job, Status.CANCELLED, cancelled(reason), now))
        case Lost(error):
            return _lose_or_fail(job, error, rules, now)
        case Released():
            return Transition("release", job)
        case Unknown():
            return Transition("park", job)


def backoff(base: float, retries: int, jitter: float) -> float:
    """Seconds to wait before the next retry: exponential, capped, and spread over its upper half, so that jobs that
    failed together do not return together ("equal jitter", AWS Architecture Blog, "Exponential Backoff And Jitter")."""
    full = min(MAX_BACKOFF, base * 2.0 ** min(retries, 62))
    return full / 2 + full / 2 * jitter


def cancelled(reason: str) -> JobError:
    return JobError("Cancelled", reason or "cancelled", "cancelled")


def _retry_or_fail(job: Job, error: JobError, rules: Rules, now: int, wait: float) -> Transition:
    if job.retries >= rules.max_retries:
        return Transition("fail", _over(job, Status.FAILED, error, now))
    due = now + round(min(wait, MAX_DELAY) * 1000) if wait > 0 else None
    again = replace(job, retries=job.retries + 1, error_text=error.text())
    return Transition("retry", again, due=due)


def _lose_or_fail(job: Job, error: JobError, rules: Rules, now: int) -> Transition:
    lost = replace(job, lost=job.lost + 1, error_text=error.text())
    if lost.lost >= rules.max_lost:
        return Transition("fail", _over(lost, Status.FAILED, error, now))
    return Transition("lose", lost)


def _over(job: Job, status: Status, error: JobError | None, now: int) -> Job:
    return replace(job, status=status, finished_at=now, error_text=error.text() if error else None)


def _said(stated: T | None, by_task: T | None, by_service: T) -> T:
    if stated is not None:
        return stated
    return by_service if by_task is None else by_task
