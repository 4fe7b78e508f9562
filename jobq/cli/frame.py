"""What all commands have in common: how they are made, how they end, and with which exit code."""

# ruff: noqa: PLC0415  # see jobq.cli

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from jobq.errors import (
    BadRequest,
    ConfigError,
    Conflict,
    CorruptRecord,
    JobFailed,
    JobNotFound,
    JobqError,
    ResultTimeout,
    StoreUnavailable,
    UnknownTask,
)

FAILED, USAGE, NO_APP, NOT_FOUND, CONFLICT, NO_SERVER, TIMED_OUT, INTERRUPTED = 1, 2, 3, 4, 5, 69, 124, 130

# A line with nothing but \b keeps the paragraph below it as it is.
EPILOG = """\b
Exit codes:
  0    all went well
  1    the job failed or was cancelled, or doctor found errors
  2    wrong usage, a payload that does not fit, or a wrong setting
  3    the app cannot be imported
  4    there is no such job, task or queue
  5    the job's state does not allow it
  69   no server can be used
  124  the job was not over in time
  130  interrupted
"""

_CODES: dict[type[JobqError], int] = {
    UnknownTask: NOT_FOUND,
    BadRequest: USAGE,
    ConfigError: USAGE,
    JobNotFound: NOT_FOUND,
    Conflict: CONFLICT,
    CorruptRecord: CONFLICT,
    JobFailed: FAILED,
    ResultTimeout: TIMED_OUT,
    StoreUnavailable: NO_SERVER,
}


class Command(TyperCommand):
    """Shows its help before typer imports pydantic, which it would do to read the flag `--help`."""

    def parse_args(self, context: Any, arguments: list[str]) -> list[str]:
        if "--help" in arguments:
            typer.echo(context.get_help())
            context.exit()
        return super().parse_args(context, arguments)


class Group(TyperGroup):
    """The same for commands with commands of their own."""

    def parse_args(self, context: Any, arguments: list[str]) -> list[str]:
        if "--help" in arguments:
            at = next((at for at, name in enumerate(arguments) if name in self.commands), len(arguments))
            if "--help" in arguments[at + 1 :]:
                self.commands[arguments[at]].make_context(arguments[at], arguments[at + 1 :], parent=context)
            typer.echo(context.get_help())
            context.exit()
        return super().parse_args(context, arguments)


def make_typer(**about: Any) -> typer.Typer:
    # Without rich: its import alone takes longer than all the rest, and its tracebacks show local variables.
    return typer.Typer(cls=Group, rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False, **about)


def add_commands(to: typer.Typer, *functions: Callable[..., None]) -> None:
    for function in functions:
        to.command(cls=Command)(function)


def run_typer(command: typer.Typer) -> None:
    """Run it. What went wrong on purpose ends the process with one line on stderr and the exit code for it."""
    try:
        command()
    except JobqError as error:
        if error.__cause__ and isinstance(error, ConfigError):
            traceback.print_exception(error.__cause__)
        print(f"jobq: {clean(error)}", file=sys.stderr)
        sys.exit(exit_code(error))


def exit_code(error: JobqError) -> int:
    if isinstance(error, ConfigError):
        from jobq.launch import AppError

        return NO_APP if isinstance(error, AppError) else USAGE
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), FAILED)


def clean(value: object) -> str:
    """One line that cannot command a terminal or add a column, whoever wrote it."""
    text = "" if value is None else str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
