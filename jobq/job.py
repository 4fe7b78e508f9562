"""A job as stored (`Job`), and what a submit may say of it (`Options`).

The record is JSON with a canonical head in fixed order, which the scripts rewrite, and a tail that is copied byte for
byte (`Job.text`; read in `record.py`).
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import accumulate
from time import time
from typing import Any, TypedDict

from jobq.errors import BadRequest
from jobq.settings import NAME

DEFAULT_QUEUE = "default"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

MAX_DELAY = 10 * 366 * 86_400
"""Seconds: ten years."""
MAX_PAYLOAD = 64 * 1024
"""Bytes of JSON a payload may have."""
MAX_RESULT = 1024 * 1024
"""Bytes of JSON a result may have."""
MAX_ERROR_TEXT = 8 * 1024
"""Bytes that an error's message, and its traceback, may take in a record; the middle of anything longer is left out."""


class Status(StrEnum):
    """What a job is doing. `pending` covers waiting in a queue, not yet due, and between retries."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        return self in _OVER

    @property
    def contract(self) -> str:
        """The word of `GET /job-status`, which knows four: a cancelled job reads `failed` there."""
        return "failed" if self is Status.CANCELLED else self.value


_OVER = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


class SubmitOptions(TypedDict, total=False):
    """The keywords of `submit`. Absent or None: as the task says, then as the service says."""

    queue: str | None
    priority: int
    """0 to 9; higher first within a queue."""
    delay: float | timedelta | None
    """From now, in seconds."""
    run_at: datetime | None
    """With a time zone. At most one of `delay` and `run_at`."""
    expires_in: float | timedelta | None
    """Not started by then: failed with reason `expired`, never run. Seconds."""
    max_retries: int | None
    backoff: float | None
    """Seconds before the first retry; doubles each time, with jitter. 0 requeues at once."""
    timeout: float | None
    """Seconds one attempt may take."""
    job_id: str | None
    """A UUID of the caller's own: submitting it again gives the same job."""
    idempotency_key: str | None
    """Up to 128 printable characters. Within 24 h the same request gives the same job, another one an error."""


@dataclass(frozen=True, slots=True)
class Options:
    """SubmitOptions, checked. Raises BadRequest."""

    queue: str | None = None
    priority: int = 0
    delay: float | timedelta | None = None
    run_at: datetime | None = None
    expires_in: float | timedelta | None = None
    max_retries: int | None = None
    backoff: float | None = None
    timeout: float | None = None
    job_id: str | None = None
    idempotency_key: str | None = None

    def __post_init__(self) -> None:
        _require(self.queue is None or NAME.fullmatch(self.queue), f"queue: must match {NAME.pattern}")
        _require(type(self.priority) is int and 0 <= self.priority <= 9, "priority: a whole number from 0 to 9")
        _require(self.delay is None or self.run_at is None, "delay and run_at exclude each other")
        _require(0 <= _seconds(self.delay) <= MAX_DELAY, f"delay: 0 to {MAX_DELAY} seconds")
        _require(
            self.expires_in is None or 0 < _seconds(self.expires_in) <= MAX_DELAY,
            f"expires_in: up to {MAX_DELAY} seconds",
        )
        _require(
            self.run_at is None or _sensible(self.run_at),
            "run_at: a time with a time zone, between now and ten years ahead",
        )
        _require(self.max_retries is None or 0 <= self.max_retries <= 1000, "max_retries: 0 to 1000")
        _require(self.backoff is None or 0 <= self.backoff <= 600, "backoff: 0 to 600 seconds")
        _require(
            self.timeout is None or 0 < self.timeout <= MAX_DELAY, f"timeout: more than 0, up to {MAX_DELAY} seconds"
        )
        _require(self.job_id is None or UUID.fullmatch(self.job_id), "job_id: a UUID in lower case")
        key = self.idempotency_key
        _require(
            key is None or (0 < len(key) <= 128 and key.isprintable()),
            "idempotency_key: 1 to 128 printable characters",
        )

    def due(self) -> str:
        """As the submit script takes it: ms from now, absolute ms, or nothing."""
        if self.run_at is not None:
            return str(round(self.run_at.timestamp() * 1000))
        return f"+{round(_seconds(self.delay) * 1000)}" if self.delay else ""

    def expires(self) -> str:
        return "" if self.expires_in is None else f"+{round(_seconds(self.expires_in) * 1000)}"

    def tail(self) -> str:
        """The members of the record that only this job states."""
        return Stated(self.max_retries, self.backoff, self.timeout).tail()


def _require(condition: object, message: str) -> None:
    if not condition:
        raise BadRequest(message)


