"""reap: a lease that ran out → front of the queue, or failed."""

from __future__ import annotations

import asyncio
import json

import pytest
from redis.asyncio import Redis

from jobq.job import Job, Status
from jobq.record import parse
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
    foreign,
    held,
    job_of,
    lose_all,
    new_id,
    pass_ms,
    pushed,
    server_ms,
    submitted,
    take_marks,
)


async def test_back_to_the_front(store: Store, redis: Redis, lane: Lane) -> None:
    """A job whose worker is gone is the next one, one loss more, no retry less, and wakes a worker."""
    ids = await submitted(store, 2, tail=ODD_TAIL)
    await lane.claim()
    await lose_all(redis)
    await take_marks(redis)

    assert [(ids[0], "pending")] == await store.reap(3)

    job = await job_of(store, ids[0])
    assert (Status.PENDING, 0, 1, 1, None, None, ODD_TAIL) == (
        job.status, job.retries, job.attempt, job.lost, job.started_at, job.worker, job.tail,
    )  # fmt: skip
    assert ("Lost", "lost") == ((job.error or {})["type"], (job.error or {})["reason"])
    assert ids == await redis.lrange("job_queue", 0, -1)
    assert ["default"] == await take_marks(redis)
    assert {} == await held(redis)
    [line] = await redis.lrange(keys.attempts(ids[0]), 0, -1)
    assert (1, "lost", "w1") == tuple(json.loads(line)[name] for name in ("attempt", "outcome", "worker"))


async def test_nothing_after_the_latest(store: Store, redis: Redis, lane: Lane) -> None:
    """A call that was held up on its way takes nothing: heartbeats may have been, too. One in time does."""
    [job_id] = await submitted(store, 1)
    await lane.claim()
    await lose_all(redis)
    before = await dump(redis)

    assert [] == await store.reap(3, latest=await server_ms(redis) - 1)
    assert before == await dump(redis)
    assert [(job_id, "pending")] == await store.reap(3, latest=await server_ms(redis) + 1000)


async def test_only_what_ran_out(store: Store, redis: Redis, lane: Lane) -> None:
    """A lease is kept until its end by the server's clock, then it is over."""
    await submitted(store)
    [kept] = await lane.claim()
    [lost] = await submitted(store)
    await Lane(store, "w2", lease=20).claim()
    assert [] == await store.reap(3)
    await pass_ms(redis, 20)

    assert [(lost, "pending")] == await store.reap(3)
    assert {kept.job_id: kept.token} == await held(redis)


async def test_failed_after_the_last_loss(store: Store, redis: Redis, lane: Lane) -> None:
    """A job that loses its worker for the third time fails with reason `lost`: it may be what kills them."""
    [job_id] = await submitted(store)
    answers = []
    for _ in range(3):
        await lane.claim()
        await lose_all(redis)
        before = await server_ms(redis)
        answers += await store.reap(3)

    assert [(job_id, "pending"), (job_id, "pending"), (job_id, "failed")] == answers
    job = await job_of(store, job_id)
    assert (Status.FAILED, 3, 3, 0) == (job.status, job.lost, job.attempt, job.retries)
    message = "the job was lost 3 times, the last time with its worker w1"
    assert ({"type": "Lost", "message": message, "reason": "lost"}, "w1") == (job.error, job.worker)
    assert job.finished_at is not None
    assert before <= job.finished_at <= await server_ms(redis)
    assert [(job_id, job.finished_at)] == await redis.zrange("job_index:failed", 0, -1, withscores=True)
    [(_, event)] = await redis.xrange("job_events")
    assert {"status": "failed", "ids": job_id} == event
    assert 0 == await redis.exists("job_queue", "job_leases", "job_running")
    assert 2 == await redis.llen(keys.attempts(job_id))


async def test_at_the_first_loss(store: Store, redis: Redis, lane: Lane) -> None:
    """`JOBQ_MAX_LOST` 1 forgives nothing."""
    [job_id] = await submitted(store)
    await lane.claim()
    await lose_all(redis)

    assert [(job_id, "failed")] == await store.reap(1)


