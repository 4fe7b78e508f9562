"""Loads the Lua scripts and calls them by name.

A script is one file in `lua/`. Its header says what it takes and needs:

    #!lua flags=allow-oom
    -- @args worker lane seq      ->  local worker, lane, seq = ARGV[1], ARGV[2], ARGV[3]
    -- @rows id token             ->  then any number of rows of two; `first_row` and `row_width` say where they start
    -- @include now head          ->  lib/now.lua and lib/head.lua (or a script's part), each once, before the body

`key.<name>` stands for a name from `keys.NAMES`, behind the shard's hash tag. KEYS[1] is always declared: it routes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from jobq.store import keys

TRANSITIONS = (
    "submit", "pump", "adopt", "heartbeat", "emit", "cancel", "retry", "delete", "stage", "missing", "reap", "scrub",
    "expire", "unpark", "prune", "pause", "resume", "purge", "present", "leave",
)  # fmt: skip

LUA = files("jobq.store") / "lua"

_HEADER = re.compile(r"^-- @(args|rows|include) (.+)$", re.MULTILINE)
_KEY = re.compile(r"\bkey\.(\w+)")
_TAG = f"local T = string.sub(KEYS[1], 1, -{len(keys.QUEUE) + 1})"


@dataclass(frozen=True)
class Script:
    """One transition, ready to be sent."""

    name: str
    args: tuple[str, ...]
    row: tuple[str, ...]
    source: str

    @cached_property
    def sha(self) -> str:
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def argv(self, named: dict[str, Any], rows: list[Any]) -> list[Any]:
        """The arguments in the order of the header. A row is flat: its columns follow each other in `rows`."""
        if named.keys() != set(self.args):
            raise TypeError(f"{self.name}.lua takes {self.args}, got {tuple(named)}")

        return [named[name] for name in self.args] + rows

    async def __call__(self, redis: Redis, rows: list[Any] | None = None, /, **named: Any) -> Any:
        argv = self.argv(named, rows or [])
        try:
            return await redis.evalsha(self.sha, 1, keys.QUEUE, *argv)
        except NoScriptError:
            await redis.script_load(self.source)
            return await redis.evalsha(self.sha, 1, keys.QUEUE, *argv)


def load(*, shebang: bool = True) -> dict[str, Script]:
    """All transitions by name. `shebang=False` leaves out the `#!lua` line, for a test double that does not know it."""
    return {name: _load(name, shebang) for name in TRANSITIONS}


def _load(name: str, shebang: bool) -> Script:
    text = (LUA / f"{name}.lua").read_text()
    first_line, _, body = text.partition("\n")
    headers = {kind: tuple(words.split()) for kind, words in _HEADER.findall(text)}
    args, row = headers.get("args", ()), headers.get("rows", ())
    parts = [*_arguments(args, row), *_included(body, seen=set()), body]
    source = _KEY.sub(lambda match: f"(T .. '{keys.NAMES[match[1]]}')", "\n".join(parts))

    return Script(name, args, row, f"{first_line}\n{source}" if shebang else source)


def _arguments(args: tuple[str, ...], row: tuple[str, ...]) -> Iterator[str]:
    yield _TAG
    if args:
        yield f"local {', '.join(args)} = {', '.join(f'ARGV[{i}]' for i in range(1, len(args) + 1))}"
    if row:
        yield f"local first_row, row_width = {len(args) + 1}, {len(row)}"


def _included(text: str, seen: set[str]) -> Iterator[str]:
    for kind, words in _HEADER.findall(text):
        if kind != "include":
            continue
        for name in words.split():
            if name not in seen:
                seen.add(name)
                piece = _find(name).read_text()
                yield from _included(piece, seen)
                yield piece


def _find(name: str) -> Traversable:
    """An included piece: of the library, or a transition's part that lies beside the transition."""
    piece = LUA / "lib" / f"{name}.lua"
    return piece if piece.is_file() else LUA / f"{name}.lua"
