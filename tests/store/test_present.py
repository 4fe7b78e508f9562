"""present: a worker says that it is there, and hears what it is to do."""

from __future__ import annotations

from redis.asyncio import Redis

from jobq.store.inspect import Inspector
from jobq.store.store import Store
from tests.store.conftest import Memory
from tests.store.support import LONG, PAST, dump, pass_ms, server_ms


async def test_is_noted(store: Store, redis: Redis) -> None:
    """What the worker says of itself is kept as it is, and when it was last there."""
    before = await server_ms(redis)

    assert "" == await store.present("w1", '{"host":"ä"}', 5_000)

    assert '{"host":"ä"}' == await redis.get("job_worker:w1")
    assert 4_000 < await redis.pttl("job_worker:w1") <= 5_000
    assert before <= await redis.zscore("job_workers", "w1") <= await server_ms(redis)
    assert {"job_worker:w1", "job_workers"} == set(await dump(redis))


async def test_again(store: Store, redis: Redis) -> None:
    """The last word counts, and prolongs its presence."""
    await store.present("w1", "first", 50)
    await store.present("w1", "second", LONG)

    assert "second" == await redis.get("job_worker:w1")
    assert LONG - 1000 < await redis.pttl("job_worker:w1")
    assert ["w1"] == await redis.zrange("job_workers", 0, -1)


async def test_whoever_is_silent_is_forgotten(store: Store, redis: Redis) -> None:
    """A worker that was not heard of within its time is gone; those that were stay."""
    await store.present("gone", "{}", 20)
    await pass_ms(redis, 20)
    await redis.zadd("job_workers", {"older": PAST})
    await store.present("w1", "{}", 20)

    assert ["w1"] == await redis.zrange("job_workers", 0, -1)
    assert 0 == await redis.exists("job_worker:gone")


async def test_an_order(store: Store, inspector: Inspector) -> None:
    """A worker hears its own order, every time it asks, and no other's."""
    for worker in ("w1", "w2"):
        await store.present(worker, "{}", LONG)
    assert await inspector.order("w1", "quiet")

    assert ["quiet", "", "quiet"] == [await store.present(worker, "{}", LONG) for worker in ("w1", "w2", "w1")]
    assert await inspector.order("w1", "stop")
    assert "stop" == await store.present("w1", "{}", LONG)


async def test_full_memory(store: Store, memory: Memory) -> None:
    """At the memory limit workers stay visible and can be stopped."""
    await memory.fill()

    assert "" == await store.present("w1", "{}", LONG)
