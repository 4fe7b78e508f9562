"""The child processes of a worker: started on demand, kept warm, one attempt at a time each, and killed as a group.

A child is a session of its own, so that the terminal's Ctrl-C does not reach it, and dies with its worker.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from jobq.job import JobError
from jobq.policy import Completed, Failed, Lost, Outcome, Refused, Released
from jobq.task import Defaults
from jobq.worker.attempt import Run
from jobq.worker.frames import BEGAN, ENTRIES, HEAD, RESULT, RUN, Order, frame
from jobq.worker.outcome import decode

IDLE = 60.0
"""Seconds for which a child without work is kept."""
PATIENCE = 1.0
"""Seconds in which killed children are gone."""
LAST_LINES = 5
LAST_BYTES = 1024
"""What the error of a job keeps of the log of an attempt whose process died."""

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from jobq.worker.child import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)


_NOT_IMPORTABLE = "a task with process=True must be in a module that a child can import, not in the program itself"


class CpuLimit(Exception):
    """An attempt took more processor time than its task may."""


class Child:
    """One process, and our end of the line to it."""

    def __init__(self, process: subprocess.Popen[bytes], read: asyncio.StreamReader, write: asyncio.StreamWriter):
        self.process = process
        self.retirement: asyncio.TimerHandle | None = None
        """When it ends, unless it gets work; None before its first attempt."""
        self.began = False
        """It has heard of the attempt that is its latest."""
        self.lines: deque[str] = deque(maxlen=LAST_LINES)
        """The last that came of that attempt's log."""
        self.peak = 0
        """KiB of memory that it, or what it started, has had at most; known when it has ended."""
        self._read = read
        self._write = write

    @classmethod
    async def start(cls) -> Child:
        ours, theirs = socket.socketpair()
        with theirs:
            read, write = await asyncio.open_unix_connection(sock=ours)
            return cls(_spawn(theirs.fileno()), read, write)

    async def attempt(self, order: bytes, run: Run) -> Outcome | None:
        """Carry it out; None when the child died."""
        self.began = False
        self.lines.clear()
        try:
            self._write.write(frame(RUN, order))
            await self._write.drain()
            while True:
                kind, length = HEAD.unpack(await self._read.readexactly(HEAD.size))
                body = await self._read.readexactly(length)
                if kind == BEGAN:
                    self.began = True
                elif kind == ENTRIES:
                    for kind_of_entry, data in json.loads(body):
                        run.log.add(kind_of_entry, data)
                        if kind_of_entry == "log":
                            self.lines.append(data)
                else:
                    return Completed(body) if kind == RESULT else decode(body, run.rules.on)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def kill(self) -> None:
        """With all that it started in its group."""
        if self.process.returncode is None:  # not reaped, so the number is still its own
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self._write.close()

    async def ended(self) -> int:
        """Its exit code, negative for a signal, once it is dead."""
        while not self._dead():  # noqa: ASYNC110  # asyncio's own watcher needs a thread for each
            await asyncio.sleep(0.002)
        return self.process.returncode

    def _dead(self) -> bool:
        if self.process.returncode is None:
            try:
                pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else in this program waits for all children
                return self.process.poll() is not None
            if pid:
                self.process.returncode = os.waitstatus_to_exitcode(status)
                self.peak = usage.ru_maxrss // (1024 if sys.platform == "darwin" else 1)
        return self.process.returncode is not None


