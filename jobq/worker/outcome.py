"""What an exception in a task means, and how a child process tells its worker."""

from __future__ import annotations

import asyncio
import json
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio

from jobq.context import Discard, RetryLater
from jobq.errors import InvalidPayload, ResultInvalid
from jobq.job import JobError
from jobq.policy import Failed, Outcome, Postponed, Refused

_OURS = tuple(
    str(path)
    for path in (
        *(Path(__file__).with_name(name) for name in ("executor.py", "child.py")),
        Path(anyio.__file__).parent,
        Path(asyncio.__file__).parent,
    )
)


def told(error: BaseException, reason: str) -> JobError:
    """The error as it is stored, with the traceback from the task's own first frame on."""
    frame = error.__traceback__
    while frame and frame.tb_frame.f_code.co_filename.startswith(_OURS):
        frame = frame.tb_next
    lines = traceback.format_exception(type(error), error, frame) if frame else []
    return JobError(type(error).__qualname__, str(error), reason, "".join(lines))


def outcome_of(error: BaseException) -> Failed | Postponed | Refused:
    """What follows when a task raises this."""
    match error:
        case RetryLater():
            return Postponed(told(error, "retry_later"), error.delay)
        case Discard():
            return Refused(told(error, "discarded"))
        case InvalidPayload() | ResultInvalid():
            return Refused(told(error, "invalid"))
        case _:
            return Failed(told(error, "error"), error)


def encode(outcome: Failed | Postponed | Refused) -> bytes:
    """As JSON. Exceptions are not sent themselves: their classes may not exist on the other side."""
    members: dict[str, Any] = {"error": asdict(outcome.error)}
    if isinstance(outcome, Postponed):
        members |= {"delay": outcome.delay}
    elif isinstance(outcome, Failed):
        members |= {"classes": [_full_name(kind) for kind in type(outcome.exception).__mro__]}
    return json.dumps(members).encode()


def decode(text: bytes, retried: tuple[type[BaseException], ...]) -> Outcome:
    """Read it again. An exception that is none of `retried` by its classes' names is refused here and now."""
    members = json.loads(text)
    error = JobError(**members["error"])
    if "delay" in members:
        return Postponed(error, members["delay"])
    if {_full_name(kind) for kind in retried} & set(members.get("classes", ())):
        return Failed(error, None)
    return Refused(error)


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
