"""leave: a worker has stopped."""

from __future__ import annotations

from redis.asyncio import Redis

from jobq.store.inspect import Inspector
from jobq.store.store import Store
from tests.store.conftest import Memory
from tests.store.support import LONG, Lane, dump, held, submitted


async def test_nothing_is_left(store: Store, redis: Redis, inspector: Inspector) -> None:
    """Presence and orders of the worker go; other workers stay."""
    await store.present("w2", "{}", LONG)
    before = await dump(redis)
    await store.present("w1", "{}", LONG)
    await inspector.order("w1", "stop")

    await store.leave("w1")

    assert {**before, "job_workers": await redis.zrange("job_workers", 0, -1, withscores=True)} == await dump(redis)
    assert ["w2"] == await redis.zrange("job_workers", 0, -1)


async def test_twice_and_unknown(store: Store, redis: Redis) -> None:
    """Leaving again, or without having been there, changes nothing."""
    await store.present("w2", "{}", LONG)
    before = await dump(redis)
    for worker in ("w1", "w1"):
        await store.leave(worker)

    assert before == await dump(redis)


async def test_leases_are_the_reapers(store: Store, redis: Redis, lane: Lane) -> None:
    """What the worker still holds is not touched."""
    [job_id] = await submitted(store)
    [claim] = await lane.claim()
    await store.leave("w1")

    assert {job_id: claim.token} == await held(redis)


async def test_full_memory(store: Store, redis: Redis, memory: Memory) -> None:
    """At the memory limit workers leave."""
    await store.present("w1", "{}", LONG)
    await memory.fill()
    await store.leave("w1")

    assert {} == await dump(redis)
