"""prune: old finished jobs are forgotten."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from jobq.job import Job, Status
from jobq.store import keys
from jobq.store.store import Store
from tests.store.conftest import Memory
from tests.store.support import Lane, dump, finished, new_id, server_ms, settled, submitted

HOUR = 3_600_000
MANY = 1_000_000
OWN = (keys.job, keys.payload, keys.result, keys.attempts, keys.emitted)
"""All that is a job's own."""


async def completed(lane: Lane, redis: Redis, *ages: int) -> list[str]:
    """Ids of completed jobs with payload, result, a past attempt and a log, finished so many ms ago."""
    ids = await submitted(lane.store, len(ages), payload=b"{}")
    for start in range(0, len(ids), 200):
        claims = await lane.claim(min(200, len(ids) - start))
        await lane.settle(*(settled(claim, "complete", b"1") for claim in claims))
    now = await server_ms(redis)
    for job_id, age in zip(ids, ages, strict=True):
        await redis.rpush(keys.attempts(job_id), "{}")
        await redis.xadd(keys.emitted(job_id), {"kind": "log"})
        await redis.zadd("job_index:completed", {job_id: now - age})
    return ids


async def kept(redis: Redis) -> list[str]:
    """Ids of which anything is left, by key and by index."""
    indexed: list[str] = await redis.zrange("job_index:completed", 0, -1)
    stored = {key.split(":")[1] async for key in redis.scan_iter("job:*")}
    assert set(indexed) == stored
    return indexed


async def test_by_age(store: Store, redis: Redis, lane: Lane) -> None:
    """Jobs that are over for longer than the age go, with all that is kept of them; younger ones stay."""
    old, _, young = await completed(lane, redis, 2 * HOUR, HOUR + 1000, HOUR - 60_000)

    assert 2 == await store.prune("completed", HOUR, MANY, 0)
    assert [young] == await kept(redis)
    assert 0 == await redis.exists(*(name(old) for name in OWN))
    assert 5 == await redis.exists(*(name(young) for name in OWN))


async def test_by_count(store: Store, redis: Redis, lane: Lane) -> None:
    """Beyond the count the oldest go, whatever their age."""
    ids = await completed(lane, redis, 50, 40, 30, 20, 10)

    assert 3 == await store.prune("completed", HOUR, 2, 0)
    assert ids[3:] == await kept(redis)
    assert 0 == await store.prune("completed", HOUR, 2, 0)


async def test_never_younger_than_the_least_age(store: Store, redis: Redis, lane: Lane) -> None:
    """The count takes nothing that is younger than the result's TTL."""
    ids = await completed(lane, redis, 30_000, 20_000, 5_000, 0)

    assert 2 == await store.prune("completed", HOUR, 1, 10_000)
    assert ids[2:] == await kept(redis)


async def test_age_first_then_count(store: Store, redis: Redis, lane: Lane) -> None:
    """Both limits hold after some calls."""
    ids = await completed(lane, redis, 2 * HOUR, 40, 30, 20)

    assert [1, 1, 0] == [await store.prune("completed", HOUR, 2, 0) for _ in range(3)]
    assert ids[2:] == await kept(redis)


@pytest.mark.parametrize(("outcome", "status"), [("fail", "failed"), ("cancel", "cancelled")])
async def test_one_status_a_call(store: Store, redis: Redis, lane: Lane, outcome: str, status: str) -> None:
    """Each status is pruned by itself."""
    job_id = await finished(lane, outcome)
    before = await dump(redis)

    assert 0 == await store.prune("completed", 0, 0, 0)
    assert before == await dump(redis)
    assert 1 == await store.prune(status, 0, 0, 0)
    assert 0 == await redis.exists(keys.job(job_id), f"job_index:{status}")


async def test_what_runs_again_is_not_deleted(store: Store, redis: Redis, lane: Lane) -> None:
    """An index entry of a job that is not over any more, foreign or unreadable goes; the job stays."""
    [pending] = await submitted(store)
    theirs, corrupt, liar = new_id(), new_id(), new_id()
    await redis.set(keys.job(theirs), '{"task": "note", "status": "completed"}')
    await redis.rpush(keys.job(corrupt), "mine")
    await redis.set(keys.job(liar), Job(new_id(), "note", Status.COMPLETED).text())
    before = await dump(redis)
    await redis.zadd("job_index:completed", {pending: 1, theirs: 1, corrupt: 1, liar: 1, new_id(): 1})

    assert 5 == await store.prune("completed", HOUR, MANY, 0)
    assert before == await dump(redis)


async def test_a_hundred_a_call(store: Store, redis: Redis, lane: Lane) -> None:
    """250 old jobs are 100, 100 and 50, by age and by count."""
    await completed(lane, redis, *[2 * HOUR] * 250)
    assert [100, 100, 50, 0] == [await store.prune("completed", HOUR, MANY, 0) for _ in range(4)]
    assert [] == await kept(redis)

    await completed(lane, redis, *[1000] * 250)
    assert [100, 100, 40, 0] == [await store.prune("completed", HOUR, 10, 0) for _ in range(4)]
    assert 10 == len(await kept(redis))


async def test_full_memory(store: Store, redis: Redis, memory: Memory, lane: Lane) -> None:
    """At the memory limit old jobs are forgotten on: that is how memory becomes free."""
    await completed(lane, redis, 2 * HOUR)
    await memory.fill()

    assert 1 == await store.prune("completed", HOUR, MANY, 0)
