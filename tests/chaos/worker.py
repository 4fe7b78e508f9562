"""A worker of a run: `python -m jobq worker`, with a guard broken or a death ahead of it if the run asks for that."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobq.cli import main
from jobq.record import parse
from jobq.store.store import Claim, Pumped, Settlement, Store
from tests.chaos.history import History
from tests.chaos.sabotage import sabotage


def die(place: str, number: int) -> None:
    """Kill this process at the `number`th time that it comes to a place: `after_claim`, a reply with jobs that have
    not begun; `before_settle`, a call with the outcomes of jobs that have ended."""
    pump, left = Store.pump, number

    async def pumped(self: Store, lane: Any, seq: int, settles: Sequence[Settlement], want: int, **limits: Any) -> Any:
        nonlocal left
        if place == "before_settle" and settles:
            left -= 1
            if not left:
                _die(place, [])
        answer: Pumped = await pump(self, lane, seq, settles, want, **limits)
        if place == "after_claim" and answer.claims:
            left -= 1
            if not left:
                _die(place, answer.claims)
        return answer

    Store.pump = pumped  # type: ignore[method-assign]


def _die(place: str, claims: Sequence[Claim]) -> None:
    history = History(Path(os.environ["CHAOS_HISTORY"]))
    for claim in claims:
        attempt = parse(claim.job_id, claim.record).attempt
        history.write("claim", job=claim.job_id, attempt=attempt, pid=os.getpid())
    history.write("fault", pid=os.getpid(), text=place)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if name := os.environ.get("CHAOS_SABOTAGE"):
        sabotage(name)
    if death := os.environ.get("CHAOS_DIE"):
        place, _, number = death.partition(":")
        die(place, int(number))
    sys.argv = ["jobq", *sys.argv[1:]]
    main()
