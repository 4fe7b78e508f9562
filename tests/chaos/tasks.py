"""What the workers of a run serve. Each task writes its own start and end into the history."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobq import Registry, Retry, current
from tests.chaos.history import History

registry = Registry()

HUGE = 10 << 20
POISON_TIMEOUT = 2.0


@contextmanager
def told(harm: str = "") -> Iterator[int]:
    """Start and end of an attempt; its number is the result it is known by. `harm`: what it does to its process."""
    history = History(Path(os.environ["CHAOS_HISTORY"]))
    here = {"job": current().job_id, "attempt": current().attempt, "pid": os.getpid()}
    history.write("start", **here)
    if harm:
        history.write("fault", text=harm, pid=os.getpid())
    try:
        yield current().attempt
        history.write("end", **here)
    finally:
        history.close()


@registry.task(timeout=60)
async def waits(seconds: float, ballast: str = "") -> int:
    with told() as attempt:
        await asyncio.sleep(seconds)
    return attempt


@registry.task(timeout=60)
async def blocks(seconds: float) -> int:
    """Holds the event loop, and with it everything in this process but the heartbeat."""
    with told() as attempt:
        time.sleep(seconds)
    return attempt


@registry.task(timeout=60)
async def holds(seconds: int) -> int:
    """Holds the interpreter's lock, and with it the heartbeat too; in its first attempt only."""
    if current().attempt > 1:
        return await waits.function(0.0)
    with told("the interpreter's lock is held") as attempt:
        _hold(seconds)
    return attempt


@registry.task(process=True, timeout=60)
def holds_apart(seconds: int) -> int:
    """As `holds`, in a child, in every attempt."""
    with told() as attempt:
        _hold(seconds)
    return attempt


def _hold(seconds: int) -> None:
    ctypes.PyDLL(None).sleep(seconds)  # PyDLL does not let go of the lock


@registry.task(process=True, timeout=60)
def works_apart(seconds: float) -> int:
    with told() as attempt:
        time.sleep(seconds)
    return attempt


@registry.task(process=True, memory=256, timeout=POISON_TIMEOUT, retry=Retry(0))
def poison(kind: str) -> int:
    """Ends its process, or keeps it busy for ever."""
    with told(kind) as attempt:
        match kind:
            case "exit":
                os._exit(3)
            case "segv":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "abort":
                os.abort()
            case "memory":
                _ = bytearray(1 << 31)
        while True:
            pass
    return attempt


UNFIT: dict[str, Any] = {
    "nan": float("nan"),
    "infinity": [1, {"a": float("-inf")}],
    "huge": "x" * HUGE,
    "surrogate": "\ud800",
    "object": object(),
}
"""Results that cannot be kept."""


@registry.task(timeout=60)
async def returns(kind: str) -> Any:
    with told():
        return UNFIT[kind]


@registry.task(timeout=60, retry=Retry(0))
async def raises(kind: str) -> int:
    """With a text that cannot be kept as it is."""
    text = {"controls": "\x00\x1b[31m\r\n{}\u2028", "surrogate": "\ud800\udfff"}.get(kind, "x")
    with told():
        raise RuntimeError(text * (HUGE // len(text)))
