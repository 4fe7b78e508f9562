"""Calls that come in one turn of the event loop are made as one."""

from __future__ import annotations

import asyncio

import pytest

from jobq.errors import CorruptRecord
from jobq.store.store import STORED_BATCH, Store, Submission
from jobq.store.together import Together


class Calls:
    """What was asked for, call by call; each is answered with its double once `go` is set."""

    def __init__(self) -> None:
        self.made: list[list[int]] = []
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, asked: list[int]) -> list[int]:
        self.made.append(asked)
        await self.go.wait()
        if 13 in asked:
            raise ValueError("thirteen")
        return [2 * number for number in asked]


async def test_one_turn_is_one_call() -> None:
    """Whoever asks in the same turn shares a call, and each gets its own answer."""
    calls = Calls()
    together = Together(calls, most=10)
    assert [0, 2, 4] == await asyncio.gather(*map(together, range(3)))
    assert 8 == await together(4)
    assert [[0, 1, 2], [4]] == calls.made


async def test_no_call_is_larger_than_most() -> None:
    """More than fit into one call become several, side by side."""
    calls = Calls()
    together = Together(calls, most=2)
    assert [0, 2, 4, 6, 8] == await asyncio.gather(*map(together, range(5)))
    assert [[0, 1], [2, 3], [4]] == calls.made


async def test_an_error_is_everybodys() -> None:
    """When the call fails, all who shared it hear of it, and the next call is not concerned."""
    together = Together(Calls(), most=10)
    answers = await asyncio.gather(together(1), together(13), return_exceptions=True)
    assert ["thirteen", "thirteen"] == [str(error) for error in answers]
    assert 2 == await together(1)


async def test_who_leaves_does_not_take_the_others_along() -> None:
    """A caller that is cancelled in mid-call leaves the call to those who share it."""
    calls = Calls()
    calls.go.clear()
    together = Together(calls, most=10)
    leaving, staying = asyncio.create_task(together(1)), asyncio.create_task(together(2))
    while not calls.made:
        await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    calls.go.set()
    assert 4 == await staying
    assert [[1, 2]] == calls.made


async def test_jobs_read_together_have_errors_of_their_own(store: Store) -> None:
    """A job whose past attempts are no list harms nobody who is read in the same call."""
    ids = [f"00000000-0000-7000-8000-{number:012}" for number in range(STORED_BATCH + 2)]
    rows = [Submission(job_id, "hello", "default", 0, "", "", "", b"{}") for job_id in ids]
    await store.submit(rows)
    await store._client.set(f"job:{ids[1]}:attempts", "no list")
    answers = await asyncio.gather(*map(store.stored, ids), return_exceptions=True)
    assert [1] == [number for number, answer in enumerate(answers) if isinstance(answer, CorruptRecord)]
    assert all(ids[number].encode() in answer.record for number, answer in enumerate(answers) if number != 1)  # type: ignore[union-attr]
