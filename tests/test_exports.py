"""The public names, and that importing them does nothing."""

from __future__ import annotations

import subprocess
import sys
import types

import jobq

QUIET = """
import os, socket, sys
before = set(os.listdir("."))

def refuse(*_):
    raise SystemExit("importing jobq opened a connection")

socket.socket.connect = socket.socket.connect_ex = refuse
import jobq
for name in jobq.__all__:
    getattr(jobq, name)
assert set(os.listdir(".")) == before
assert "fastapi" not in sys.modules
"""


def test_all_is_all_that_is_there() -> None:
    """Every name of `__all__` exists, in order, and there is no other public name but the package's modules."""
    values = {name: getattr(jobq, name) for name in jobq.__all__}
    public = {
        name
        for name, value in vars(jobq).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    } - {"TYPE_CHECKING", "import_module"}

    assert set(values) == public
    assert sorted(jobq.__all__) == jobq.__all__


def test_what_the_readme_needs() -> None:
    """The names that the documentation imports are there."""
    names = {"Client", "Registry", "Retry", "RetryLater", "Discard", "current", "Settings", "JobFailed"}
    assert names <= set(jobq.__all__)


def test_public_classes_are_documented() -> None:
    """Each public name says what it is."""
    assert [] == [name for name in jobq.__all__ if not getattr(jobq, name).__doc__]


def test_a_name_that_is_not_there() -> None:
    """Other names raise as in any module."""
    assert not hasattr(jobq, "Clinet")


def test_an_import_is_quiet() -> None:
    """Importing jobq and all its names opens no connection, writes no file and loads no web framework."""
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, timeout=30)
    assert (0, "") == (done.returncode, done.stderr)
