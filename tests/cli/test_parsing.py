"""What is typed after `submit`, and durations."""

from __future__ import annotations

import json

import pytest
import typer

from jobq.cli.options import duration
from jobq.cli.submit import options, payload
from jobq.errors import BadRequest


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("5m", 300), ("2h", 7200), ("1d", 86400), ("1h30m", 5400), ("0.5", 0.5), ("90", 90), ("1.5h", 5400)],
)
def test_durations(text: str, seconds: float) -> None:
    """With units, joined units, or a bare number of seconds."""
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1w", "nan", "inf", "1 h", "h1", "1h30"])
def test_what_is_no_duration(text: str) -> None:
    """Anything else is refused, and the message shows how it is written."""
    with pytest.raises(typer.BadParameter, match="10s, 5m"):
        duration(text)


def test_arguments_one_by_one() -> None:
    """`=` is text whatever it looks like, `:=` is JSON; only the first of them counts."""
    given = payload(["a=1", "b:=1", "c=x=y", "d:=[true, null]", "e=", "f=a:=b", 'g="'], None)
    assert json.loads(given) == {"a": "1", "b": 1, "c": "x=y", "d": [True, None], "e": "", "f": "a:=b", "g": '"'}
    assert payload([], None) == b""


@pytest.mark.parametrize(
    "arguments", [["a"], ["=1"], [":=1"], ["a:=x"], ["a:=NaN"], ["a:=" + "[" * 100_000], ["a=1", "a=2"]]
)
def test_arguments_that_are_none(arguments: list[str]) -> None:
    """Each is refused before anything is stored."""
    with pytest.raises(BadRequest):
        payload(arguments, None)


@pytest.mark.parametrize("whole", ["[]", "x", "", "1", '{"a": NaN}'])
def test_a_payload_is_an_object(whole: str) -> None:
    """Any other JSON is refused."""
    with pytest.raises(BadRequest, match="--payload"):
        payload([], whole)


def test_arguments_come_in_one_way() -> None:
    """Not both ways at once."""
    with pytest.raises(BadRequest, match="or all of them"):
        payload(["a=1"], "{}")


@pytest.mark.parametrize(
    "text", ["tomorrow", "2030-01-31", "2030-01-31T12:00:00", "1893499200", "2030-13-01T00:00:00Z"]
)
def test_a_time_has_its_zone(text: str) -> None:
    """RFC 3339 and nothing else."""
    with pytest.raises(BadRequest, match="--run-at"):
        options(run_at=text)
    assert options(run_at="2030-01-31T12:00:00+01:00")["run_at"].utcoffset()  # type: ignore[union-attr]
