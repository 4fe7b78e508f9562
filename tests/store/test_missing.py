"""missing: ids that were listed before their record came."""

from __future__ import annotations

from redis.asyncio import Redis

from jobq.job import Job
from jobq.store import keys
from jobq.store.store import Store
from tests.store.conftest import Memory
from tests.store.support import PAST, Lane, dump, foreign, new_id, submitted, take_marks

PATIENCE = 10_000


async def missed(redis: Redis, lane: Lane, key: str = keys.QUEUE) -> str:
    """The id of a job that was pushed without a record, and looked at."""
    job_id = new_id()
    await redis.rpush(key, job_id)
    assert [] == await lane.claim(200)
    return job_id


async def make_old(redis: Redis) -> None:
    for entry in await redis.zrange("job_missing", 0, -1):
        await redis.zadd("job_missing", {entry: PAST})


async def test_pushed_first_and_written_later(store: Store, redis: Redis, lane: Lane) -> None:
    """Once its record is there, the job is the next of its queue, and a worker is woken."""
    job_id = await missed(redis, lane)
    [behind] = await submitted(store)
    await redis.set(keys.job(job_id), foreign(job_id))
    await take_marks(redis)

    assert [] == await store.missing(PATIENCE)
    assert [job_id, behind] == await redis.lrange("job_queue", 0, -1)
    assert ["default"] == await take_marks(redis)
    assert 0 == await redis.exists("job_missing", "job_quarantine")
    assert [job_id, behind] == [claim.job_id for claim in await lane.claim(5)]


async def test_the_list_it_was_pushed_to(store: Store, redis: Redis) -> None:
    """It goes back to the list it was found on."""
    lane = Lane(store, queues="a.b-c_1")
    job_id = await missed(redis, lane, "job_queue:a.b-c_1:7")
    await redis.set(keys.job(job_id), Job(job_id, "note", queue="a.b-c_1", priority=7).text())
    await take_marks(redis)
    await store.missing(PATIENCE)

    assert [job_id] == await redis.lrange("job_queue:a.b-c_1:7", 0, -1)
    assert ["a.b-c_1"] == await take_marks(redis)


async def test_within_its_time(store: Store, redis: Redis, lane: Lane) -> None:
    """Without a record it is waited for, and nothing changes."""
    await missed(redis, lane)
    before = await dump(redis)

    assert [] == await store.missing(PATIENCE)
    assert before == await dump(redis)


async def test_given_up(store: Store, redis: Redis, lane: Lane) -> None:
    """After the patience the id is set aside with the reason, and told once."""
    job_id = await missed(redis, lane)
    await make_old(redis)

    assert [job_id] == await store.missing(PATIENCE)
    assert {job_id: "no record"} == await redis.hgetall("job_quarantine")
    assert 0 == await redis.exists("job_missing", "job_queue")
    assert [] == await store.missing(PATIENCE)


async def test_of_another_type(store: Store, redis: Redis, lane: Lane) -> None:
    """A key that holds no string is waited for too, then set aside with what it is."""
    job_id = new_id()
    await redis.rpush(keys.job(job_id), "mine")
    await redis.rpush("job_queue", job_id)
    await lane.claim()
    assert [] == await store.missing(PATIENCE)
    await make_old(redis)

    assert [job_id] == await store.missing(PATIENCE)
    assert {job_id: "record is a list"} == await redis.hgetall("job_quarantine")
    assert ["mine"] == await redis.lrange(keys.job(job_id), 0, -1)


async def test_late_but_there(store: Store, redis: Redis, lane: Lane) -> None:
    """A record that came just before the end of the patience counts."""
    job_id = await missed(redis, lane)
    await make_old(redis)
    await redis.set(keys.job(job_id), foreign(job_id))

    assert [] == await store.missing(PATIENCE)
    assert [job_id] == await redis.lrange("job_queue", 0, -1)


async def test_a_hundred_a_call(store: Store, redis: Redis, lane: Lane) -> None:
    """250 ids without a record are given up in three calls."""
    ids = [new_id() for _ in range(250)]
    await redis.rpush("job_queue", *ids)
    await lane.claim(200)
    await make_old(redis)

    assert [100, 100, 50, 0] == [len(await store.missing(PATIENCE)) for _ in range(4)]
    assert set(ids) == set(await redis.hgetall("job_quarantine"))


async def test_full_memory(store: Store, redis: Redis, memory: Memory, lane: Lane) -> None:
    """At the memory limit ids are worked off on."""
    job_id = await missed(redis, lane)
    await make_old(redis)
    await memory.fill()

    assert [job_id] == await store.missing(PATIENCE)


async def test_a_late_record_behind_a_flood(store: Store, redis: Redis, lane: Lane) -> None:
    """A record that comes is served at once, however many ids without one were listed before."""
    for _ in range(300):
        await redis.zadd("job_missing", {f"default:0:{new_id()}": 1})
    job_id = await missed(redis, lane)
    await redis.set(keys.job(job_id), foreign(job_id))

    assert 100 == len(await store.missing(PATIENCE))
    assert [job_id] == await redis.lrange("job_queue", 0, -1)
