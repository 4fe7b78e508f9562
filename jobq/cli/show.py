"""What is printed: tables and details on a terminal, tab-separated values in a pipe, or one JSON document."""

# ruff: noqa: PLC0415  # rich takes long to import and only a table on a terminal needs it

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, TextIO

from pydantic import BaseModel

from jobq.cli.frame import clean
from jobq.http.timeline import rfc3339

COLOURS = {
    "completed": "green", "failed": "red", "cancelled": "yellow", "processing": "cyan", "ok": "green",
    "warning": "yellow", "error": "red", "paused": "yellow",
}  # fmt: skip


SHORTEST = 12
"""Characters of the last column that are shown in any case."""


def on_terminal() -> bool:
    return sys.stdout.isatty()


def notice(text: str) -> None:
    print(clean(text), file=sys.stderr)


def document(value: Any) -> None:
    _print_json(json.dumps(value, ensure_ascii=False, indent=2 if on_terminal() else None))


def model(value: BaseModel, exclude: Any = None) -> None:
    _print_json(value.model_dump_json(indent=2 if on_terminal() else None, exclude=exclude))


def raw(text: bytes) -> None:
    """JSON as it is stored: to decode and encode it would harm big numbers."""
    _print_json(text.decode())


def _print_json(text: str) -> None:
    if on_terminal():
        # What could command it stands inside of strings, where JSON has its own way to write it.
        text = "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    print(text)


def rows(columns: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    """A line for each; the names of the columns are for people only. The last column may be long."""
    cells = [[clean(cell) for cell in line] for line in lines]
    if not on_terminal():
        for line in cells:
            print("\t".join(line))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column, no_wrap=True, overflow="ellipsis", min_width=width)
    # Only the last column may be cut off, where the terminal ends; ids stay whole, to be copied.
    most = max(shutil.get_terminal_size().columns - sum(widths[:-1]) - 2 * len(widths[:-1]), len(columns[-1]), SHORTEST)
    table.columns[-1].min_width, table.columns[-1].max_width = None, most
    for line in cells:
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in line))
    Console(width=sum(widths) + 2 * len(widths), highlight=False).print(table)


def fields(known: Iterable[tuple[str, object]]) -> None:
    """A line for each field that has a value."""
    shown = [(name, clean(value)) for name, value in known if value not in (None, "")]
    width = max(len(name) for name, _ in shown) if on_terminal() else 0
    for name, value in shown:
        print(f"{name:<{width}}  {value}" if on_terminal() else f"{name}\t{value}")


def moment(ms: int | None) -> str:
    """How long ago or ahead for people, RFC 3339 for programs."""
    if not ms or not on_terminal():
        return rfc3339(ms) or ""
    ago = time.time() - ms / 1000
    return f"{age(ago)} ago" if ago >= 0 else f"in {age(-ago)}"


def age(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if not on_terminal():
        return f"{seconds:.3f}"
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 1.9 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?`, or nothing."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


class Board:
    """Lines that are rewritten in place on a terminal; elsewhere there is nothing to see."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._drawn: list[str] = []

    def draw(self, lines: Sequence[str]) -> None:
        width = shutil.get_terminal_size().columns - 1
        shown = [clean(line)[:width] for line in lines]
        if not self._live or shown == self._drawn:
            return
        up = f"\x1b[{len(self._drawn)}A" if self._drawn else ""
        self._stream.write(up + "".join(f"\r\x1b[K{line}\n" for line in shown))
        self._stream.flush()
        self._drawn = shown
