"""What a type checker says about programs that use jobq."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

CHECKED = Path(__file__).with_name("checked.py")
LINES = CHECKED.read_text().splitlines()


@pytest.fixture(scope="module")
def said() -> dict[int, list[str]]:
    """What `mypy --strict` says, by line."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", "--no-pretty",
         "--follow-imports=silent", str(CHECKED)],
        capture_output=True, text=True, timeout=55, cwd=CHECKED.parents[2],
    )  # fmt: skip
    assert "" == done.stderr
    said = defaultdict(list)
    for line in done.stdout.splitlines():
        match = re.fullmatch(r".*checked\.py:(\d+): (.*)", line)
        assert match, line
        said[int(match[1])].append(match[2])
    return said


def expected(mark: str) -> dict[int, str]:
    """Line numbers and what stands behind the mark there."""
    return {n: line.split(mark)[1] for n, line in enumerate(LINES, 1) if mark in line and not line.startswith('"""')}


@pytest.mark.timeout(90)
@pytest.mark.parametrize(("line", "error"), expected("# E: ").items())
def test_errors(said: dict[int, list[str]], line: int, error: str) -> None:
    """A wrong argument or option is an error on its own line."""
    assert [] != [text for text in said[line] if text.startswith(f"error: {error}")], said[line]


@pytest.mark.timeout(90)
@pytest.mark.parametrize(("line", "kind"), expected("# R: ").items())
def test_types(said: dict[int, list[str]], line: int, kind: str) -> None:
    """The type of a result is that of the task's annotation; of a job submitted by name it is Any."""
    [revealed] = said[line]
    name = re.sub(r"(\w+\.)+", "", revealed.removeprefix("note: Revealed type is "))
    assert f'"{kind}"' == name


def test_nothing_else_is_wrong(said: dict[int, list[str]]) -> None:
    """All other lines are fine under --strict."""
    assert {*expected("# E: "), *expected("# R: ")} >= {line for line, texts in said.items() if texts}
