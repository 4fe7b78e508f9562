"""purge: forget what is ready in a queue."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from jobq import Client
from jobq.errors import BadRequest
from jobq.job import Job
from jobq.store import keys
from jobq.store.store import Settlement, Store
from tests.store.conftest import Memory
from tests.store.support import (
    LONG,
    Lane,
    dump,
    finished,
    foreign,
    held,
    new_id,
    pushed,
    server_ms,
    settled,
    submission,
    submitted,
    take_marks,
)


async def test_everything_that_is_ready(store: Store, redis: Redis) -> None:
    """Jobs of every priority go, with all that is kept of them."""
    for priority in (0, 5, 9):
        await submitted(store, 2, priority=priority, payload=b"{}", expires="+60000")
    await take_marks(redis)

    assert 6 == await store.purge("default")
    assert {"job_queues": {"default"}} == await dump(redis, statistics=False)


async def test_what_was_tried_before(store: Store, redis: Redis, lane: Lane) -> None:
    """Of a job that waits for its next attempt, past attempts and log go too."""
    [job_id] = await submitted(store)
    [claim] = await lane.claim()
    await store.emit(job_id, claim.token, 1, [(1, "log", "x")])
    await lane.settle(settled(claim, "retry", retries=1))

    assert 1 == await store.purge("default")
    assert [] == [key async for key in redis.scan_iter("job:*")]


async def test_the_rest_stays(store: Store, redis: Redis, lane: Lane) -> None:
    """What is scheduled, parked, running, over, or in another queue is not touched."""
    await finished(lane)
    await submitted(store, 2, task="new")
    claims = await lane.claim(2)
    await lane.settle(settled(claims[0], "park"))
    await submitted(store, due="+60000")
    await submitted(store, queue="mail")
    await submitted(store, queue="default.d")
    await lane.next()
    before = await dump(redis)
    await submitted(store)
    after_submit = await dump(redis)

    assert 1 == await store.purge("default")
    statistics = {key: value for key, value in after_submit.items() if key.startswith("job_stats:")}
    assert {**before, **statistics} == await dump(redis)


async def test_entries_of_jobs_that_do_not_wait(store: Store, redis: Redis, lane: Lane) -> None:
    """Of a job that runs or is over an entry left behind goes, and the job stays as it is."""
    over = await finished(lane)
    running, cancelled = await submitted(store, 2)
    [claim] = await lane.claim()
    await store.cancel(cancelled, "", "{}")
    theirs = new_id()
    await pushed(redis, foreign(theirs), theirs)
    await redis.lrem("job_queue", 1, cancelled)
    [their_claim] = await lane.claim()
    before = await dump(redis)
    await redis.rpush("job_queue", over, running, cancelled, theirs)

    assert 4 == await store.purge("default")
    assert before == await dump(redis)
    assert {running: claim.token, theirs: their_claim.token} == await held(redis)


async def test_scheduled_and_listed(store: Store, redis: Redis) -> None:
    """A job that is listed but not due belongs to the schedule: it stays there, or is put there."""
    due = await server_ms(redis) + LONG
    [scheduled] = await submitted(store, due=str(due))
    await redis.rpush("job_queue", scheduled)
    await redis.zadd("job_schedule", {scheduled: due + 7})
    early = Job(new_id(), "note", run_at=due)
    await pushed(redis, early.text(), early.job_id)

    assert 2 == await store.purge("default")
    assert {scheduled: due + 7, early.job_id: due} == dict(await redis.zrange("job_schedule", 0, -1, withscores=True))
    assert 2 == await redis.exists(keys.job(scheduled), keys.job(early.job_id))


async def test_of_another_queue(store: Store, redis: Redis) -> None:
    """A job that was pushed to the wrong list goes to its own."""
    job = Job(new_id(), "note", queue="mail", priority=7)
    await pushed(redis, job.text(), job.job_id)

    assert 1 == await store.purge("default")
    assert [job.job_id] == await redis.lrange("job_queue:mail:7", 0, -1)
    assert ["mail"] == await take_marks(redis)
    assert job.text() == await redis.get(keys.job(job.job_id))


async def test_foreign(store: Store, redis: Redis, lane: Lane) -> None:
    """A foreign job goes like any other, with the cancel that waited for it."""
    job_id = new_id()
    await pushed(redis, foreign(job_id), job_id)
    [claim] = await lane.claim()
    await store.cancel(job_id, "enough", "{}")
    await lane.settle(Settlement(job_id, claim.token, "release", claim.record.decode()))

    assert 1 == await store.purge("default")
    assert 0 == await redis.exists(keys.job(job_id), "job_cancel", "job_queue")


async def test_what_is_not_an_id(store: Store, redis: Redis) -> None:
    """An entry that names another job's keys, or a key of another type, costs nobody anything but the entry."""
    [victim] = await submitted(store, due="+60000", payload=b"{}")
    theirs = new_id()
    await redis.rpush(keys.job(theirs), "mine")
    await redis.set("job:x", "mine")
    before = await dump(redis)
    await redis.rpush("job_queue", f"{victim}:payload", theirs, "x", "", b"\xff", new_id())

    assert 6 == await store.purge("default")
    assert before == await dump(redis)


async def test_a_record_of_another_job(store: Store, redis: Redis) -> None:
    """A record that names another id than its key does not get that other job forgotten."""
    [victim] = await submitted(store, due="+60000", expires="+90000")
    liar = new_id()
    before = await dump(redis)
    await pushed(redis, Job(victim, "note", queue="mail").text(), liar)

    assert 1 == await store.purge("default")
    assert before == await dump(redis)


async def test_a_hundred_a_call(store: Store, redis: Redis) -> None:
    """250 ready jobs are 100, 100 and 50, over all priorities, the next to run first."""
    rows = [submission(priority=priority) for priority in (9, 3, 0) for _ in range(40)]
    await store.submit(rows)
    last = await submitted(store, 130)

    assert 100 == await store.purge("default")
    assert [row.job_id for row in rows[100:]] + last == await redis.lrange("job_queue", 0, -1)
    assert [100, 50, 0] == [await store.purge("default") for _ in range(3)]
    assert [] == [key async for key in redis.scan_iter("job:*")]


async def test_nothing_there_writes_nothing(store: Store, redis: Redis) -> None:
    """Purging an empty queue changes nothing."""
    await submitted(store, queue="mail")
    before = await dump(redis)

    assert 0 == await store.purge("default")
    assert before == await dump(redis)


async def test_full_memory(store: Store, memory: Memory) -> None:
    """At the memory limit a queue can be purged: that is how memory becomes free."""
    await submitted(store)
    await memory.fill()

    assert 1 == await store.purge("default")


async def test_client(client: Client, store: Store, redis: Redis) -> None:
    """`Client.purge` goes on until the queue is empty, and tells how many went."""
    await submitted(store, 230, queue="mail")

    assert 230 == await client.purge("mail")
    assert 0 == await redis.exists("job_queue:mail")
    with pytest.raises(BadRequest, match="queue: must match"):
        await client.purge("mail:9")
