"""Cursors: where a page ended, as text that only the list it came from takes back."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Any, TypeVar

from pydantic import TypeAdapter

from jobq.http import strict
from jobq.http.errors import BadCursor

T = TypeVar("T")

LONGEST = 1000
HIGHEST = 2**53


def write(place: Any, of: Any) -> str:
    """The cursor for this place in the list that `of` tells from others."""
    return urlsafe_b64encode(json.dumps([_digest(place, of), place]).encode()).decode().rstrip("=")


def read(cursor: str, kind: type[T], of: Any) -> T:
    """The place, a NamedTuple. Raises BadCursor unless `write` made it of the same list."""
    try:
        if len(cursor) > LONGEST:
            raise ValueError
        digest, place = strict.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if digest != _digest(place, of) or not all(_sensible(part) for part in place):
            raise ValueError
        return TypeAdapter(kind).validate_python(place)
    except (ValueError, TypeError):
        raise BadCursor("the cursor is not from this list: begin without one") from None


def _sensible(part: Any) -> bool:
    """The digest is no secret, and Redis has its limits."""
    return not isinstance(part, int | float) or 0 <= part <= HIGHEST


def _digest(place: Any, of: Any) -> str:
    return sha256(json.dumps([place, of]).encode()).hexdigest()[:16]
