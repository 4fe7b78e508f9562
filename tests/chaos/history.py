"""The history of a run: one JSON object a line, written by the harness and by the tasks themselves.

Times are those of CLOCK_MONOTONIC, which all processes of a machine share. A line is written with one `write` to a file
that is only appended to, so lines of several processes do not mix and a killed process leaves no half line.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

Word = Literal[
    "accepted", "unknown", "refused", "claim", "start", "end", "fault", "healed", "over", "final", "left", "note"
]
"""
`accepted`: the submit was answered. `unknown`: it was not, and the same submit is sent again. `refused`: there was no
room for it.
`claim`: an attempt that was handed out to a process that dies before its body starts.
`start`, `end`: a task's body, with `attempt` and `pid`. `over`: an entry of `job_events`.
`fault`: something was broken, for the process `pid` or (without one) for all. `healed`: it is whole again.
`final`: the record at the end of a round. `left`: something that should be gone by then. `note`: for people.
"""


class Line(TypedDict):
    """One thing that happened."""

    t: float
    what: Word
    job: NotRequired[str]
    attempt: NotRequired[int]
    pid: NotRequired[int]
    status: NotRequired[str]
    retries: NotRequired[int]
    lost: NotRequired[int]
    reason: NotRequired[str]
    result: NotRequired[Any]
    text: NotRequired[str]


class History:
    """Appends to the file that all processes of a run write to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, what: Word, **fields: Any) -> float:
        """Note that this happens now. The time."""
        now = time.monotonic()
        line = {"t": round(now, 4), "what": what, **fields}
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")
        return now

    def position(self) -> int:
        """Where the next line will be."""
        return self.path.stat().st_size

    def close(self) -> None:
        os.close(self._file)


def read(path: Path, position: int = 0) -> list[Line]:
    """All lines from there on, in the order of their times."""
    with path.open() as file:
        file.seek(position)
        lines: list[Line] = [json.loads(line) for line in file]
    return sorted(lines, key=lambda line: line["t"])
