"""The command line: `python -m jobq VERB`, or `jobq VERB`.

`serve.py` and `verbs.py` import what parsing needs and no more, so that `--help` answers at once; each command imports
the rest.
"""

from __future__ import annotations

from collections.abc import Callable

from jobq.cli import serve, verbs
from jobq.cli.frame import EPILOG, add_commands, make_typer, run_typer
from jobq.cli.options import Burst, Concurrency, DrainTimeout, Processes, Queues

__all__ = ["Burst", "Concurrency", "DrainTimeout", "Processes", "Queues", "app", "main", "run_command"]

app = make_typer(no_args_is_help=True, help="An async job queue.", epilog=EPILOG)
serve.add_to(app)
verbs.add_to(app)


def run_command(function: Callable[..., None]) -> None:
    """Run a function as the only command of a program, as `main` runs ours."""
    command = make_typer()
    add_commands(command, function)
    run_typer(command)


def main() -> None:
    run_typer(app)
