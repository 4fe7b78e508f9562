"""expire: pending past `expires_at` → failed, never run."""

from __future__ import annotations

from redis.asyncio import Redis

from jobq.job import Job, Status
from jobq.store import keys
from jobq.store.store import Store
from tests.store.conftest import Memory
from tests.store.support import (
    ODD_TAIL,
    PAST,
    Lane,
    counted,
    dump,
    finished,
    job_of,
    new_id,
    pass_ms,
    server_ms,
    submitted,
)


async def make_old(redis: Redis, *ids: str) -> None:
    await redis.zadd("job_expiry", dict.fromkeys(ids, PAST))


async def test_listed(store: Store, redis: Redis, lane: Lane) -> None:
    """A job whose time runs out in the queue fails with reason `expired`; its list entry is skipped."""
    [job_id] = await submitted(store, expires="+20", tail=ODD_TAIL)
    [going_on] = await submitted(store, expires="+60000")
    assert 0 == await store.expire()
    await pass_ms(redis, 20)

    assert 1 == await store.expire()

    job = await job_of(store, job_id)
    assert (Status.FAILED, 0, ODD_TAIL) == (job.status, job.attempt, job.tail)
    assert {"type": "Expired", "message": "not started before expires_at", "reason": "expired"} == job.error
    assert job.expires_at is not None
    assert job.finished_at is not None
    assert job.expires_at <= job.finished_at <= await server_ms(redis)
    assert [(job_id, job.finished_at)] == await redis.zrange("job_index:failed", 0, -1, withscores=True)
    [(_, event)] = await redis.xrange("job_events")
    assert {"status": "failed", "ids": job_id} == event
    assert [going_on] == await redis.zrange("job_expiry", 0, -1)
    assert [going_on] == [claim.job_id for claim in await lane.claim(5)]


async def test_what_is_counted(store: Store, redis: Redis, lane: Lane) -> None:
    """A job that expired has failed in its queue, whether expire or claim saw it first."""
    seen, skipped = await submitted(store, 2, expires="+20")
    await pass_ms(redis, 20)
    await redis.zrem("job_expiry", skipped)
    await store.expire()
    await lane.claim()

    assert {seen, skipped} == set(await redis.zrange("job_index:failed", 0, -1))
    assert {"default|in": 2, "default|failed": 2} == await counted(redis)


async def test_scheduled(store: Store, redis: Redis) -> None:
    """A job whose time runs out before it is due leaves the schedule."""
    [job_id] = await submitted(store, due="+60000", expires="+50000")
    await make_old(redis, job_id)

    assert 1 == await store.expire()
    assert Status.FAILED == (await job_of(store, job_id)).status
    assert 0 == await redis.exists("job_schedule", "job_expiry")


async def test_what_is_not_pending_is_left_alone(store: Store, redis: Redis, lane: Lane) -> None:
    """A running job and one that is over keep their records; entries without a readable record are dropped."""
    over = await finished(lane)
    [running] = await submitted(store)
    await lane.claim()
    gone, corrupt, liar = new_id(), new_id(), new_id()
    await redis.rpush(keys.job(corrupt), "mine")
    await redis.set(keys.job(liar), Job(new_id(), "note").text())
    before = await dump(redis)
    await make_old(redis, over, running, gone, corrupt, liar)

    assert 5 == await store.expire()
    assert before == await dump(redis)


async def test_a_hundred_a_call(store: Store, redis: Redis) -> None:
    """250 expired jobs are 100, 100 and 50."""
    ids = await submitted(store, 250, expires="+60000")
    await make_old(redis, *ids)

    assert [100, 100, 50, 0] == [await store.expire() for _ in range(4)]
    assert 250 == await redis.zcard("job_index:failed")


async def test_full_memory(store: Store, redis: Redis, memory: Memory) -> None:
    """At the memory limit jobs expire on."""
    [job_id] = await submitted(store, expires="+60000")
    await make_old(redis, job_id)
    await memory.fill()

    assert 1 == await store.expire()
