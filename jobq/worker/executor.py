"""Runs one attempt of a job and says how it went. Knows no store and decides nothing: it returns an Outcome."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable
from typing import Any

import anyio.to_thread
from anyio import CapacityLimiter

from jobq.context import running
from jobq.job import JobError
from jobq.policy import Completed, Failed, Outcome
from jobq.worker.attempt import Run
from jobq.worker.outcome import outcome_of, told
from jobq.worker.processes import Processes


class Executor:
    """Calls tasks: `async def` on the loop, `def` in a thread or a child process."""

    def __init__(self, before: Callable[[], None] | None = None) -> None:
        self._before = before
        self._threads = CapacityLimiter(math.inf)
        self.processes = Processes()
        self.abandoned: set[Run] = set()
        """Attempts that were given up while their thread goes on."""

    async def execute(self, run: Run) -> Outcome:
        """Run the attempt to its end, its timeout or its interruption. Raises nothing but what ends the process."""
        with running(run.context()):
            try:
                async with asyncio.timeout(run.rules.timeout) as limit:
                    return await self._attempt(run)
            except asyncio.CancelledError as error:
                return run.interruption or Failed(told(error, "error"), error)
            except TimeoutError as error:
                if limit.expired():
                    return Failed(JobError("Timeout", f"not done within {run.rules.timeout:g} s", "timeout"), error)
                return outcome_of(error)
            except (Exception, SystemExit) as error:
                return outcome_of(error)

    async def _attempt(self, run: Run) -> Outcome:
        if run.task.defaults.process:
            if self._before:
                self._before()
            return await self.processes.attempt(run)
        arguments = run.task.arguments(run.payload)
        if self._before:
            self._before()
        if run.task.is_async:
            value = await run.task.function(**arguments)
        else:
            value = await self._thread(run, arguments)
        return Completed(run.task.dump_result(value))

    async def _thread(self, run: Run, arguments: dict[str, Any]) -> Any:
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
