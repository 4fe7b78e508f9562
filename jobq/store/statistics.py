"""What the scripts counted: rates of the last minute, and the last hour in slots. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from jobq.store import keys
from jobq.store.pages import text

SLOT = 10
"""Seconds of one slot."""
RATE_SLOTS = 6
"""Whole slots that a rate is taken over: the last minute."""
HISTORY = 360
"""Slots that the scripts keep: one hour."""


class Slot(NamedTuple):
    """What happened in all queues within ten seconds."""

    at: int
    """When it began, ms."""
    counts: dict[str, int]
    """`in`, `completed`, `failed`, `cancelled`, `retried`, `lost`: those that happened."""


async def read_rates(client: Any, now: int) -> dict[str, dict[str, float]]:
    """By queue, jobs a second over the last minute."""
    whole = now // (SLOT * 1000)
    totals: dict[str, Counter[str]] = {}
    for counts in await _read(client, range(whole - RATE_SLOTS, whole)):
        for (queue, word), number in counts.items():
            totals.setdefault(queue, Counter())[word] += number
    seconds = SLOT * RATE_SLOTS
    return {queue: {word: n / seconds for word, n in words.items()} for queue, words in totals.items()}


async def read_history(client: Any, now: int, since: int) -> list[Slot]:
    """The whole slots of the last hour that began at `since` or later, ms, oldest first: empty ones too."""
    whole = now // (SLOT * 1000)
    numbers = range(max(whole - HISTORY, -(-since // (SLOT * 1000))), whole)
    slots = []
    for number, counts in zip(numbers, await _read(client, numbers), strict=True):
        together: Counter[str] = Counter()
        for (_, word), n in counts.items():
            together[word] += n
        slots.append(Slot(number * SLOT * 1000, dict(together)))
    return slots


async def _read(client: Any, numbers: Iterable[int]) -> list[dict[tuple[str, str], int]]:
    """Of each slot, how often a word was counted in a queue."""
    pipe = client.pipeline(transaction=False)
    for number in numbers:
        pipe.hgetall(keys.NAMES["stats"] + str(number))
    # What somebody else keeps under that name answers with an error, and counts as nothing.
    answers = await pipe.execute(raise_on_error=False)
    return [{_parts(k): int(n) for k, n in a.items()} if isinstance(a, dict) else {} for a in answers]


def _parts(name: bytes) -> tuple[str, str]:
    queue, _, word = text(name).partition("|")
    return queue, word
