"""Breaker: while the server is away calls fail at once, so that those who ask do not pile up behind its time-outs."""

from __future__ import annotations

import time
from collections.abc import Callable

PAUSE = 0.5
"""Seconds between calls that try whether the server is back."""


class Breaker:
    """Of one store."""

    def __init__(self, pause: float = PAUSE, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause = pause
        self._clock = clock
        self._next_try: float | None = None
        """None while the server answers."""

    def admits(self) -> bool:
        """Whether to make a call. One at a time may try again, without waiting for an earlier try: that may hang."""
        if self._next_try is None:
            return True
        if self._clock() < self._next_try:
            return False
        self.failed()
        return True

    @property
    def is_open(self) -> bool:
        """The last that was heard is that the server is away."""
        return self._next_try is not None

    def failed(self) -> bool:
        """The server did not answer. True for the first to say so."""
        first, self._next_try = self._next_try is None, self._clock() + self._pause
        return first

    def answered(self) -> None:
        self._next_try = None
