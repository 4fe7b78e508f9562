"""The JSON reader of the HTTP side."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobq.http import strict

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(values)
def test_reads_what_json_writes(value: Any) -> None:
    """Legal JSON is read as Python's own reader does."""
    assert strict.loads(json.dumps(value).encode()) == value


@given(st.binary())
def test_refuses_with_value_error_only(body: bytes) -> None:
    """Whatever the bytes are, they are read or refused; what was read can be written as UTF-8."""
    try:
        value = strict.loads(body)
    except ValueError:
        return
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize("depth", [32, 33])
@pytest.mark.parametrize("pair", [('{"a":', "}", "{}"), ("[", "]", "[]"), ("[", "]", '[1,"[[[{"]')])
def test_depth(depth: int, pair: tuple[str, str, str]) -> None:
    """32 levels are read, 33 are not; brackets in strings are no levels."""
    opening, closing, inmost = pair
    text = opening * (depth - 1) + inmost + closing * (depth - 1)
    if depth == 32:
        assert strict.loads(text.encode()) == json.loads(text)
    else:
        with pytest.raises(ValueError, match="more than 32 deep"):
            strict.loads(text.encode())


@pytest.mark.parametrize("text", [b"1e400", b"-0", b'{"n":' + b"9" * 5_000 + b"}", b'"\\ud800"'])
def test_what_may_be_shown(text: bytes) -> None:
    """Numbers that we would not read ourselves are JSON for those who can."""
    assert strict.is_json(text)


@pytest.mark.parametrize("text", [b"", b"NaN", b"[Infinity]", b"{} {}", b"\xff", b"[" * 100_000, b"'a'"])
def test_what_may_not_be_shown(text: bytes) -> None:
    """What no reader could take for JSON stays out of our own."""
    assert not strict.is_json(text)
