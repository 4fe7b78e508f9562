"""pause: nothing more is claimed from a queue. What claim makes of it: test_claim.py."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from jobq import Client
from jobq.errors import BadRequest
from jobq.store.store import Heart, Store
from tests.store.conftest import Memory
from tests.store.support import LONG, Lane, dump, settled, submitted


async def test_is_noted(store: Store, redis: Redis) -> None:
    """Pausing writes the queue's name and nothing else, whether it exists or not."""
    await store.pause("mail")

    assert {"job_paused": {"mail"}} == await dump(redis)


async def test_twice(store: Store, redis: Redis) -> None:
    """Pausing again changes nothing; one resume ends it."""
    await store.pause("default")
    before = await dump(redis)
    await store.pause("default")

    assert before == await dump(redis)
    await store.resume("default")
    assert 0 == await redis.exists("job_paused")


async def test_what_runs_goes_on(store: Store, redis: Redis, lane: Lane, heart: Heart) -> None:
    """A running job keeps its lease and is settled; what comes back waits for the queue to be resumed."""
    ids = await submitted(store, 2)
    claims = await lane.claim(2)
    await store.pause("default")

    assert [("ok", "")] == heart.beat([(ids[0], claims[0].token)], LONG)
    assert ["ok", "ok"] == await lane.settle(settled(claims[0], "complete"), settled(claims[1], "release"))
    assert [] == await lane.claim(5)
    assert [ids[1]] == await redis.lrange("job_queue", 0, -1)


async def test_submits_are_taken(store: Store, redis: Redis) -> None:
    """Jobs may be submitted to a paused queue, and wait there in order."""
    await store.pause("default")

    assert await submitted(store, 3) == await redis.lrange("job_queue", 0, -1)


async def test_full_memory(store: Store, redis: Redis, memory: Memory) -> None:
    """At the memory limit a queue can be paused and resumed."""
    await memory.fill()
    await store.pause("default")
    assert {"default"} == await redis.smembers("job_paused")
    await store.resume("default")
    assert 0 == await redis.exists("job_paused")


async def test_client(client: Client, redis: Redis) -> None:
    """`Client.pause` takes names of queues only."""
    await client.pause("mail")
    assert {"mail"} == await redis.smembers("job_paused")
    with pytest.raises(BadRequest, match="queue: must match"):
        await client.pause("mail,default")
