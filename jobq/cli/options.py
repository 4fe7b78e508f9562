"""The options that several commands share, and how flags reach the settings."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

App = Annotated[str | None, typer.Option(help="Where your registry is, as module:attribute.", show_default=False)]
Host = Annotated[str | None, typer.Option(help="The address to listen on.", show_default=False)]
Port = Annotated[int | None, typer.Option(help="The port to listen on; 0 takes any free one.", show_default=False)]
RedisUrl = Annotated[
    str | None, typer.Option(help="The Redis or Valkey to use, instead of the embedded server.", show_default=False)
]
DataDir = Annotated[
    Path | None, typer.Option(help="The folder of the embedded server.", show_default=False, resolve_path=True)
]
Concurrency = Annotated[int | None, typer.Option(help="How many jobs a worker runs at once.", show_default=False)]
Queues = Annotated[
    str | None, typer.Option(help="The queues to serve, separated by commas, the first one first.", show_default=False)
]
DrainTimeout = Annotated[
    float | None, typer.Option(help="Seconds that running jobs have to finish when told to stop.", show_default=False)
]
Processes = Annotated[int, typer.Option(help="How many worker processes to run and to keep running.", min=1)]
Burst = Annotated[bool, typer.Option("--burst", help="End as soon as there is nothing to do.")]
Demo = Annotated[bool, typer.Option("--demo", help="Submit one job of each task and show how they end.")]
Once = Annotated[bool, typer.Option("--once", help="Stop everything when the jobs of --demo are over.")]
Reload = Annotated[bool, typer.Option("--reload", help="Start API and worker again when a .py file changes.")]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Listen on any address without JOBQ_API_KEY: everyone there is let in.")
]


UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
BARE = re.compile(r"\d+(?:\.\d+)?")
PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
WITH_UNITS = re.compile(f"(?:{PART.pattern})+")


def duration(text: str) -> float:
    """Seconds of `10s`, `5m`, `2h`, `1d`, `1h30m`, or of a bare number."""
    if BARE.fullmatch(text):
        return float(text)
    if not WITH_UNITS.fullmatch(text):
        raise typer.BadParameter(f"{text!r}: expected 10s, 5m, 2h, 1d or a number of seconds")
    return sum(float(number) * UNITS[unit] for number, unit in PART.findall(text))


def as_environment(**flags: object) -> None:
    """A flag becomes a JOBQ_ variable of this process: settings, a config.py and child processes all see it there."""
    os.environ.update({f"JOBQ_{name.upper()}": str(value) for name, value in flags.items() if value is not None})
