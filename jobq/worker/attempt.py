"""One attempt under way."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from jobq.context import Context
from jobq.job import Job
from jobq.policy import Cancelled, Outcome, Rules
from jobq.task import Task
from jobq.telemetry import logger
from jobq.worker.emitter import Log


@dataclass(eq=False)
class Run:
    """One attempt under way."""

    job: Job
    token: str
    payload: bytes
    task: Task[..., Any]
    rules: Rules
    log: Log
    interruption: Outcome | None = None
    """What was decided from outside while it ran."""
    lost: bool = False
    """The lease is somebody else's: whatever comes of this attempt is not reported."""
    future: asyncio.Task[None] | None = field(default=None, repr=False)
    _deaf: bool = False
    """A cancel has been heard that cannot take effect."""

    def interrupt(self, outcome: Outcome) -> None:
        """End it at the next await, or kill its process. A thread cannot be ended: a cancel leaves it alone (and makes
        it cancelled in the end, unless it completes), anything else abandons it."""
        if isinstance(outcome, Cancelled) and self.task.in_thread:
            if not self._deaf:
                logger().warning("cancel cannot end a thread", job_id=self.job.job_id, task=self.task.name)
                self._deaf = True
            return
        self.interruption = self.interruption or outcome
        if self.future:
            self.future.cancel()

    def context(self) -> Context:
        """What the task may know of it."""
        job = self.job
        return Context(job.job_id, job.task, job.queue, job.attempt, job.retries, self.log.add)
