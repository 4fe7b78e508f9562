"""What the worker says about jobs: every failure, and successes up to a hundred a second, then a sum once a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from jobq.job import Job
from jobq.policy import Transition
from jobq.telemetry import logger

MOST_A_SECOND = 100


class Journal:
    """Counts by whole seconds of `clock`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._second = int(clock())
        self._completed = 0

    def settled(self, transition: Transition, ran_ms: int) -> None:
        """One attempt is over."""
        job, log = transition.job, logger()
        match transition.outcome:
            case "complete":
                self._success(job, ran_ms)
            case "retry":
                log.warning("job will be retried", **_about(job), **_why(job), retries=job.retries, due=transition.due)
            case "fail":
                log.error("job failed", **_about(job), **_why(job), traceback=(job.error or {}).get("traceback"))
            case "lose":
                log.warning("job lost with its process, given back", **_about(job), **_why(job), lost=job.lost)
            case "park":
                log.warning("no such task here, job parked", **_about(job))
            case "cancel":
                log.info("job cancelled", **_about(job))
            case _:
                log.info("job given back", **_about(job))

    def flush(self) -> None:
        """Write the sum of a second that is over. Call about once a second."""
        if int(self._clock()) != self._second:
            if self._completed > MOST_A_SECOND:
                logger().info("jobs completed", count=self._completed, not_shown=self._completed - MOST_A_SECOND)
            self._second, self._completed = int(self._clock()), 0

    def _success(self, job: Job, ran_ms: int) -> None:
        self.flush()
        self._completed += 1
        if self._completed <= MOST_A_SECOND:
            logger().info("job completed", **_about(job), ms=ran_ms)


def _about(job: Job) -> dict[str, object]:
    return {"job_id": job.job_id, "task": job.task, "attempt": job.attempt}


def _why(job: Job) -> dict[str, object]:
    error = job.error or {}
    return {"error": error.get("type"), "message": error.get("message", "")[:500]}
