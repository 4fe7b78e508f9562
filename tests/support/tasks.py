"""Tasks for tests. Each execution leaves a line in the file that `TRACE` names: it is the task itself that counts."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
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


@registry.task(process=True)
def in_process(text: str = "") -> str:
    trace()
    return text


@registry.task(process=True)
def sleeps_in_process(seconds: float = 30.0) -> str:
    trace("began")
    time.sleep(seconds)
    trace("ended")
    return "slept"


@registry.task(process=True)
def spins(starts_another: bool = False) -> None:
    if starts_another:
        subprocess.Popen(["sleep", "60"])
    trace("began")
    while True:
        pass


@registry.task(process=True, cpu=1)
def spins_within_limits() -> None:
    while True:
        pass


@registry.task(process=True, memory=256)
def takes_memory(mib: int, pieces: bool = False) -> int:
    """At once, or until it is full of small objects."""
    if pieces:
        kept: list[object] = []
        while True:
            kept.append(f"{len(kept)} of many")
    return len(bytearray(mib << 20)) >> 20


@registry.task(process=True)
def dies(signal_number: int = 0) -> None:
    if signal_number:
        os.kill(os.getpid(), signal_number)
    os._exit(3)


@registry.task(process=True, memory=64)
def is_killed() -> None:
    os.kill(os.getpid(), 9)


@registry.task(process=True, retry=Retry(3, backoff=0, on=(OSError,)))
def raises_in_process(name: str) -> None:
    trace()
    raise {"FileNotFoundError": FileNotFoundError, "KeyError": KeyError, "Discard": Discard}[name]("by name")


@registry.task(process=True)
def asks_later_in_process(delay: float) -> int:
    if current().attempt == 1:
        raise RetryLater("not yet", delay=delay)
    return current().attempt


@registry.task(process=True)
def surroundings() -> dict[str, object]:
    """What a child sees of the world."""
    print("printed by the task")
    secrets = [name for name in ("JOBQ_REDIS_URL", "JOBQ_API_KEY", "REDIS_URL") if name in os.environ]
    return {"pid": os.getpid(), "session": os.getsid(0), "job_id": current().job_id, "secrets": secrets}


def _tell(steps: int) -> None:
    """Progress and log of `steps` steps, the last ones immediately before the end."""
    logger = logging.getLogger("told")
    for step in range(1, steps + 1):
        logger.info("step %d", step)
        current().progress(step / steps, f"{step} of {steps}")
    logger.debug("too fine")


@registry.task
async def tells(steps: int = 3) -> None:
    _tell(steps)


@registry.task
def tells_in_thread(steps: int = 3) -> None:
    _tell(steps)


@registry.task(process=True)
def tells_in_process(steps: int = 3) -> None:
    _tell(steps)
