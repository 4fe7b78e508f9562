"""unpark: jobs of a task that nobody knew → queue."""

from __future__ import annotations

from redis.asyncio import Redis

from jobq.job import Job
from jobq.store import keys
from jobq.store.store import Store
from tests.store.conftest import Memory
from tests.store.support import Lane, dump, new_id, settled, submitted, take_marks


async def parked(lane: Lane, count: int = 1, task: str = "new", **columns: object) -> list[str]:
    """Ids of jobs that a worker did not know."""
    ids = await submitted(lane.store, count, task=task, **columns)
    for start in range(0, count, 200):
        claims = await lane.claim(min(200, count - start))
        await lane.settle(*(settled(claim, "park") for claim in claims))
    return ids


async def test_to_the_front(store: Store, redis: Redis, lane: Lane) -> None:
    """A parked job is the next of its queue once somebody knows its task, and wakes a worker."""
    [job_id] = await parked(lane)
    [behind] = await submitted(store)
    record = await redis.get(keys.job(job_id))
    await take_marks(redis)

    assert 1 == await store.unpark(["default"], ["new"])
    assert [job_id, behind] == await redis.lrange("job_queue", 0, -1)
    assert record == await redis.get(keys.job(job_id))
    assert ["default"] == await take_marks(redis)
    assert 0 == await redis.exists("job_parked:new", "job_parked")


async def test_only_known_tasks(store: Store, redis: Redis, lane: Lane) -> None:
    """Jobs of other tasks stay parked."""
    await parked(lane)
    before = await dump(redis)

    assert 0 == await store.unpark(["default"], ["note", "newer", "ne"])
    assert before == await dump(redis)


async def test_only_served_queues(store: Store, redis: Redis) -> None:
    """A worker takes back what it can claim; jobs of other queues stay parked for others."""
    lane = Lane(store, queues="mail,default")
    [mail] = await parked(lane, queue="mail", priority=5)
    [plain] = await parked(lane)
    await take_marks(redis)

    assert 1 == await store.unpark(["mail"], ["new"])
    assert [mail] == await redis.lrange("job_queue:mail:5", 0, -1)
    assert [plain] == await redis.lrange("job_parked:new", 0, -1)
    assert ["mail"] == await take_marks(redis)
    assert {"new"} == await redis.smembers("job_parked")
    assert 0 == await store.unpark(["mail"], ["new"])
    assert [plain] == await redis.lrange("job_parked:new", 0, -1)


async def test_others_in_front_do_not_block(store: Store, redis: Redis) -> None:
    """However many jobs of other queues are parked first, the served ones come back within some calls."""
    lane = Lane(store, queues="mail,default")
    await parked(lane, 150, queue="mail")
    [plain] = await parked(lane)

    assert [0, 1] == [await store.unpark(["default"], ["new"]) for _ in range(2)]
    assert [plain] == await redis.lrange("job_queue", 0, -1)
    assert 150 == await redis.llen("job_parked:new")


async def test_several_tasks(store: Store, redis: Redis, lane: Lane) -> None:
    """One call takes back the jobs of all tasks of a worker."""
    ids = [*await parked(lane, task="one"), *await parked(lane, task="two")]

    assert 2 == await store.unpark(["default", "mail"], ["one", "two", "three"])
    assert sorted(ids) == sorted(await redis.lrange("job_queue", 0, -1))


async def test_what_is_not_pending_is_dropped(store: Store, redis: Redis, lane: Lane) -> None:
    """A parked job that was cancelled, or whose record is gone or unreadable, leaves the parking list for good."""
    [cancelled] = await parked(lane)
    await store.cancel(cancelled, "", "{}")
    gone, corrupt, liar = new_id(), new_id(), new_id()
    await redis.rpush(keys.job(corrupt), "mine")
    await redis.set(keys.job(liar), Job(new_id(), "new").text())
    await redis.rpush("job_parked:new", gone, corrupt, liar)

    assert 0 == await store.unpark(["default"], ["new"])
    assert 0 == await redis.exists("job_parked:new", "job_queue")


async def test_a_hundred_a_call(store: Store, redis: Redis, lane: Lane) -> None:
    """250 parked jobs are 100, 100 and 50; each is listed once."""
    ids = await parked(lane, 250)

    assert [100, 100, 50, 0] == [await store.unpark(["default"], ["new"]) for _ in range(4)]
    assert sorted(ids) == sorted(await redis.lrange("job_queue", 0, -1))


async def test_full_memory(store: Store, memory: Memory, lane: Lane) -> None:
    """At the memory limit jobs come back from parking."""
    await parked(lane)
    await memory.fill()

    assert 1 == await store.unpark(["default"], ["new"])
