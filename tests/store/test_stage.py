"""stage: due → queue."""

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
    dump,
    finished,
    foreign,
    job_of,
    new_id,
    pass_ms,
    settled,
    submitted,
    take_marks,
)


async def make_due(redis: Redis, *ids: str) -> None:
    await redis.zadd("job_schedule", {job_id: PAST + n for n, job_id in enumerate(ids)})


async def test_only_what_is_due(store: Store, redis: Redis, lane: Lane) -> None:
    """A job is staged when its time has come by the server's clock, not before; it waits behind the others."""
    [soon] = await submitted(store, due="+500", tail=ODD_TAIL)
    [later] = await submitted(store, due="+60000")
    [listed] = await submitted(store)
    record = await redis.get(keys.job(soon))
    assert 0 == await store.stage()
    await take_marks(redis)
    await pass_ms(redis, 500)

    assert 1 == await store.stage()
    assert [listed, soon] == await redis.lrange("job_queue", 0, -1)
    assert [later] == await redis.zrange("job_schedule", 0, -1)
    assert record == await redis.get(keys.job(soon))
    assert ["default"] == await take_marks(redis)
    assert [listed, soon] == [claim.job_id for claim in await lane.claim(5)]


async def test_earliest_first(store: Store, redis: Redis) -> None:
    """Jobs are staged in the order of their due times."""
    ids = await submitted(store, 5, due="+60000")
    await make_due(redis, *reversed(ids))
    await store.stage()

    assert ids[::-1] == await redis.lrange("job_queue", 0, -1)


async def test_queue_and_priority(store: Store, redis: Redis) -> None:
    """Each goes to its own list, and each queue is marked."""
    [mail] = await submitted(store, due="+60000", queue="mail", priority=6)
    [plain] = await submitted(store, due="+60000")
    await make_due(redis, mail, plain)
    await store.stage()

    assert [mail] == await redis.lrange("job_queue:mail:6", 0, -1)
    assert [plain] == await redis.lrange("job_queue", 0, -1)
    assert ["default", "mail"] == await take_marks(redis)


async def test_a_hundred_a_call(store: Store, redis: Redis) -> None:
    """250 due jobs are 100, 100 and 50; each is listed once."""
    ids = await submitted(store, 250, due="+60000")
    await make_due(redis, *ids)

    assert [100, 100, 50, 0] == [await store.stage() for _ in range(4)]
    assert ids == await redis.lrange("job_queue", 0, -1)
    assert 0 == await redis.exists("job_schedule")


async def test_after_a_retry(store: Store, redis: Redis, lane: Lane) -> None:
    """A job that waits between retries is staged like a delayed one."""
    [job_id] = await submitted(store)
    [claim] = await lane.claim()
    await lane.settle(settled(claim, "retry", retries=1, due=PAST))

    assert 1 == await store.stage()
    assert [job_id] == await redis.lrange("job_queue", 0, -1)


async def test_what_is_not_pending_is_dropped(store: Store, redis: Redis, lane: Lane) -> None:
    """Entries of jobs that are over, running, gone, foreign or unreadable leave the schedule and are not listed."""
    over = await finished(lane)
    [running] = await submitted(store)
    await lane.claim()
    gone, theirs, corrupt, liar = new_id(), new_id(), new_id(), new_id()
    await redis.set(keys.job(theirs), foreign(theirs))
    await redis.rpush(keys.job(corrupt), "mine")
    await redis.set(keys.job(liar), Job(new_id(), "note").text())
    await make_due(redis, over, running, gone, theirs, corrupt, liar)
    await take_marks(redis)

    assert 6 == await store.stage()
    assert 0 == await redis.exists("job_schedule", "job_queue")
    assert [] == await take_marks(redis)
    assert Status.PROCESSING == (await job_of(store, running)).status


async def test_nothing_due_writes_nothing(store: Store, redis: Redis) -> None:
    """Any number of stagers does no harm."""
    await submitted(store, due="+60000")
    before = await dump(redis)

    assert 0 == await store.stage()
    assert before == await dump(redis)


async def test_full_memory(store: Store, redis: Redis, memory: Memory) -> None:
    """At the memory limit jobs are staged on."""
    [job_id] = await submitted(store, due="+60000")
    await make_due(redis, job_id)
    await memory.fill()

    assert 1 == await store.stage()
