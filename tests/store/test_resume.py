"""resume: a paused queue is claimed from again."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from jobq import Client
from jobq.errors import BadRequest
from jobq.store.store import Store
from tests.store.support import Lane, submitted, take_marks


async def test_wakes_a_worker(store: Store, redis: Redis, lane: Lane) -> None:
    """The queue is marked, for the marks of what was submitted meanwhile went unanswered."""
    await store.pause("default")
    [job_id] = await submitted(store)
    await take_marks(redis)
    assert [] == await lane.claim()

    await store.resume("default")

    assert ["default"] == await take_marks(redis)
    assert [job_id] == [claim.job_id for claim in await lane.claim()]


async def test_only_this_queue(store: Store, redis: Redis) -> None:
    """Other queues stay paused."""
    for queue in ("mail", "default"):
        await store.pause(queue)
    await store.resume("mail")

    assert {"default"} == await redis.smembers("job_paused")
    assert ["mail"] == await take_marks(redis)


async def test_of_a_queue_that_is_not_paused(store: Store, redis: Redis, lane: Lane) -> None:
    """Resuming what runs, or resuming twice, does no harm."""
    [job_id] = await submitted(store)
    for _ in range(2):
        await store.resume("default")

    assert [job_id] == [claim.job_id for claim in await lane.claim(5)]
    assert 0 == await redis.exists("job_paused")


async def test_client(client: Client, redis: Redis) -> None:
    """`Client.resume` takes names of queues only."""
    await client.pause("mail")
    await client.resume("mail")
    assert 0 == await redis.exists("job_paused")
    with pytest.raises(BadRequest, match="queue: must match"):
        await client.resume("")
