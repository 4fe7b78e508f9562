"""heartbeat: extends leases that are still held."""

from __future__ import annotations

from redis.asyncio import Redis

from jobq.store.store import Heart, Store
from tests.store.conftest import Memory
from tests.store.support import LONG, PAST, Lane, dump, held, lose_all, new_id, server_ms, settled, submitted


async def test_extends_a_lease(store: Store, redis: Redis, lane: Lane, heart: Heart) -> None:
    """The holder's lease runs until the server's time plus the lease, whatever it was before."""
    [job_id] = await submitted(store)
    [claim] = await lane.claim()
    before = await server_ms(redis)

    assert [("ok", "")] == heart.beat([(job_id, claim.token)], 5_000)

    deadline = await redis.zscore("job_leases", job_id)
    assert before + 5_000 <= deadline <= await server_ms(redis) + 5_000
    assert {job_id: claim.token} == await held(redis)


async def test_keeps_a_job_from_the_reaper(store: Store, redis: Redis, lane: Lane, heart: Heart) -> None:
    """A lease that ran out but was not yet reaped is extended: its holder lives."""
    [job_id] = await submitted(store)
    [claim] = await lane.claim()
    await lose_all(redis)

    assert [("ok", "")] == heart.beat([(job_id, claim.token)], LONG)
    assert [] == await store.reap(3)


async def test_another_token_is_lost(store: Store, redis: Redis, lane: Lane, heart: Heart) -> None:
    """A wrong token is told `lost`, and no key changes."""
    [job_id] = await submitted(store)
    await lane.claim()
    before = await dump(redis)

    assert [("lost", "")] == heart.beat([(job_id, "w1.0.1.2")], LONG)
    assert before == await dump(redis)


async def test_what_is_not_held_is_lost(store: Store, redis: Redis, lane: Lane, heart: Heart) -> None:
    """Jobs that are settled, reaped, claimed by another or unknown are told `lost`; none gets a lease again."""
    settled_id, reaped_id, taken_id = await submitted(store, 3)
    claims = await lane.claim(3)
    await lane.settle(settled(claims[0], "complete"))
    await lose_all(redis)
    await store.reap(3)
    [theirs] = await Lane(store, "w2").claim()
    assert theirs.job_id in (reaped_id, taken_id)
    before = await dump(redis)

    pairs = [(claim.job_id, claim.token) for claim in claims] + [(new_id(), "w1.0.1.9")]
    assert [("lost", "")] * 4 == heart.beat(pairs, LONG)
    assert before == await dump(redis)
    assert settled_id not in await held(redis)


async def test_a_cancel_comes_with_its_reason(store: Store, redis: Redis, lane: Lane, heart: Heart) -> None:
    """A job whose cancel was asked for is told so, with the first reason given, and its lease is extended."""
    cancelled, going_on = await submitted(store, 2)
    claims = await lane.claim(2)
    await store.cancel(cancelled, "no need", "{}")
    await store.cancel(cancelled, "another", "{}")
    await lose_all(redis)

    pairs = [(claim.job_id, claim.token) for claim in claims]
    assert [("cancel", "no need"), ("ok", "")] == heart.beat(pairs, LONG)
    assert await redis.zscore("job_leases", cancelled) > PAST
    assert [("cancel", "no need"), ("ok", "")] == heart.beat(pairs, LONG)
    assert await redis.zscore("job_leases", going_on) > PAST


async def test_an_empty_reason_is_a_cancel_too(store: Store, lane: Lane, heart: Heart) -> None:
    """A cancel without a reason is heard."""
    [job_id] = await submitted(store)
    [claim] = await lane.claim()
    await store.cancel(job_id, "", "{}")

    assert [("cancel", "")] == heart.beat([(job_id, claim.token)], LONG)


async def test_a_cancel_is_for_the_holder(store: Store, lane: Lane, heart: Heart) -> None:
    """Who has lost the job hears `lost`, not the cancel."""
    [job_id] = await submitted(store)
    await lane.claim()
    await store.cancel(job_id, "secret", "{}")

    assert [("lost", "")] == heart.beat([(job_id, "w9.0.1.1")], LONG)


async def test_many(store: Store, redis: Redis, lane: Lane, heart: Heart) -> None:
    """Verdicts come in the order of the pairs, over several calls of the script."""
    await submitted(store, 600)
    claims = [claim for _ in range(3) for claim in await lane.claim(200)]
    await lose_all(redis)
    pairs = [(claim.job_id, claim.token if n % 3 else "wrong") for n, claim in enumerate(claims)]

    assert [("ok" if n % 3 else "lost", "") for n in range(600)] == heart.beat(pairs, LONG)
    assert 200 == await redis.zcount("job_leases", "-inf", PAST)


def test_nothing_held_nothing_said(heart: Heart) -> None:
    """Without a job there is nothing to extend."""
    assert [] == heart.beat([], LONG)


async def test_full_memory(store: Store, redis: Redis, memory: Memory, lane: Lane, heart: Heart) -> None:
    """At the memory limit leases are extended on."""
    [job_id] = await submitted(store)
    [claim] = await lane.claim()
    await memory.fill()

    assert [("ok", "")] == heart.beat([(job_id, claim.token)], LONG)
