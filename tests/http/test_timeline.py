"""The history of a job, from its record and its past attempts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jobq.http.timeline import rfc3339, timeline
from jobq.job import Job, JobError, Status

NEW = Job("11111111-2222-4333-8444-555555555555", "keep", created_at=1_000)
ERROR = JobError("OSError", "no", "error")
LAST = {"type": "OSError", "message": "no", "reason": "error"}


def line(attempt: int, outcome: str, started_at: int, finished_at: int, **more: Any) -> dict[str, Any]:
    times = {"started_at": started_at, "finished_at": finished_at}
    return {"attempt": attempt, "outcome": outcome, "worker": f"w{attempt}", **times, **more}


def told(job: Job, attempts: list[dict[str, Any]] | None = None) -> list[tuple[str, str, int | None]]:
    """Each event with its seconds and its attempt."""
    return [(event["event"], event["at"][17:23], event.get("attempt")) for event in timeline(job, attempts or [])]


def test_new_job() -> None:
    """A job that waits has been created, and nothing else."""
    assert timeline(NEW, []) == [{"event": "created", "at": "1970-01-01T00:00:01.000Z"}]


def test_scheduled_job() -> None:
    """A job that is not due shows when it will be."""
    assert told(replace(NEW, run_at=9_000)) == [("created", "01.000", None), ("scheduled", "09.000", None)]


def test_running_job() -> None:
    """A running job shows who runs it."""
    job = replace(NEW, status=Status.PROCESSING, attempt=1, started_at=2_000, worker="w1")
    assert timeline(job, [])[1:] == [
        {"event": "started", "at": "1970-01-01T00:00:02.000Z", "attempt": 1, "worker": "w1"}
    ]


def test_completed_job() -> None:
    """The last attempt is told by the record itself."""
    job = replace(NEW, status=Status.COMPLETED, attempt=1, started_at=2_000, finished_at=3_500, worker="w1")
    assert told(job) == [("created", "01.000", None), ("started", "02.000", 1), ("completed", "03.500", 1)]


def test_retried_job() -> None:
    """Each attempt is told with its end, its worker and its error; then comes the wait for the next."""
    attempts = [
        line(1, "retry", 2_000, 3_000, error=LAST),
        line(2, "lost", 5_000, 6_000, error={**LAST, "type": "Lost"}),
    ]
    job = replace(NEW, retries=1, lost=1, attempt=2, run_at=4_000, error_text=ERROR.text())
    assert told(job, attempts) == [
        ("created", "01.000", None), ("started", "02.000", 1), ("retry", "03.000", 1), ("scheduled", "04.000", None),
        ("started", "05.000", 2), ("lost", "06.000", 2),
    ]  # fmt: skip
    assert timeline(job, attempts)[2] == {
        "event": "retry", "at": "1970-01-01T00:00:03.000Z", "attempt": 1, "worker": "w1", "error": LAST,
    }  # fmt: skip


def test_released_attempt_had_no_error() -> None:
    """A worker that stopped gave the job back: the error in its line is of an attempt before."""
    [_, _, released] = timeline(replace(NEW, attempt=1), [line(1, "release", 2_000, 3_000, error=LAST)])
    assert (released["event"], "error" in released) == ("released", False)


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_job_retried_by_hand(status: Status) -> None:
    """An end that was not the last stays in the history."""
    job = replace(NEW, status=Status.PROCESSING, attempt=2, started_at=8_000)
    assert told(job, [line(1, status.value, 2_000, 3_000)]) == [
        ("created", "01.000", None), ("started", "02.000", 1), (status.value, "03.000", 1), ("started", "08.000", 2),
    ]  # fmt: skip


def test_cancelled_before_it_was_due() -> None:
    """What did not come to pass is not told."""
    job = replace(NEW, status=Status.CANCELLED, run_at=9_000, finished_at=2_000)
    assert told(job) == [("created", "01.000", None), ("cancelled", "02.000", None)]


def test_error_of_the_last_attempt() -> None:
    """A failed job ends with its error."""
    job = replace(NEW, status=Status.FAILED, attempt=1, started_at=2_000, finished_at=3_000, error_text=ERROR.text())
    assert timeline(job, [])[-1]["error"] == LAST


@pytest.mark.parametrize("ms", [None, 0, 2**53 - 1, 10**30])
def test_times_that_nobody_meant(ms: int | None) -> None:
    """Absent times and those a foreign producer made up are no times."""
    assert rfc3339(ms) is None
    assert timeline(replace(NEW, created_at=ms or 0), []) == []