def _seconds(duration: float | timedelta | None) -> float:
    return duration.total_seconds() if isinstance(duration, timedelta) else duration or 0.0


def _sensible(moment: datetime) -> bool:
    """A minute late is a slow sender; more is a mistake."""
    return moment.tzinfo is not None and -60 <= moment.timestamp() - time() <= MAX_DELAY


@dataclass(frozen=True, slots=True)
class JobError:
    """Why an attempt ended without a result."""

    type: str
    """Name of the exception, or `Timeout`, `Lost`, `Expired`, `Cancelled`."""
    message: str
    reason: str
    """One word: `error`, `timeout`, `lost`, `expired`, `cancelled`, `discarded`, `retry_later`."""
    traceback: str = ""

    def text(self) -> str:
        """JSON without braces inside, so that the scripts can find and replace it by one pattern."""
        members = {"type": self.type[:200], "message": shorten(self.message), "reason": self.reason}
        if self.traceback:
            members["traceback"] = shorten(self.traceback)
        inside = json.dumps(members, separators=(",", ":"))[1:-1]
        return "{" + inside.replace("{", "\\u007b").replace("}", "\\u007d") + "}"


def shorten(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()  # many readers refuse a lone surrogate
    if len(_fitting(text, MAX_ERROR_TEXT)) == len(text):
        return text
    begin, end = _fitting(text, MAX_ERROR_TEXT // 2), _fitting(text[::-1], MAX_ERROR_TEXT // 2)[::-1]
    return f"{begin}\n… {len(text) - len(begin) - len(end)} characters left out …\n{end}"


def _fitting(text: str, most: int) -> str:
    """As much of its beginning as takes no more than so many bytes in a record: a control character takes six."""
    sizes = accumulate(6 if character in "{}" else len(json.dumps(character)) - 2 for character in text[:most])
    return text[: bisect_right(list(sizes), most)]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Job:
    """A job as stored. Times are integer ms of the server's clock."""

    job_id: str
    task: str
    status: Status = Status.PENDING
    retries: int = 0
    attempt: int = 0
    lost: int = 0
    created_at: int = 0
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    expires_at: int | None = None
    run_at: int | None = None
    started_at: int | None = None
    worker: str | None = None
    finished_at: int | None = None
    error_text: str | None = None
    tail: str = ""
    """The rest of the record's members, as text: empty, or beginning with a comma."""

    @property
    def error(self) -> dict[str, str] | None:
        """None also for what a foreign producer wrote there that is not JSON."""
        try:
            return json.loads(self.error_text) if self.error_text else None
        except ValueError:
            return None

    def stated(self) -> Stated:
        """What the submitter said for this job alone."""
        return Stated.read(self.tail)

    def text(self) -> str:
        """The canonical record."""
        head = (
            f'{{"job_id":"{self.job_id}","task":"{self.task}","status":"{self.status.value}","retries":{self.retries}'
            f',"attempt":{self.attempt},"lost":{self.lost},"created_at":{self.created_at}'
        )
        queue = "" if self.queue == DEFAULT_QUEUE else f',"queue":"{self.queue}"'
        worker = "" if self.worker is None else f',"worker":"{self.worker}"'
        error = "" if self.error_text is None else f',"error":{self.error_text}'
        return (
            f"{head}{queue}{_number('priority', self.priority or None)}{_number('expires_at', self.expires_at)}"
            f"{_number('run_at', self.run_at)}{_number('started_at', self.started_at)}{worker}"
            f"{_number('finished_at', self.finished_at)}{error}{self.tail}}}"
        )


@dataclass(frozen=True, slots=True)
class Stated:
    """The options a record's tail holds. Absent or of the wrong type: not stated."""

    max_retries: int | None = None
    backoff: float | None = None
    timeout: float | None = None

    @classmethod
    def read(cls, tail: str) -> Stated:
        if not tail:
            return _NOTHING_STATED
        try:
            members = json.loads("{" + tail[1:] + "}")
        except (ValueError, RecursionError):
            return _NOTHING_STATED
        return cls(*(_number_or_none(members.get(name)) for name in ("max_retries", "backoff", "timeout")))

    def tail(self) -> str:
        """The members as they stand in a record; empty when nothing was stated."""
        return "".join(
            f',"{name}":{json.dumps(value)}'
            for name, value in (("max_retries", self.max_retries), ("backoff", self.backoff), ("timeout", self.timeout))
            if value is not None
        )


_NOTHING_STATED = Stated()


def _number(name: str, value: int | None) -> str:
    return "" if value is None else f',"{name}":{value}'


def _number_or_none(value: Any) -> Any:
    """The value if it is a number that makes sense here; a foreign record may hold anything."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9 else None
