"""The text of a record: read in any spelling, written in one (`Job.text`).

Records of foreign producers (any spelling, missing or extra members) are brought into the canonical form without
decoding what we do not know: `9007199254740993`, `[]` and `1e400` stay as they were written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed does not know it
from typing import Any

from jobq.errors import CorruptRecord
from jobq.job import DEFAULT_QUEUE, Job, Status
from jobq.settings import NAME

_MS = r"(\d{1,15})"
"""Milliseconds, or a count: a longer number is none that a script could use as a score."""
_CANONICAL = re.compile(
    rf'\{{"job_id":"([^"]+)","task":"({NAME.pattern})","status":"([a-z]+)","retries":{_MS},"attempt":{_MS}'
    rf',"lost":{_MS},"created_at":{_MS}(?:,"queue":"({NAME.pattern})")?(?:,"priority":(\d))?'
    rf'(?:,"expires_at":{_MS})?(?:,"run_at":{_MS})?(?:,"started_at":{_MS})?(?:,"worker":"([^"]*)")?'
    rf'(?:,"finished_at":{_MS})?(?:,"error":(\{{[^{{}}]*\}}))?((?:,.*)?)\}}',
    re.DOTALL | re.ASCII,
)


def parse(job_id: str, record: bytes) -> Job:
    """Read a record of any producer. Raises CorruptRecord when it is not a job at all."""
    text = _decode(record)
    match = _CANONICAL.fullmatch(text)
    if match is None:
        return _from_members(job_id, text)
    if match[3] not in list(Status):
        raise CorruptRecord("the record has a status that does not exist")
    try:
        return _from_head(match)
    except ValueError:  # Python reads integers of up to 4,300 digits
        raise CorruptRecord("the record has a number that is too large") from None


def is_canonical(record: bytes) -> bool:
    """Whether the scripts can rewrite this record's head, as they see it."""
    return _CANONICAL.fullmatch(record.decode("utf-8", "replace")) is not None


def _decode(record: bytes) -> str:
    try:
        return record.decode("utf-8").lstrip("\ufeff")
    except UnicodeDecodeError:
        raise CorruptRecord("the record is not UTF-8") from None


def _optional_int(digits: str | None) -> int | None:
    return None if digits is None else int(digits)


def _from_head(match: re.Match[str]) -> Job:
    (job_id, task, status, retries, attempt, lost, created_at, queue, priority, expires_at, run_at, started_at, worker,
     finished_at, error, tail) = match.groups()  # fmt: skip
    return Job(
        job_id, task, Status(status), int(retries), int(attempt), int(lost), int(created_at), queue or DEFAULT_QUEUE,
        int(priority or 0), _optional_int(expires_at), _optional_int(run_at), _optional_int(started_at), worker,
        _optional_int(finished_at), error, tail,
    )  # fmt: skip


def _from_members(job_id: str, text: str) -> Job:
    members = split_members(text)
    known = {name: json.loads(members.pop(name)) for name in _KNOWN & members.keys()}
    task = known.get("task")
    if not isinstance(task, str) or not NAME.fullmatch(task):
        raise CorruptRecord("the record names no task that could exist")
    queue, priority = known.get("queue"), known.get("priority")
    members.pop("error", None)
    return Job(
        job_id=job_id,
        task=task,
        status=Status(known["status"]) if known.get("status") in list(Status) else Status.PENDING,
        retries=_count(known.get("retries")),
        attempt=_count(known.get("attempt")),
        lost=_count(known.get("lost")),
        created_at=_count(known.get("created_at")),
        queue=queue if isinstance(queue, str) and NAME.fullmatch(queue) else DEFAULT_QUEUE,
        priority=priority if type(priority) is int and 0 <= priority <= 9 else 0,
        run_at=_count(known.get("run_at")) or None,
        tail="".join(f",{json.dumps(name)}:{raw}" for name, raw in members.items()),
    )


_KNOWN = {
    "job_id", "task", "status", "retries", "attempt", "lost", "created_at", "queue", "priority", "run_at", "started_at",
    "worker", "finished_at", "expires_at",
}  # fmt: skip


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 10**15 else 0


def split_members(text: str) -> dict[str, str]:
    """The members of a JSON object as text, undecoded. Raises CorruptRecord when it is not one."""
    try:
        if not isinstance(json.loads(text), dict):
            raise CorruptRecord("the record is not a JSON object")
        return dict(_members(text))
    except (ValueError, RecursionError):
        raise CorruptRecord("the record is not JSON") from None


def _members(text: str) -> list[tuple[str, str]]:
    """Walks text that is known to be a JSON object."""
    decode, space = json.JSONDecoder().raw_decode, re.compile(r"[ \t\n\r]*")
    members = []
    at = space.match(text, text.index("{") + 1).end()  # type: ignore[union-attr]
    while text[at] != "}":
        name, at = scanstring(text, at + 1, True)
        start = space.match(text, text.index(":", at) + 1).end()  # type: ignore[union-attr]
        at = decode(text, start)[1]
        members.append((name, text[start:at]))
        at = space.match(text, at).end()  # type: ignore[union-attr]
        if text[at] == ",":
            at = space.match(text, at + 1).end()  # type: ignore[union-attr]
    return members


def inline_payload(job: Job) -> bytes:
    """A foreign record's own `payload` member: used when there is no payload key."""
    if '"payload"' not in job.tail:
        return b""
    return split_members("{" + job.tail[1:] + "}").get("payload", "").encode()


def payload_mapping(payload: bytes) -> Mapping[str, Any]:
    """Arguments as a mapping. Raises ValueError when they are not a JSON object."""
    try:
        arguments = json.loads(payload) if payload else {}
    except RecursionError:
        raise ValueError("the payload is nested too deeply") from None
    if arguments is None:
        return {}
    if not isinstance(arguments, dict):
        raise ValueError("a payload is a JSON object of named arguments")
    return arguments
