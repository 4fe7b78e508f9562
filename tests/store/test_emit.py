"""emit: progress and log of a running job."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from jobq.store import keys
from jobq.store.store import Claim, Store
from tests.store.conftest import Memory
from tests.store.support import Lane, dump, finished, lose_all, new_id, server_ms, settled, submitted

ENTRIES = [(1, "progress", '{"done":1}'), (2, "log", "zeile ä\n"), (3, "progress", '{"done":[],"of":9007199254740993}')]


async def claimed(lane: Lane) -> Claim:
    """A new job that runs."""
    await submitted(lane.store)
    [claim] = await lane.claim()
    return claim


async def entries(redis: Redis, job_id: str) -> list[tuple[str, str, str]]:
    """Id, kind and data of what the job emitted."""
    return [(i, fields["kind"], fields["data"]) for i, fields in await redis.xrange(keys.emitted(job_id))]


async def test_in_order_and_byte_for_byte(store: Store, redis: Redis, lane: Lane) -> None:
    """Entries are numbered within the attempt and stamped with the server's time; the last progress is at hand."""
    claim = await claimed(lane)
    before = await server_ms(redis)

    assert "ok" == await store.emit(claim.job_id, claim.token, 1, ENTRIES)

    assert [(f"1-{n}", kind, data) for n, kind, data in ENTRIES] == await entries(redis, claim.job_id)
    for _, fields in await redis.xrange(keys.emitted(claim.job_id)):
        assert before <= int(fields["at"]) <= await server_ms(redis)
    assert {claim.job_id: ENTRIES[2][2]} == await redis.hgetall("job_progress")


async def test_a_log_line_is_no_progress(store: Store, redis: Redis, lane: Lane) -> None:
    """Other kinds are kept in the stream alone."""
    claim = await claimed(lane)
    await store.emit(claim.job_id, claim.token, 1, [(1, "progress", "5"), (2, "log", "x"), (3, "other", "y")])

    assert ["progress", "log", "other"] == [kind for _, kind, _ in await entries(redis, claim.job_id)]
    assert {claim.job_id: "5"} == await redis.hgetall("job_progress")


async def test_the_same_call_twice(store: Store, redis: Redis, lane: Lane) -> None:
    """A call whose reply was lost may be sent again: nothing is added or changed."""
    claim = await claimed(lane)
    await store.emit(claim.job_id, claim.token, 1, ENTRIES)
    before = await dump(redis)

    assert "ok" == await store.emit(claim.job_id, claim.token, 1, ENTRIES)
    assert before == await dump(redis)


async def test_a_late_repetition(store: Store, redis: Redis, lane: Lane) -> None:
    """A call that arrives again after a later one does not set the progress back."""
    claim = await claimed(lane)
    early, late = [(1, "progress", "5")], [(2, "progress", "9")]
    await store.emit(claim.job_id, claim.token, 1, early)
    await store.emit(claim.job_id, claim.token, 1, late)
    before = await dump(redis)

    assert "ok" == await store.emit(claim.job_id, claim.token, 1, early)
    assert before == await dump(redis)


async def test_partly_new(store: Store, redis: Redis, lane: Lane) -> None:
    """Of a call that begins with entries known already the rest is added."""
    claim = await claimed(lane)
    await store.emit(claim.job_id, claim.token, 1, ENTRIES[:2])
    await store.emit(claim.job_id, claim.token, 1, ENTRIES)

    assert ["1-1", "1-2", "1-3"] == [i for i, _, _ in await entries(redis, claim.job_id)]
    assert {claim.job_id: ENTRIES[2][2]} == await redis.hgetall("job_progress")


async def test_attempts_follow_each_other(store: Store, redis: Redis, lane: Lane) -> None:
    """The next attempt counts from one again, behind what the last one emitted."""
    first = await claimed(lane)
    await store.emit(first.job_id, first.token, 1, [(7, "log", "first")])
    await lane.settle(settled(first, "retry", retries=1))
    [second] = await lane.claim()

    assert "ok" == await store.emit(second.job_id, second.token, 2, [(1, "log", "second")])
    assert [("1-7", "log", "first"), ("2-1", "log", "second")] == await entries(redis, first.job_id)


@pytest.mark.parametrize("token", ["w1.0.1.2", "", "w1.0.1.1 "])
async def test_another_token(store: Store, redis: Redis, lane: Lane, token: str) -> None:
    """Whoever does not hold the job is `stale`, and no key changes."""
    claim = await claimed(lane)
    before = await dump(redis)

    assert "stale" == await store.emit(claim.job_id, token, 1, ENTRIES)
    assert before == await dump(redis)


async def test_what_does_not_run(store: Store, redis: Redis, lane: Lane) -> None:
    """Jobs that wait, are over, were reaped or never were are `stale`, and no key changes."""
    over = await finished(lane)
    reaped = await claimed(lane)
    await lose_all(redis)
    await store.reap(3)
    before = await dump(redis)

    for job_id, token in ((over, "w1.0.1.1"), (reaped.job_id, reaped.token), (new_id(), ""), (new_id(), "x")):
        assert "stale" == await store.emit(job_id, token, 1, ENTRIES)
    assert before == await dump(redis)


async def test_an_attempt_that_was_replaced(store: Store, redis: Redis, lane: Lane) -> None:
    """A worker that was frozen while another took over adds nothing to its successor's log."""
    mine = await claimed(lane)
    await lose_all(redis)
    await store.reap(3)
    [theirs] = await Lane(store, "w2").claim()
    await store.emit(theirs.job_id, theirs.token, 2, [(1, "progress", "5")])
    before = await dump(redis)

    assert "stale" == await store.emit(mine.job_id, mine.token, 1, ENTRIES)
    assert before == await dump(redis)


async def test_the_stream_is_bounded(store: Store, redis: Redis, lane: Lane) -> None:
    """A job that emits without end keeps about the last thousand entries, and the last progress."""
    claim = await claimed(lane)
    for start in range(1, 3000, 500):
        await store.emit(claim.job_id, claim.token, 1, [(n, "progress", str(n)) for n in range(start, start + 500)])

    assert 1000 <= await redis.xlen(keys.emitted(claim.job_id)) <= 1100
    assert "1-3000" == (await entries(redis, claim.job_id))[-1][0]
    assert {claim.job_id: "3000"} == await redis.hgetall("job_progress")


async def test_a_stream_of_another_type(store: Store, redis: Redis, lane: Lane) -> None:
    """Somebody else's value under the log's name costs the log alone: it stays, and the job goes on."""
    claim = await claimed(lane)
    await redis.set(keys.emitted(claim.job_id), "mine")

    assert "ok" == await store.emit(claim.job_id, claim.token, 1, ENTRIES)
    assert "mine" == await redis.get(keys.emitted(claim.job_id))
    assert {claim.job_id: ENTRIES[2][2]} == await redis.hgetall("job_progress")
    assert ["ok"] == await lane.settle(settled(claim, "complete"))


async def test_nothing_is_nothing(store: Store, redis: Redis, lane: Lane) -> None:
    """A call without entries tells the holder that it still holds, and writes nothing."""
    claim = await claimed(lane)
    before = await dump(redis)

    assert "ok" == await store.emit(claim.job_id, claim.token, 1, [])
    assert before == await dump(redis)


async def test_full_memory(store: Store, memory: Memory, lane: Lane) -> None:
    """At the memory limit running jobs emit on."""
    claim = await claimed(lane)
    await memory.fill()

    assert "ok" == await store.emit(claim.job_id, claim.token, 1, ENTRIES)