@pytest.mark.parametrize("worker", ['w\\"', "{w}", ""])
async def test_a_worker_with_an_odd_name(store: Store, redis: Redis, lane: Lane, worker: str) -> None:
    """A name that somebody wrote into the record does not break the error."""
    [job_id] = await submitted(store)
    await lane.claim()
    await redis.set(keys.job(job_id), (await job_of(store, job_id)).text().replace('"w1"', f'"{worker}"'))
    await lose_all(redis)
    await store.reap(1)

    record = await redis.get(keys.job(job_id))
    assert (
        '"error":{"type":"Lost","message":"the job was lost 1 times, the last time with its worker","reason":' in record
    )


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "pending"])
async def test_a_lease_left_over(store: Store, redis: Redis, lane: Lane, status: str) -> None:
    """A lease of a job that is not processing only goes: nothing leaves `completed`, and no loss is counted."""
    outcome = {"completed": "complete", "failed": "fail", "cancelled": "cancel", "pending": "release"}[status]
    job_id = await finished(lane, outcome)
    await take_marks(redis)
    before = await dump(redis)
    await redis.zadd("job_leases", {job_id: PAST})
    await redis.hset("job_running", job_id, "w9.0.1.1")

    assert [(job_id, "stale")] == await store.reap(3)
    assert before == await dump(redis)


async def test_a_cancel_that_was_asked_for(store: Store, redis: Redis, lane: Lane) -> None:
    """A job that was to be cancelled when its worker was lost is cancelled, and is on no list."""
    [job_id] = await submitted(store)
    await lane.claim()
    await store.cancel(job_id, "", "{}")
    await lose_all(redis)
    await take_marks(redis)

    assert [(job_id, "cancelled")] == await store.reap(3)
    assert Status.CANCELLED == (await job_of(store, job_id)).status
    assert [job_id] == await redis.zrange("job_index:cancelled", 0, -1)
    assert 0 == await redis.exists("job_queue", "job_cancel", "job_leases", "job_running")
    assert [] == await take_marks(redis)


async def test_a_foreign_record_not_yet_adopted(store: Store, redis: Redis, lane: Lane) -> None:
    """It goes back as it is, and is claimed again."""
    job_id = new_id()
    record = foreign(job_id, odd=[[], 9007199254740993])
    await pushed(redis, record, job_id)
    await lane.claim()
    await lose_all(redis)
    await take_marks(redis)

    assert [(job_id, "pending")] == await store.reap(3)
    assert record == await redis.get(keys.job(job_id))
    assert ["default"] == await take_marks(redis)
    assert [(job_id, record.encode())] == [(claim.job_id, claim.record) for claim in await lane.claim()]


@pytest.mark.parametrize("found", ["nothing", "a list"])
async def test_no_record(store: Store, redis: Redis, lane: Lane, found: str) -> None:
    """A lease without a readable record is given up, and the others are reaped all the same."""
    ids = await submitted(store, 2)
    await lane.claim(2)
    await redis.delete(keys.job(ids[0]))
    if found == "a list":
        await redis.rpush(keys.job(ids[0]), "mine")
    await lose_all(redis)

    assert {(ids[0], "missing"), (ids[1], "pending")} == set(await store.reap(3))
    assert [ids[1]] == await redis.lrange("job_queue", 0, -1)
    assert {} == await held(redis)


async def test_a_record_of_another_job(store: Store, redis: Redis, lane: Lane) -> None:
    """A record that somebody replaced by another job's does not touch that other job."""
    [job_id] = await submitted(store)
    await lane.claim()
    [victim] = await submitted(store, due="+60000")
    record = await redis.get(keys.job(victim))
    await redis.set(keys.job(job_id), Job(victim, "note").text())
    await lose_all(redis)
    await store.reap(3)

    assert record == await redis.get(keys.job(victim))
    assert [] == await lane.claim()
    assert {job_id: "not a job id"} == await redis.hgetall("job_quarantine")


