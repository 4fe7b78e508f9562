"""How things are written for people. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from jobq.http.strict import is_json
from jobq.http.timeline import Event, error_view, printable
from jobq.job import Job, Status

PREVIEW = 200
"""Characters of a text in a list."""
LARGEST = 64 * 1024
"""Bytes of JSON that a page shows. More is offered as a file."""

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def age(seconds: float) -> str:
    """One number and one unit: `12 s`. The script counts on in the same words."""
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    for size, unit in _UNITS:
        if seconds >= 2 * size or size == 1:
            return f"{int(seconds // size)} {unit}"
    raise AssertionError(seconds)


def took(ms: int) -> str:
    return f"{ms / 1000:.1f} s" if 1000 <= ms < 100_000 else age(ms / 1000)


def relative(ms: int, now: int) -> str:
    """`12 s ago`, `in 3 min`."""
    seconds = (now - ms) / 1000
    if -1 < seconds < 1:
        return "now"
    return f"{age(seconds)} ago" if seconds > 0 else f"in {age(-seconds)}"


WORDS = {"scheduled": "due", "retry": "failed, to be tried again"}
"""What a page calls an event, where the word alone would be misread."""


class Step(NamedTuple):
    """An event of a job's timeline, as a page shows it."""

    event: Event
    word: str
    at: str
    since: str
    """The time since the event before; empty for the first."""


def steps(events: Iterable[Event]) -> list[Step]:
    shown: list[Step] = []
    before: datetime | None = None
    for event in events:
        at = datetime.fromisoformat(event["at"])
        since = "" if before is None else f"+{took(round((at - before).total_seconds() * 1000))}"
        text = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03} UTC"
        shown.append(Step(event, WORDS.get(event["event"], event["event"]), text, since))
        before = at
    return shown


def rate(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 or number == 0 else f"{number:.2g}" if number < 1 else f"{number:.1f}"


def utc(ms: int | None) -> str:
    """To the second; empty for what a foreign producer made up."""
    try:
        return datetime.fromtimestamp((ms or 0) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return ""


def clip(text: str, limit: int = PREVIEW) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def query(**values: object) -> str:
    """What is given of these, as a query string."""
    given = {name: str(value) for name, value in values.items() if value not in (None, "")}
    return f"?{urlencode(given)}" if given else ""


def note(job: Job) -> str:
    """The line about a job in a list: why it ended so, or why it has to be tried again."""
    error = error_view(job.error)
    if error is None or job.status is Status.COMPLETED:
        return ""
    return clip(": ".join(filter(None, (error["type"], error["message"].strip()))))


def pretty(text: bytes) -> str:
    """JSON with line breaks, and otherwise as it is written: decoding it would harm big numbers."""
    plain = printable(text.decode("utf-8", "replace"))
    return "".join(_indented(plain)) if is_json(text) else plain


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}:,]|[^][{}:,"\s]+')


def _indented(text: str) -> Iterator[str]:
    depth, before = 0, ""
    for token in _TOKEN.findall(text):
        closes = token in ("}", "]")
        depth -= closes
        if (before in ("{", "[", ",")) != closes:  # so that what is empty stays on its line
            yield "\n" + "  " * depth
        elif before == ":":
            yield " "
        yield token
        depth += token in ("{", "[")
        before = token


class Progress(NamedTuple):
    part: float
    """0 to 1."""
    text: str


class Line(NamedTuple):
    at: int
    level: str
    text: str


def progress(told: str | None) -> Progress | None:
    data = _members(told or "")
    part = data.get("fraction")
    if not isinstance(part, int | float):
        return None
    return Progress(min(1.0, max(0.0, part)), printable(str(data.get("message", ""))))


def log_lines(emitted: Iterable[Mapping[str, str]]) -> list[Line]:
    return [_line(entry) for entry in emitted if entry["kind"] == "log"]


def _line(entry: Mapping[str, str]) -> Line:
    data, at = _members(entry["data"]), entry.get("at", "")
    text = data.get("message", entry["data"])
    return Line(int(at) if at.isdecimal() else 0, str(data.get("level", "")), printable(str(text)))


def _members(text: str) -> dict[str, Any]:
    """Of an object as JSON; none of anything else, for anybody may have written it."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
