"""What becomes of a job after an attempt."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobq.job import Job, JobError, Stated, Status
from jobq.policy import (
    MAX_BACKOFF,
    Cancelled,
    Completed,
    Failed,
    Lost,
    Outcome,
    Postponed,
    Refused,
    Released,
    Rules,
    Transition,
    Unknown,
    backoff,
    settle,
)
from jobq.settings import Settings
from jobq.task import Registry, Retry, Task

NOW = 1_795_488_299_123
JOB = Job(
    "0190a7b4-5c2e-7d31-9f00-0123456789ab", "note", Status.PROCESSING, retries=1, attempt=4, lost=1, created_at=5,
    queue="mail", priority=3, started_at=NOW - 1000, worker="w", tail=',"x":[]',
)  # fmt: skip
ERROR = JobError("ValueError", "a {b}", "error")
DIED = JobError("ProcessDied", "its process was ended by SIGSEGV", "lost")
RULES = Rules(max_retries=3, backoff=1.0, timeout=300.0)


def after(outcome: Outcome, job: Job = JOB, rules: Rules = RULES, jitter: float = 0.0) -> Transition:
    return settle(job, outcome, rules, NOW, lambda: jitter)


def reason(transition: Transition) -> str:
    return str((transition.job.error or {})["reason"])


class TestOutcomes:
    """Each outcome and what follows."""

    def test_completed(self) -> None:
        """Done: the record says when and how long the result is, and drops the last error."""
        job = Job(JOB.job_id, "note", Status.PROCESSING, error_text=ERROR.text(), tail=',"x":[]')
        expected = Job(JOB.job_id, "note", Status.COMPLETED, finished_at=NOW, tail=',"x":[],"result_bytes":4')

        assert Transition("complete", expected, b"true") == after(Completed(b"true"), job)

    def test_completed_without_a_result(self) -> None:
        """No result, no length."""
        transition = after(Completed(b""))
        assert (b"", ',"x":[]') == (transition.body, transition.job.tail)

    def test_failed_with_retries_left(self) -> None:
        """A retry is spent, the error is kept, and the back-off counts from now."""
        transition = after(Failed(ERROR, ValueError()))

        assert ("retry", 2, ERROR.text(), NOW + 1000) == (
            transition.outcome, transition.job.retries, transition.job.error_text, transition.due,
        )  # fmt: skip

    def test_failed_without_retries_left(self) -> None:
        """The job fails with the last error, and `retries` stays at what was spent."""
        job = Job(JOB.job_id, "note", Status.PROCESSING, retries=3)
        expected = Job(JOB.job_id, "note", Status.FAILED, retries=3, finished_at=NOW, error_text=ERROR.text())

        assert Transition("fail", expected) == after(Failed(ERROR, ValueError()), job)

    @pytest.mark.parametrize("max_retries", [0, 1, 3, 10])
    def test_as_often_as_allowed(self, max_retries: int) -> None:
        """A job that always fails runs once more than it has retries."""
        job, attempts = Job(JOB.job_id, "note"), 0
        while True:
            attempts += 1
            transition = after(Failed(ERROR, ValueError()), job, Rules(max_retries, 0.0, None))
            job = transition.job
            if transition.outcome == "fail":
                break

        assert (max_retries + 1, max_retries) == (attempts, job.retries)

    def test_no_backoff_requeues_at_once(self) -> None:
        """A back-off of 0 has no due time."""
        transition = after(Failed(ERROR, ValueError()), rules=Rules(3, 0.0, None), jitter=0.9)
        assert ("retry", None) == (transition.outcome, transition.due)

    @pytest.mark.parametrize(
        ("exception", "expected"),
        [(OSError(), "retry"), (ConnectionResetError(), "retry"), (ValueError(), "fail"), (SystemExit(), "fail")],
    )
    def test_retry_only_on_chosen_exceptions(self, exception: BaseException, expected: str) -> None:
        """An exception that is none of `on`, nor a kind of them, fails the job at once."""
        transition = after(Failed(ERROR, exception), rules=Rules(3, 1.0, None, on=(OSError, KeyError)))

        assert expected == transition.outcome
        assert (2 if expected == "retry" else 1) == transition.job.retries

    @pytest.mark.parametrize(
        ("delay", "due"), [(2.5, NOW + 2500), (0, None), (0.0004, NOW), (-1, None), (None, NOW + 1000)]
    )
    def test_retry_later(self, delay: float | None, due: int | None) -> None:
        """A task that asks for later gets its delay, or the usual back-off, and spends a retry."""
        transition = after(Postponed(ERROR, delay))
        assert ("retry", 2, due) == (transition.outcome, transition.job.retries, transition.due)

    def test_retry_later_is_limited(self) -> None:
        """Also this spends the retries, whatever `on` says."""
        job = Job(JOB.job_id, "note", retries=3)
        assert "fail" == after(Postponed(ERROR, 1.0), job).outcome
        assert "retry" == after(Postponed(ERROR, 1.0), rules=Rules(3, 1.0, None, on=(OSError,))).outcome

    @pytest.mark.parametrize("delay", [float("inf"), 1e300])
    def test_retry_later_without_end(self, delay: float) -> None:
        """A delay beyond all measure is ten years, not a crash of the worker."""
        due = after(Postponed(ERROR, delay)).due

        assert due is not None
        assert NOW < due < 2**53

    def test_refused(self) -> None:
        """No retry can help: failed at once, with retries left."""
        transition = after(Refused(JobError("Discard", "no use", "discarded")))
        assert ("fail", Status.FAILED, 1, NOW, "discarded") == (
            transition.outcome, transition.job.status, transition.job.retries, transition.job.finished_at,
            reason(transition),
        )  # fmt: skip

    @pytest.mark.parametrize(("given", "message"), [("no need", "no need"), ("", "cancelled")])
    def test_cancelled(self, given: str, message: str) -> None:
        """Cancelled is over, with the reason as its message."""
        transition = after(Cancelled(given))
        assert ("cancel", Status.CANCELLED, NOW) == (
            transition.outcome, transition.job.status, transition.job.finished_at,
        )  # fmt: skip
        assert {"type": "Cancelled", "message": message, "reason": "cancelled"} == transition.job.error

    def test_lost_below_the_limit(self) -> None:
        """A process that died costs a loss and no retry; the job goes back at once, whatever its back-off."""
        expected = replace(JOB, lost=2, error_text=DIED.text())
        assert Transition("lose", expected) == after(Lost(DIED), rules=Rules(0, 60.0, None))

    def test_lost_once_too_often(self) -> None:
        """The last loss fails the job with reason `lost` and how its process ended, with retries left."""
        job = replace(JOB, lost=2)
        expected = replace(JOB, lost=3, status=Status.FAILED, finished_at=NOW, error_text=DIED.text())

        assert Transition("fail", expected) == after(Lost(DIED), job)
        assert "lost" == reason(after(Lost(DIED), job))

    @pytest.mark.parametrize("max_lost", [1, 2, 5])
    def test_lost_as_often_as_allowed(self, max_lost: int) -> None:
        """A job that always kills its process runs `JOBQ_MAX_LOST` times."""
        job, attempts, word = Job(JOB.job_id, "note"), 0, "lose"
        while word == "lose":
            attempts += 1
            transition = after(Lost(DIED), job, Rules(3, 0.0, None, max_lost=max_lost))
            job, word = transition.job, transition.outcome

        assert ("fail", max_lost, max_lost, 0) == (word, attempts, job.lost, job.retries)

    @pytest.mark.parametrize(("outcome", "word"), [(Released(), "release"), (Unknown(), "park")])
    def test_given_back(self, outcome: Outcome, word: str) -> None:
        """Released and unknown jobs go back as they are."""
        assert Transition(word, JOB) == after(outcome)

    @pytest.mark.parametrize(
        "outcome",
        [
            Completed(b"1"),
            Failed(ERROR, ValueError()),
            Postponed(ERROR, 1.0),
            Refused(ERROR),
            Cancelled("x"),
            Released(),
            Unknown(),
            Lost(DIED),
        ],
    )
    def test_what_no_outcome_changes(self, outcome: Outcome) -> None:
        """Identity, place and counters of claims are not policy's; the tail is only added to."""
        job = after(outcome).job

        for name in ("job_id", "task", "queue", "priority", "created_at", "attempt", "worker", "started_at"):
            assert getattr(JOB, name) == getattr(job, name), name
        assert (JOB.lost + 1 if isinstance(outcome, Lost) else JOB.lost) == job.lost
        assert job.tail.startswith(JOB.tail)
        assert json.loads(job.text())["x"] == []


