"""`--help`: at once, whatever it is asked about, and with the exit codes."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from jobq.cli import frame
from jobq.errors import (
    BadRequest,
    ConfigError,
    Conflict,
    CorruptRecord,
    InvalidPayload,
    JobCancelled,
    JobFailed,
    JobNotFound,
    JobqError,
    ResultExpired,
    ResultTimeout,
    StoreFull,
    StoreUnavailable,
    UnknownTask,
)
from jobq.launch import AppError
from tests.support.processes import ROOT

VERBS = [
    "up", "worker", "api", "submit", "status", "result", "jobs", "watch", "cancel", "retry", "purge", "queues",
    "workers", "tasks", "doctor", "config",
]  # fmt: skip

HELP = """
import sys
from jobq.cli import main
for command in sys.argv[1].split(","):
    sys.argv[1:] = [*command.split(), "--help"]
    try:
        main()
    except SystemExit as end:
        assert not end.code, command
print({"pydantic", "redis", "fastapi", "uvicorn", "asyncio", "rich"} & set(sys.modules))
"""


def test_help_loads_nothing_that_takes_long() -> None:
    """Every verb's help has its options and the reason to use it, and imports neither pydantic nor rich."""
    commands = ["", *VERBS, "queues pause", "queues resume"]
    run = subprocess.run(
        [sys.executable, "-c", HELP, ",".join(commands)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.endswith("set()\n")
    assert run.stdout.count("Usage: ") == len(commands)
    for verb in VERBS:
        assert re.search(rf"^  {verb} +[A-Z]", run.stdout, re.MULTILINE), verb


def test_the_readme_has_the_exit_codes_of_the_help() -> None:
    """Word for word."""
    readme = (ROOT / "README.md").read_text()
    codes = re.findall(r"^  (\d+) +(.+)$", frame.EPILOG, re.MULTILINE)
    assert len(codes) == 9
    for code, meaning in codes:
        assert f"| {code} | {meaning} |" in readme


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (JobFailed("x"), 1),
        (JobCancelled("x"), 1),
        (BadRequest("x"), 2),
        (InvalidPayload("x"), 2),
        (ConfigError("x"), 2),
        (AppError("x"), 3),
        (JobNotFound("x"), 4),
        (ResultExpired("x"), 4),
        (UnknownTask("x"), 4),
        (Conflict("x"), 5),
        (CorruptRecord("x"), 5),
        (StoreUnavailable("x"), 69),
        (StoreFull("x"), 69),
        (ResultTimeout("x"), 124),
    ],
)
def test_exit_codes(error: JobqError, code: int) -> None:
    """Each error has the one that fits it best."""
    assert frame.exit_code(error) == code