class Processes:
    """The children of one worker. Its event loop must run in the thread that lives longest, best the main thread."""

    def __init__(self) -> None:
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._ending: set[asyncio.Task[int]] = set()
        self._closed = False

    async def attempt(self, run: Run) -> Outcome:
        """Run it in a child; when this is cancelled the child is killed. Raises OSError when none can be started."""
        function, limits = run.task.function, run.task.defaults
        if function.__module__ == "__main__":
            return Refused(JobError("NotImportable", _NOT_IMPORTABLE, "invalid"))
        context = run.context()
        job = (context.job_id, context.task, context.queue, context.attempt, context.retries)
        order = Order(function.__module__, function.__qualname__, run.task.name, job, limits.memory, limits.cpu)
        while True:
            child = await self._take()
            outcome = await self._carry_out(child, order.encode(run.payload), run)
            if outcome is not None:
                return outcome
            code = await asyncio.shield(self._end(child))
            if self._closed:
                return Released()
            if child.began or not child.retirement:
                return death(code, limits, child.peak, child.lines)
            # It had died while it was idle, and nobody had noticed.

    async def _carry_out(self, child: Child, order: bytes, run: Run) -> Outcome | None:
        self._busy.add(child)
        try:
            outcome = await child.attempt(order, run)
        except BaseException:
            self._end(child)
            raise
        finally:
            self._busy.discard(child)
        if outcome is not None:
            (self._end if _out_of_memory(outcome) else self._keep)(child)
        return outcome

    async def close(self) -> None:
        """Kill them all."""
        self._closed = True
        for child in [*self._idle, *self._busy]:
            self._end(child)
        self._idle.clear()
        if self._ending:
            await asyncio.wait(self._ending, timeout=PATIENCE)

    async def _take(self) -> Child:
        while self._idle:
            child = self._idle.pop()  # the warmest: so the others grow old
            assert child.retirement
            child.retirement.cancel()
            if child.process.poll() is None:
                return child
            self._end(child)
        return await Child.start()

    def _keep(self, child: Child) -> None:
        child.retirement = asyncio.get_running_loop().call_later(IDLE, self._retire, child)
        self._idle.append(child)

    def _retire(self, child: Child) -> None:
        self._idle.remove(child)
        self._end(child)

    def _end(self, child: Child) -> asyncio.Task[int]:
        child.kill()
        ending = asyncio.create_task(child.ended())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return ending


def death(code: int, limits: Defaults, peak: int, lines: Iterable[str]) -> Failed | Lost:
    """What a child that ended by itself with this exit code (negative: a signal) died of. `peak` in KiB."""
    if code == -signal.SIGXCPU and limits.cpu is not None:
        error = CpuLimit(f"more than {limits.cpu:g} s of processor time")
        return Failed(JobError("CpuLimit", str(error), "error"), error)
    how = f"was ended by {_signal(-code)}" if code < 0 else f"ended with exit code {code}"
    if code == -signal.SIGKILL:
        limit = "" if limits.memory is None else f" (its limit was {limits.memory} MiB)"
        how += f", as the system does when memory is short{limit}"
    # What the kernel counts begins with the worker's own memory, before the child became a program of its own.
    memory = f"; it had at most {math.ceil(peak / 1024)} MiB of memory" if peak else ""
    last = "".join(f"\n{line}" for line in map(_readable, lines))
    # From the end, for the last line says most.
    return Lost(JobError("ProcessDied", f"its process {how}{memory}{last[-LAST_BYTES:]}", "lost"))


def _readable(line: str) -> str:
    """A log line as the child sent it, for people."""
    said = json.loads(line)
    return f"{said['level']} {said['logger']}: {said['message']}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _out_of_memory(outcome: Outcome) -> bool:
    """Such a child is not reused: it may hold on to what it took."""
    return isinstance(outcome, Failed | Refused) and outcome.error.type in ("MemoryLimit", "MemoryError")


def _spawn(descriptor: int) -> subprocess.Popen[bytes]:
    """A child that serves the other end of this socket."""
    path = json.dumps([str(entry) for entry in sys.path])
    # In the loop's own thread, on purpose: Linux kills the child when the thread that started it dies.
    return subprocess.Popen(
        [sys.executable, "-P", "-u", "-c", _PROGRAM, path, str(descriptor), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=2,  # what a task prints is no output of the worker
        pass_fds=[descriptor],
        env=_environment(),
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    """Ours without what opens the queue."""
    ours = dict(os.environ)
    ours.pop("JOBQ_API_KEY", None)
    if ours.pop("JOBQ_REDIS_URL", None) is None:
        ours.pop("REDIS_URL", None)  # then it is this one that opens it
    return ours
