"""What an attempt tells while it runs: progress, and what its code logs with `logging`. It waits here to be sent."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from jobq.context import clip, current_or_none

MAX_LINES = 1000
MAX_BYTES = 256 * 1024
"""What is kept of the log of one attempt."""


def line(level: str, name: str, message: str) -> str:
    """The data of a log entry."""
    return json.dumps({"level": clip(level), "logger": clip(name), "message": clip(message)}, ensure_ascii=False)


LEFT_OUT = line("warning", "jobq", "more was logged than the 1,000 lines or 256 KiB that are kept of an attempt")


class Entries:
    """Entries of one attempt that wait to be sent, in order. `add` may be called in any thread, and never waits long.

    Of progress told in a row only the newest waits, so that what is kept here is bounded.
    """

    def __init__(self) -> None:
        # Reentrant: a destructor that logs may run while the lock is held.
        self._lock = threading.RLock()
        self._waiting: list[tuple[str, str]] = []
        self._lines = 0
        self._bytes = 0
        self.closed = False

    def add(self, kind: str, data: str) -> None:
        if self.closed:
            return
        with self._lock:
            if kind == "log" and not (data := self._within_limits(data)):
                return
            was_empty = not self._waiting
            if kind == "progress" and not was_empty and self._waiting[-1][0] == kind:
                self._waiting.pop()
            self._waiting.append((kind, data))
        if was_empty:
            self.wake()

    def take(self) -> list[tuple[str, str]]:
        """What waits. The caller sends it."""
        with self._lock:
            taken, self._waiting = self._waiting, []
        return taken

    def wake(self) -> None:
        """Called, in any thread, when something waits again."""

    def _within_limits(self, data: str) -> str:
        """The data, then once a line that says that more was left out, then nothing."""
        if self._lines > MAX_LINES or self._bytes > MAX_BYTES:
            return ""
        self._lines += 1
        self._bytes += len(data.encode())
        return LEFT_OUT if self._lines > MAX_LINES or self._bytes > MAX_BYTES else data


class Capture(logging.Handler):
    """Hands records of a job's own code to its context. Records of other code it leaves alone."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.users = 0

    def emit(self, record: logging.LogRecord) -> None:
        if context := current_or_none():
            try:
                context.emit("log", line(record.levelname.lower(), record.name, self.format(record)))
            except Exception:  # arguments that do not fit the text, as for any other handler
                self.handleError(record)
        # Without us there might be no handler at all, and `logging` would have printed it.
        last = logging.lastResort
        if last and record.levelno >= last.level and not self._has_others(logging.getLogger(record.name)):
            last.handle(record)

    def _has_others(self, logger: logging.Logger | None) -> bool:
        while logger:
            if any(handler is not self for handler in logger.handlers):
                return True
            logger = logger.parent if logger.propagate else None
        return False


_capture = Capture()


@contextmanager
def capturing() -> Iterator[None]:
    """Meanwhile the root logger has our handler: one for all workers of this process."""
    _capture.users += 1
    logging.getLogger().addHandler(_capture)
    try:
        yield
    finally:
        _capture.users -= 1
        if not _capture.users:
            logging.getLogger().removeHandler(_capture)


def let_info_through() -> None:
    """In a process that is ours: INFO counts as worth keeping, unless somebody has set up `logging`."""
    root = logging.getLogger()
    if root.level == logging.WARNING and not root.handlers:
        root.setLevel(logging.INFO)
