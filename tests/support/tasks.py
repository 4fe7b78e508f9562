"""Tasks for tests. Each execution leaves a line in the file that `TRACE` names: it is the task itself that counts."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from jobq import Discard, Registry, Retry, RetryLater, current

registry = Registry()


def trace(word: str = "ran") -> None:
    """One line with one write: lines of several processes do not mix."""
    path = os.environ.get("TRACE")
    if path:
        line = f"{word} {current().job_id} {current().attempt} {time.time():.4f} {os.getpid()}\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, line.encode())
        os.close(descriptor)


def traced(path: Path, word: str = "ran") -> list[str]:
    """Ids of the jobs that left this word, one entry an execution."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[1] for line in lines if line.split()[0] == word]


@registry.task
async def note(text: str = "") -> str:
    trace()
    return text


@registry.task
async def always_raises() -> None:
    trace()
    raise ValueError("as always")


@registry.task(retry=Retry(3, backoff=0, on=(OSError,)))
async def raises_by_name(name: str) -> None:
    trace()
    raise {"OSError": OSError, "KeyError": KeyError}[name]("by name")


@registry.task
async def asks_later(delay: float) -> int:
    trace()
    if current().attempt == 1:
        raise RetryLater("not yet", delay=delay)
    return current().attempt


@registry.task
async def discards() -> None:
    trace()
    raise Discard("no use")


@registry.task
async def sleeps(seconds: float = 30.0) -> str:
    trace("began")
    await asyncio.sleep(seconds)
    trace("ended")
    return "slept"


@registry.task
def sleeps_in_thread(seconds: float = 30.0) -> str:
    trace("began")
    time.sleep(seconds)
    trace("ended")
    return "slept"


@registry.task
async def blocks_the_loop(seconds: float) -> str:
    trace("began")
    time.sleep(seconds)
    trace("ended")
    return "blocked"


@registry.task(queue="mail")
async def in_mail_queue() -> None:
    trace()


@registry.task
def returns_nan() -> float:
    trace()
    return float("nan")


@registry.task
def exits() -> None:
    trace()
    raise SystemExit(3)