async def test_progress_goes_with_the_attempt(store: Store, redis: Redis, lane: Lane) -> None:
    """The progress of an attempt that was lost is not that of the next; its log stays."""
    ids = await submitted(store, 2)
    for claim in await lane.claim(2):
        await store.emit(claim.job_id, claim.token, 1, [(1, "progress", "5")])
    await redis.zadd("job_leases", {ids[0]: PAST})
    await store.reap(3)

    assert {ids[1]: "5"} == await redis.hgetall("job_progress")
    assert 1 == await redis.xlen(keys.emitted(ids[0]))


async def test_what_is_counted(store: Store, redis: Redis) -> None:
    """A loss counts as lost; the last one, after which the job is over, as failed; a cancelled one as cancelled."""
    lane = Lane(store, queues="mail")
    [_, cancelled] = await submitted(store, 2, queue="mail")
    await lane.claim(2)
    await store.cancel(cancelled, "", "{}")
    await lose_all(redis)
    await store.reap(2)
    assert {"mail|in": 2, "mail|lost": 1, "mail|cancelled": 1} == await counted(redis)

    await lane.claim()
    await lose_all(redis)
    await store.reap(2)
    assert {"mail|in": 2, "mail|lost": 1, "mail|cancelled": 1, "mail|failed": 1} == await counted(redis)


async def test_queue_and_priority(store: Store, redis: Redis) -> None:
    """It goes back to its own list."""
    [job_id] = await submitted(store, queue="mail", priority=2)
    await Lane(store, queues="mail").claim()
    await lose_all(redis)
    await take_marks(redis)
    await store.reap(3)

    assert [job_id] == await redis.lrange("job_queue:mail:2", 0, -1)
    assert ["mail"] == await take_marks(redis)


async def test_a_hundred_a_call(store: Store, redis: Redis, lane: Lane) -> None:
    """250 lost leases are 100, 100 and 50; each job is listed once."""
    ids = await submitted(store, 250)
    await lane.claim(200)
    await lane.claim(200)
    await lose_all(redis)

    assert [100, 100, 50, 0] == [len(await store.reap(3)) for _ in range(4)]
    assert sorted(ids) == sorted(await redis.lrange("job_queue", 0, -1))
    assert {} == await held(redis)


async def test_ten_reapers_at_once(store: Store, redis: Redis, lane: Lane) -> None:
    """However many reap at the same time, each job is given back once."""
    ids = await submitted(store, 50)
    await lane.claim(50)
    await lose_all(redis)

    answers = await asyncio.gather(*(store.reap(3) for _ in range(10)))

    assert sorted(ids) == sorted(job_id for answer in answers for job_id, _ in answer)
    assert sorted(ids) == sorted(await redis.lrange("job_queue", 0, -1))
    assert {1} == {(await job_of(store, job_id)).lost for job_id in ids}


async def test_nothing_lost_writes_nothing(store: Store, redis: Redis, lane: Lane) -> None:
    """A reaper that finds nothing changes nothing."""
    await submitted(store)
    await lane.claim()
    before = await dump(redis)

    assert [] == await store.reap(3)
    assert before == await dump(redis)


async def test_the_next_attempt(store: Store, redis: Redis, lane: Lane) -> None:
    """What was lost is claimed again with a higher attempt and another token."""
    await submitted(store)
    [first] = await lane.claim()
    await redis.zadd("job_leases", {first.job_id: PAST})
    await store.reap(3)
    [second] = await Lane(store, "w2").claim()

    assert (1, 2) == tuple(parse(claim.job_id, claim.record).attempt for claim in (first, second))
    assert first.token != second.token


async def test_full_memory(store: Store, redis: Redis, memory: Memory, lane: Lane) -> None:
    """At the memory limit leases are reaped on."""
    [job_id] = await submitted(store)
    await lane.claim()
    await lose_all(redis)
    await memory.fill()

    assert [(job_id, "pending")] == await store.reap(3)