class TestBackoff:
    """Exponential, with equal jitter, capped at ten minutes."""

    @given(st.just(0.0) | st.floats(1e-9, 600), st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
    def test_bounds(self, base: float, retries: int, jitter: float) -> None:
        """The wait lies in the upper half of the doubled base, and never beyond the cap."""
        full = min(MAX_BACKOFF, base * 2.0 ** min(retries, 1000))
        assert full / 2 <= backoff(base, retries, jitter) <= full <= 600.0

    @given(st.floats(0.001, 600), st.integers(0, 20), st.floats(0, 0.999))
    def test_never_shorter_than_before(self, base: float, retries: int, jitter: float) -> None:
        """With the same luck a later retry waits at least as long."""
        assert backoff(base, retries, jitter) <= backoff(base, retries + 1, jitter)

    @pytest.mark.parametrize(("retries", "expected"), [(0, (0.5, 1)), (1, (1, 2)), (3, (4, 8)), (10, (300, 600))])
    def test_of_a_second(self, retries: int, expected: tuple[float, float]) -> None:
        """Base one second: about 1, 2, 4, 8 … 600 seconds."""
        assert expected == (backoff(1.0, retries, 0.0), backoff(1.0, retries, 1.0))

    def test_the_dice_are_thrown_once_a_retry(self) -> None:
        """Jobs that fail together do not come back together."""
        dues = {settle(JOB, Failed(ERROR, ValueError()), RULES, NOW).due for _ in range(50)}
        assert len(dues) > 25
        assert all(due is not None and NOW + 1000 <= due <= NOW + 2000 for due in dues)


class TestRules:
    """The submitter wins over the task, the task over the service."""

    SETTINGS = Settings(max_retries=7, retry_backoff=7.0, timeout=7.0)

    @staticmethod
    def task(**options: Any) -> Task[..., Any]:
        return Registry().task(name="note", **options)(lambda: None)

    def test_the_service_when_nobody_says(self) -> None:
        """Nothing said: the settings."""
        expected = Rules(7, 7.0, 7.0)
        assert expected == Rules.of(Stated(), None, self.SETTINGS) == Rules.of(Stated(), self.task(), self.SETTINGS)

    def test_the_task_over_the_service(self) -> None:
        """What the task says holds for all its jobs."""
        task = self.task(retry=Retry(2, backoff=0.0, on=(OSError,)), timeout=2.0)
        assert Rules(2, 0.0, 2.0, (OSError,)) == Rules.of(Stated(), task, self.SETTINGS)

    def test_the_submitter_over_both(self) -> None:
        """Zero is something said, too; only `on` is the task's alone."""
        task = self.task(retry=Retry(2, backoff=2.0, on=(OSError,)), timeout=2.0)
        assert Rules(0, 0.0, 1.0, (OSError,)) == Rules.of(Stated(0, 0.0, 1.0), task, self.SETTINGS)

    def test_each_on_its_own(self) -> None:
        """One thing said leaves the others to who is next."""
        task = self.task(retry=Retry(2))
        assert Rules(2, 7.0, 1.0) == Rules.of(Stated(timeout=1.0), task, self.SETTINGS)

    def test_losses_are_the_service_s_alone(self) -> None:
        """How many losses a job may have, no task and no submitter says."""
        rules = Rules.of(Stated(max_retries=1), self.task(retry=Retry(2)), Settings(max_lost=7))
        assert (1, 7) == (rules.max_retries, rules.max_lost)

    def test_no_timeout(self) -> None:
        """A task may have no timeout, and so may the service; a submitter may give one all the same."""
        endless = self.task(timeout=None)
        assert Rules.of(Stated(), endless, self.SETTINGS).timeout is None
        assert Rules.of(Stated(), self.task(), Settings(timeout=None)).timeout is None
        assert 1.0 == Rules.of(Stated(timeout=1.0), endless, self.SETTINGS).timeout
