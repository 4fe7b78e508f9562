"""`--processes N`: a supervisor that starts the same command N times as children and keeps them running.

A child that ends with 0 was told to, or has nothing left to do: it is not started again. Each child is a fresh
interpreter and not a fork: connections that the tasks' modules open on import are never shared.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from contextlib import suppress

from jobq.errors import ConfigError, StoreUnavailable
from jobq.settings import Settings
from jobq.store.connect import connect
from jobq.store.supervisor import tie_to_parent
from jobq.telemetry import configure, logger

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds before a child that died is started again; doubles each time."""
SETTLED = 10.0
"""Seconds after which a child has started well: its next death is a first one."""
EXIT_RESTART = 75
"""EX_TEMPFAIL: a worker asks to be started again."""
KILL_AFTER = 5.0
"""Seconds beyond the drain limit that a child has to end."""
MARK = "JOBQ_SUPERVISED_BY"


def in_processes(count: int, settings: Settings, work: Callable[[], int]) -> int:
    """Do `work` in this process, or for a count above 1 in so many children that run this same command.

    The exit code. Raises StoreUnavailable when there is no server to work for.
    """
    if count == 1 or os.environ.get(MARK) == str(os.getppid()):
        return work()
    configure(settings)
    command = [sys.executable, *sys.orig_argv[1:]]
    return asyncio.run(Supervisor(command, count, settings).run())


class Supervisor:
    """The children of one supervisor. Signals are handed on; a second one makes the children hurry."""

    def __init__(self, command: list[str], count: int, settings: Settings) -> None:
        self._command = command
        self._count = count
        self._settings = settings
        self._children: set[Process] = set()
        self._stopping = asyncio.Event()
        self._code = 0

    async def run(self) -> int:
        """Until all children have ended well, or were told to stop and have. 0 when all ended well, else 1."""
        try:
            # Held open: an embedded server stays while all children are being started again.
            server = await connect(self._settings)
        except ConfigError as error:
            raise StoreUnavailable(str(error)) from None
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._hand_on, number)
        logger().info("supervisor starts workers", processes=self._count)
        killer = asyncio.create_task(self._kill_late())
        try:
            await asyncio.gather(*(self._keep() for _ in range(self._count)))
        finally:
            killer.cancel()
            await asyncio.to_thread(server.close)
        logger().info("supervisor stopped", exit_code=self._code)
        return self._code

    async def _keep(self) -> None:
        """Run one child, again and again until it ends well."""
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            pid, code = await self._run_child()
            if code == 0:
                return
            if self._stopping.is_set():
                self._code = 1
                return
            if time.monotonic() - began > SETTLED:
                pause = FIRST_PAUSE
            wait, pause = (0.0, pause) if code == EXIT_RESTART else (pause, min(LONGEST_PAUSE, pause * 2))
            logger().error("worker process died, another is started", pid=pid, exit_code=code, after=wait)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)

    async def _run_child(self) -> tuple[int, int]:
        child = await asyncio.create_subprocess_exec(
            *self._command,
            env=os.environ | {MARK: str(os.getpid())},
            stdin=DEVNULL,
            # Ctrl-C must reach the children once, through us; without a terminal one signal may end the whole group.
            start_new_session=_has_terminal(),
            preexec_fn=tie_to_parent(),
        )
        self._children.add(child)
        if self._stopping.is_set():  # it was being started when the signal came
            child.terminate()
        code = await child.wait()
        self._children.discard(child)
        return child.pid, code

    def _hand_on(self, number: int) -> None:
        self._stopping.set()
        for child in self._children:
            with suppress(ProcessLookupError):
                child.send_signal(number)

    async def _kill_late(self) -> None:
        await self._stopping.wait()
        limit = self._settings.drain_timeout + KILL_AFTER
        await asyncio.sleep(limit)
        logger().error("not every worker process ended in time, killing them", limit=limit)
        for child in self._children:
            with suppress(ProcessLookupError):
                child.kill()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
