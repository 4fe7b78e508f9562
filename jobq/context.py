"""What a running task may know of its job, and say to its worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


class RetryLater(Exception):
    """Raise from a task to have it tried again after `delay` seconds (None: the usual back-off). It spends a retry."""

    def __init__(self, reason: str = "", *, delay: float | None = None) -> None:
        super().__init__(reason)
        self.delay = delay


class Discard(Exception):
    """Raise from a task to fail it at once, whatever retries are left."""


MAX_MESSAGE = 8 * 1024
"""Bytes kept of a message of progress or log."""


def _nowhere(kind: str, data: str) -> None:
    """Where a context of nobody's worker tells its progress."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a running task may know about its job. `attempt` rises with each claim: a fencing number elsewhere."""

    job_id: str
    task: str
    queue: str
    attempt: int
    retries: int
    emit: Callable[[str, str], None] = field(default=_nowhere, repr=False, compare=False)
    """The worker's: takes kind and data of an entry in the job's log. It neither waits nor raises."""

    def progress(self, fraction: float, message: str = "") -> None:
        """Tell how far the job is, from 0 to 1. Raises ValueError for another number, and nothing else.

        It never waits. Told more often than five times a second, only the newest is kept; of the message 8 KiB.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress is a number from 0 to 1, not {fraction}")
        self.emit("progress", json.dumps({"fraction": round(float(fraction), 4), "message": clip(message)}))


def clip(message: str) -> str:
    """At most MAX_MESSAGE bytes of it, and nothing that UTF-8 cannot hold."""
    return str(message).encode("utf-8", "backslashreplace")[:MAX_MESSAGE].decode("utf-8", "ignore")


_context: ContextVar[Context] = ContextVar("jobq_context")


def current() -> Context:
    """The job that runs here. Raises LookupError outside of one."""
    if (context := current_or_none()) is None:
        raise LookupError("current() is only known inside a running job")
    return context


def current_or_none() -> Context | None:
    """The job that runs here, if any."""
    return _context.get(None)


@contextmanager
def running(context: Context) -> Iterator[None]:
    """Make `context` the one that `current()` answers."""
    token = _context.set(context)
    try:
        yield
    finally:
        _context.reset(token)
