"""What the worker says about jobs."""

from __future__ import annotations

from collections import Counter

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from jobq.job import Job, JobError
from jobq.policy import Transition
from jobq.worker.journal import Journal

ID = "0190a7b4-5c2e-7d31-9f00-0123456789ab"
JOB = Job(ID, "note", attempt=2, error_text=JobError("ValueError", "m" * 600, "error", "trace").text())


class Clock:
    """Goes on when told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def lines(logs: list[EventDict]) -> Counter[str]:
    return Counter(str(line["event"]) for line in logs)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(clock: Clock) -> Journal:
    return Journal(clock)


def test_a_success(journal: Journal) -> None:
    """A completed job is one line with id, task, attempt and how long it took."""
    with capture_logs() as logs:
        journal.settled(Transition("complete", JOB), 12)

    expected = {"event": "job completed", "log_level": "info", "job_id": ID, "task": "note", "attempt": 2, "ms": 12}
    assert [expected] == logs


def test_a_hundred_a_second_then_a_sum(journal: Journal, clock: Clock) -> None:
    """Of 250 successes in a second 100 are shown; the sum follows once the second is over, and a new one begins."""
    with capture_logs() as logs:
        for _ in range(250):
            journal.settled(Transition("complete", JOB), 1)
        journal.flush()
        assert Counter({"job completed": 100}) == lines(logs)
        clock.now += 1
        journal.flush()
        journal.flush()

    assert {"event": "jobs completed", "log_level": "info", "count": 250, "not_shown": 150} == logs[-1]
    assert Counter({"job completed": 100, "jobs completed": 1}) == lines(logs)
    with capture_logs() as logs:
        journal.settled(Transition("complete", JOB), 1)
    assert Counter({"job completed": 1}) == lines(logs)


def test_the_next_success_flushes_too(journal: Journal, clock: Clock) -> None:
    """The sum comes before the first line of the next second."""
    with capture_logs() as logs:
        for _ in range(101):
            journal.settled(Transition("complete", JOB), 1)
        clock.now += 1
        journal.settled(Transition("complete", JOB), 1)

    assert ["jobs completed", "job completed"] == [line["event"] for line in logs[-2:]]


def test_up_to_a_hundred_needs_no_sum(journal: Journal, clock: Clock) -> None:
    """Where every job was shown, nothing is added."""
    with capture_logs() as logs:
        for _ in range(100):
            journal.settled(Transition("complete", JOB), 1)
        clock.now += 1
        journal.flush()

    assert Counter({"job completed": 100}) == lines(logs)


@pytest.mark.parametrize(
    ("outcome", "level", "event"),
    [
        ("fail", "error", "job failed"),
        ("retry", "warning", "job will be retried"),
        ("lose", "warning", "job lost with its process, given back"),
        ("park", "warning", "no such task here, job parked"),
        ("cancel", "info", "job cancelled"),
        ("release", "info", "job given back"),
    ],
)
def test_every_other_outcome(journal: Journal, outcome: str, level: str, event: str) -> None:
    """All of 1,000 failures in one second are logged, each with its job; so is whatever is no success."""
    with capture_logs() as logs:
        for _ in range(1000):
            journal.settled(Transition(outcome, JOB), 1)

    assert Counter({event: 1000}) == lines(logs)
    about = (level, ID, "note", 2)
    assert about == tuple(logs[0][name] for name in ("log_level", "job_id", "task", "attempt"))


def test_why_it_failed(journal: Journal) -> None:
    """A failure says the error, a shortened message and the traceback; a retry which one it is and when."""
    with capture_logs() as logs:
        journal.settled(Transition("fail", JOB), 1)
        journal.settled(Transition("retry", JOB, due=5), 1)

    failed, retried = logs
    assert ("ValueError", "m" * 500, "trace") == (failed["error"], failed["message"], failed["traceback"])
    assert ("ValueError", 0, 5) == (retried["error"], retried["retries"], retried["due"])


def test_a_failure_without_an_error(journal: Journal) -> None:
    """A job without an error text does not break the journal."""
    with capture_logs() as logs:
        journal.settled(Transition("fail", Job(ID, "note")), 1)

    assert (None, "") == (logs[0]["error"], logs[0]["message"])
