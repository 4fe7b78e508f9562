"""The heartbeat: its own thread and connection, so that a task that blocks the event loop keeps its lease."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from jobq.store.store import RETRIABLE, Heart
from jobq.telemetry import logger

LONGEST_BEAT = 1.0
"""Seconds: a cancel is heard with a heartbeat, and nobody wants to wait a third of a long lease for that."""
GRACE = 5.0
"""Seconds beyond its timeout for which a job's lease is still extended. After that it is stuck, and is reaped."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the server says of a job this worker holds: `lost`, or `cancel` with its reason."""

    token: str
    word: str
    reason: str


class Leases:
    """Extends what the worker holds. `tell` is called from the heartbeat's thread."""

    def __init__(self, heart: Heart, lease: float, tell: Callable[[list[Verdict]], None]) -> None:
        self._heart = heart
        self._lease = lease
        self._tell = tell
        self.last_beat = time.monotonic()
        """When the leases were last extended, or there was none to extend."""
        self._held: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="jobq-heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._heart.close()

    def hold(self, token: str, job_id: str, timeout: float | None) -> None:
        """Extend this lease until `drop`, but never beyond the job's timeout and grace."""
        end = float("inf") if timeout is None else time.monotonic() + timeout + GRACE
        with self._lock:
            self._held[token] = (job_id, end)

    def drop(self, token: str) -> None:
        with self._lock:
            self._held.pop(token, None)

    def _beat_on(self) -> None:
        interval = pause = min(self._lease / 3, LONGEST_BEAT)
        while not self._stop.wait(pause):
            pause = interval
            try:
                self._beat()
            except RETRIABLE as error:
                # Soon again: a beat that found a dead connection took a third of a short lease to notice.
                pause = interval / 5
                logger().warning("heartbeat failed", error=f"{type(error).__name__}: {error}"[:200])

    def _beat(self) -> None:
        with self._lock:
            now = time.monotonic()
            held = [(job_id, token) for token, (job_id, end) in self._held.items() if now < end]
        answers = self._heart.beat(held, round(self._lease * 1000))
        self.last_beat = time.monotonic()
        verdicts = [
            Verdict(token, word, reason)
            for (_, token), (word, reason) in zip(held, answers, strict=True)
            if word != "ok"
        ]
        if verdicts:
            self._tell(verdicts)
