"""The program of a child process: runs one attempt after another that its worker sends it. `processes.py` starts it."""

from __future__ import annotations

import ctypes
import faulthandler
import json
import math
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

from jobq.context import Context, running
from jobq.policy import Completed, Failed, Postponed, Refused
from jobq.task import Defaults, SyncTask, Task
from jobq.worker.capture import Entries, capturing, let_info_through
from jobq.worker.frames import BEGAN, ENTRIES, HEAD, OUTCOME, RESULT, Order, frame
from jobq.worker.outcome import encode, outcome_of, told

INTERVAL = 0.05
"""Seconds for which entries gather before they are sent to the worker."""

_MEMORY, _CPU = resource.RLIMIT_AS, resource.RLIMIT_CPU


class Forwarded(Entries):
    """Entries of the attempt that runs, on their way to the worker."""

    def __init__(self, some: threading.Event) -> None:
        super().__init__()
        self._some = some

    def wake(self) -> None:
        self._some.set()


class Line:
    """The child's end of the line to its worker."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._some = threading.Event()
        self._entries = Forwarded(self._some)
        os.register_at_fork(after_in_child=self._leave)
        # From the start, so that no attempt pays for the thread's memory.
        threading.Thread(target=self._forward, name="jobq-log", daemon=True).start()

    def read(self) -> bytes:
        """The next order. Raises EOFError when the worker needs us no longer."""
        _, length = HEAD.unpack(self._exactly(HEAD.size))
        return self._exactly(length)

    def begin(self) -> Forwarded:
        """Entries for a new attempt, whose order has arrived."""
        self._connection.sendall(frame(BEGAN, b""))
        self._entries = Forwarded(self._some)
        return self._entries

    def finish(self, kind: bytes, body: bytes) -> None:
        """Send the last entries of the attempt and what came of it."""
        with self._sending:
            self._entries.closed = True
            self._send_entries()
            self._connection.sendall(frame(kind, body))

    def _send_entries(self) -> None:
        if entries := self._entries.take():
            self._connection.sendall(frame(ENTRIES, json.dumps(entries).encode()))

    def _forward(self) -> None:
        with suppress(OSError):  # the worker is gone, and we soon
            while True:
                self._some.wait()
                self._some.clear()
                time.sleep(INTERVAL)
                with self._sending:
                    if not self._entries.closed:  # else the worker would take them for the next attempt's
                        self._send_entries()

    def _leave(self) -> None:
        """In a fork of ours: it must not keep the line open when we are dead, nor tell things."""
        self._connection.close()
        self._entries.closed = True

    def _exactly(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            more = self._connection.recv(min(length - len(data), 1 << 20))
            if not more:
                raise EOFError
            data += more
        return bytes(data)


def main(descriptor: int, parent: int) -> None:
    """Serve the worker at the other end of this socket until it closes or dies."""
    _die_with(parent)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    line = Line(socket.socket(fileno=descriptor))
    with suppress(EOFError, ConnectionError):
        while True:
            _serve(line, *Order.decode(line.read()))


def _serve(line: Line, order: Order, payload: bytes) -> None:
    outcome = _attempt(order, payload, Context(*order.job, emit=line.begin().add))
    if isinstance(outcome, Completed):
        line.finish(RESULT, outcome.result)
    else:
        line.finish(OUTCOME, encode(outcome))


def _die_with(parent: int) -> None:
    """Linux kills us when the thread that started us dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before it had been asked to take us along
        os._exit(1)


def _attempt(order: Order, payload: bytes, context: Context) -> Completed | Failed | Postponed | Refused:
    try:
        task = _find(order.module, order.qualname, order.task)
        let_info_through()
        with running(context), capturing(), _limits(order):
            return Completed(task.dump_result(task.function(**task.arguments(payload))))
    except MemoryError as error:
        outcome = Failed(told(error, "error"), error)
        if order.memory is None:
            return outcome
        limit = f"more than {order.memory} MiB of memory"
        return replace(outcome, error=replace(outcome.error, type="MemoryLimit", message=limit))
    except BaseException as error:
        return outcome_of(error)


@cache
def _find(module: str, qualname: str, name: str) -> Task[..., Any]:
    """The task by the place of its function: there is the task, or the bare function that was handed to a registry."""
    found: Any = import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    if not isinstance(found, Task):
        return SyncTask(found, name, Defaults())
    if found.name != name:
        raise LookupError(f"{module}.{qualname} is the task {found.name}, not {name}: give the functions two names")
    return found


@contextmanager
def _limits(order: Order) -> Iterator[None]:
    """Only soft limits: hard ones could not be lifted for the next attempt."""
    # Made beforehand: when memory is short, lifting the limit must not need any.
    lift = [partial(resource.setrlimit, kind, resource.getrlimit(kind)) for kind in (_MEMORY, _CPU)]
    if order.memory is not None and sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _limit(_MEMORY, pages * resource.getpagesize() + order.memory * 1024 * 1024)
    if order.cpu is not None:
        _limit(_CPU, math.ceil(time.process_time() + order.cpu))
    try:
        yield
    finally:
        for restore in lift:
            restore()


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
