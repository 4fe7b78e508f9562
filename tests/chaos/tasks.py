"""What the workers of a run serve. Each task writes its own start and end into the history."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobq import Registry, Retry, current
from tests.chaos.history import History

registry = Registry()


@contextmanager
def told() -> Iterator[int]:
    """Start and end of an attempt; its number is the result that it is known by."""
    history = History(Path(os.environ["CHAOS_HISTORY"]))
    here = {"job": current().job_id, "attempt": current().attempt, "pid": os.getpid()}
    history.write("start", **here)
    try:
        yield current().attempt
        history.write("end", **here)
    finally:
        history.close()


@registry.task(timeout=60)
async def waits(seconds: float) -> int:
    with told() as attempt:
        await asyncio.sleep(seconds)
    return attempt


@registry.task(timeout=60)
async def blocks(seconds: float) -> int:
    """Holds the event loop, and with it everything in this process but the heartbeat."""
    with told() as attempt:
        time.sleep(seconds)
    return attempt


@registry.task(process=True, timeout=60)
def works_apart(seconds: float) -> int:
    with told() as attempt:
        time.sleep(seconds)
    return attempt


@registry.task(process=True, memory=256, timeout=2, retry=Retry(0))
def poison(kind: str) -> int:
    """Ends its process in one of the ways in which processes end."""
    with told() as attempt:
        if kind == "exit":
            os._exit(3)
        elif kind == "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif kind == "memory":
            _ = bytearray(1 << 31)
        while True:
            pass
    return attempt
