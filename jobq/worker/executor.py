"""Runs one attempt of a job and says how it went. Knows no store and decides nothing: it returns an Outcome."""

from __future__ import annotations

import asyncio
import functools
import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.to_thread
from anyio import CapacityLimiter

from jobq.errors import InvalidPayload, ResultInvalid
from jobq.job import Job, JobError
from jobq.policy import Cancelled, Completed, Failed, Outcome, Postponed, Refused, Rules
from jobq.task import Context, Discard, RetryLater, Task, running

_OURS = (str(Path(__file__)), str(Path(anyio.__file__).parent), str(Path(asyncio.__file__).parent))


@dataclass(eq=False)
class Run:
    """One attempt under way."""

    job: Job
    token: str
    payload: bytes
    task: Task[..., Any]
    rules: Rules
    interruption: Outcome | None = None
    """What was decided from outside while it ran."""
    lost: bool = False
    """The lease is somebody else's: whatever comes of this attempt is not reported."""
    future: asyncio.Task[None] | None = field(default=None, repr=False)

    def interrupt(self, outcome: Outcome) -> None:
        """End it at the next await. A thread cannot be ended: a cancel leaves it alone, anything else abandons it."""
        if isinstance(outcome, Cancelled) and not self.task.is_async:
            return
        self.interruption = self.interruption or outcome
        if self.future:
            self.future.cancel()


class Executor:
    """Calls tasks: `async def` on the loop, `def` in a thread."""

    def __init__(self, before: Callable[[], None] | None = None) -> None:
        self._before = before
        self._threads = CapacityLimiter(math.inf)
        self.abandoned: set[Run] = set()
        """Attempts that were given up while their thread goes on."""

    async def execute(self, run: Run) -> Outcome:
        """Run the attempt to its end, its timeout or its interruption. Raises nothing but what ends the process."""
        job = run.job
        context = Context(job.job_id, job.task, job.queue, job.attempt, job.retries)
        with running(context):
            try:
                async with asyncio.timeout(run.rules.timeout) as limit:
                    arguments = run.task.arguments(run.payload)
                    value = await self._call(run, arguments)
                return Completed(run.task.dump_result(value))
            except RetryLater as instruction:
                return Postponed(_told(instruction, "retry_later"), instruction.delay)
            except (Discard, InvalidPayload, ResultInvalid) as error:
                return Refused(_told(error, "discarded" if isinstance(error, Discard) else "invalid"))
            except asyncio.CancelledError as error:
                return run.interruption or Failed(_told(error, "error"), error)
            except TimeoutError as error:
                if limit.expired():
                    return Failed(JobError("Timeout", f"not done within {run.rules.timeout:g} s", "timeout"), error)
                return Failed(_told(error, "error"), error)
            except (Exception, SystemExit) as error:
                return Failed(_told(error, "error"), error)

    async def _call(self, run: Run, arguments: dict[str, Any]) -> Any:
        if self._before:
            self._before()
        if run.task.is_async:
            return await run.task.function(**arguments)
        try:
            return await anyio.to_thread.run_sync(
                functools.partial(self._in_thread, run, arguments), abandon_on_cancel=True, limiter=self._threads
            )
        except asyncio.CancelledError:
            self.abandoned.add(run)
            raise

    def _in_thread(self, run: Run, arguments: dict[str, Any]) -> Any:
        try:
            return run.task.function(**arguments)
        finally:
            self.abandoned.discard(run)


def _told(error: BaseException, reason: str) -> JobError:
    """The error as it is stored, with the traceback from the task's own first frame on."""
    frame = error.__traceback__
    while frame and frame.tb_frame.f_code.co_filename.startswith(_OURS):
        frame = frame.tb_next
    lines = traceback.format_exception(type(error), error, frame) if frame else []
    return JobError(type(error).__qualname__, str(error), reason, "".join(lines))
