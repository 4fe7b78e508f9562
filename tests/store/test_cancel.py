"""cancel: pending → cancelled, or a request to the worker that runs it."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from jobq import Client
from jobq.errors import Conflict, CorruptRecord, JobNotFound
from jobq.job import Job, Status
from jobq.policy import cancelled
from jobq.store import keys
from jobq.store.store import Store
from tests.store.conftest import Memory
from tests.store.support import (
    ODD_TAIL,
    Lane,
    counted,
    dump,
    finished,
    foreign,
    held,
    job_of,
    new_id,
    pushed,
    server_ms,
    submitted,
)

ERROR = cancelled("no need").text()


async def test_pending(store: Store, redis: Redis, lane: Lane) -> None:
    """A waiting job is over at once, with its reason; its list entry stays, and claim skips it."""
    [job_id] = await submitted(store, tail=ODD_TAIL)
    before = await server_ms(redis)

    assert ("ok", "cancelled") == await store.cancel(job_id, "no need", ERROR)

    job = await job_of(store, job_id)
    assert job.finished_at is not None
    assert before <= job.finished_at <= await server_ms(redis)
    expected = Job(
        job_id, "note", Status.CANCELLED, created_at=job.created_at, finished_at=job.finished_at, error_text=ERROR,
        tail=ODD_TAIL,
    )  # fmt: skip
    assert expected == job
    assert [(job_id, job.finished_at)] == await redis.zrange("job_index:cancelled", 0, -1, withscores=True)
    [(_, event)] = await redis.xrange("job_events")
    assert {"status": "cancelled", "ids": job_id} == event
    assert [job_id] == await redis.lrange("job_queue", 0, -1)
    assert [] == await lane.claim()


async def test_what_is_counted(store: Store, redis: Redis, lane: Lane) -> None:
    """A job that is cancelled at once counts in its queue; a request to a worker does not, nor does a repetition."""
    [running] = await submitted(store)
    await lane.claim()
    [waiting] = await submitted(store, queue="mail")
    for job_id in (running, waiting, waiting):
        await store.cancel(job_id, "", ERROR)

    assert {"default|in": 1, "mail|in": 1, "mail|cancelled": 1} == await counted(redis)


async def test_scheduled_and_expiring(store: Store, redis: Redis) -> None:
    """A job that is not due yet leaves the schedule and the expiries."""
    [job_id] = await submitted(store, due="+60000", expires="+90000")

    assert ("ok", "cancelled") == await store.cancel(job_id, "", ERROR)
    assert 0 == await redis.exists("job_schedule", "job_expiry")


async def test_twice(store: Store, redis: Redis) -> None:
    """The second cancel is `repeat` and changes nothing."""
    [job_id] = await submitted(store)
    await store.cancel(job_id, "no need", ERROR)
    before = await dump(redis)

    assert ("repeat", "cancelled") == await store.cancel(job_id, "other", cancelled("other").text())
    assert before == await dump(redis)


async def test_running(store: Store, redis: Redis, lane: Lane) -> None:
    """Of a running job the cancel is noted for its worker; the record is the worker's to write."""
    [job_id] = await submitted(store)
    [claim] = await lane.claim()

    assert ("requested", "processing") == await store.cancel(job_id, "no need", ERROR)
    assert {job_id: "no need"} == await redis.hgetall("job_cancel")
    assert claim.record == await store.record(job_id)
    assert {job_id: claim.token} == await held(redis)


async def test_running_twice(store: Store, redis: Redis, lane: Lane) -> None:
    """The first reason stays."""
    [job_id] = await submitted(store)
    await lane.claim()
    await store.cancel(job_id, "first", ERROR)

    assert ("requested", "processing") == await store.cancel(job_id, "second", ERROR)
    assert {job_id: "first"} == await redis.hgetall("job_cancel")


async def test_running_and_foreign(store: Store, redis: Redis, lane: Lane) -> None:
    """A foreign record that is held already is running, although it still reads pending."""
    job_id = new_id()
    await pushed(redis, foreign(job_id), job_id)
    await lane.claim()

    assert ("requested", "processing") == await store.cancel(job_id, "", ERROR)


@pytest.mark.parametrize(("outcome", "status"), [("complete", "completed"), ("fail", "failed")])
async def test_over(store: Store, redis: Redis, lane: Lane, outcome: str, status: str) -> None:
    """A job that is over answers `state` with its status, and no key changes."""
    job_id = await finished(lane, outcome)
    before = await dump(redis)

    assert ("state", status) == await store.cancel(job_id, "", ERROR)
    assert before == await dump(redis)


async def test_foreign(store: Store, redis: Redis) -> None:
    """A foreign record that waits is `foreign`: whoever cancels adopts it first."""
    job_id = new_id()
    await pushed(redis, foreign(job_id), job_id)
    before = await dump(redis)

    assert ("foreign", "") == await store.cancel(job_id, "", ERROR)
    assert before == await dump(redis)


async def test_missing_and_corrupt(store: Store, redis: Redis) -> None:
    """No record is `missing`, a key of another type `corrupt`; neither is written."""
    job_id = new_id()
    assert ("missing", "") == await store.cancel(job_id, "", ERROR)
    await redis.rpush(keys.job(job_id), "mine")
    before = await dump(redis)

    assert ("corrupt", "") == await store.cancel(job_id, "", ERROR)
    assert before == await dump(redis)


async def test_a_record_of_another_job(store: Store, redis: Redis) -> None:
    """A record that names another id than its key's does not get that other job cancelled."""
    [victim] = await submitted(store)
    liar = new_id()
    await redis.set(keys.job(liar), Job(victim, "note").text())
    before = await dump(redis)

    assert ("foreign", "") == await store.cancel(liar, "", ERROR)
    assert before == await dump(redis)


async def test_full_memory(store: Store, memory: Memory) -> None:
    """At the memory limit jobs can be cancelled."""
    [job_id] = await submitted(store)
    await memory.fill()

    assert ("ok", "cancelled") == await store.cancel(job_id, "", ERROR)


class TestClient:
    """What a caller of `Client.cancel` sees."""

    async def test_a_foreign_job(self, client: Client, redis: Redis) -> None:
        """A foreign job is cancelled like any other, with its unknown members unchanged."""
        job_id = new_id()
        await pushed(redis, foreign(job_id, odd=[[], 9007199254740993]), job_id)

        assert Status.CANCELLED == await client.cancel(job_id, "no need")
        assert (await redis.get(keys.job(job_id))).endswith(',"odd":[[], 9007199254740993]}')

    async def test_answers_and_errors(self, client: Client, redis: Redis, lane: Lane) -> None:
        """Cancelled, asked for, not found, over, unreadable: each has its own answer."""
        with pytest.raises(JobNotFound):
            await client.cancel(new_id())
        over = await finished(lane)
        with pytest.raises(Conflict, match="is completed and cannot be cancelled") as conflict:
            await client.cancel(over)
        assert "completed" == conflict.value.job_status
        liar = new_id()
        await redis.set(keys.job(liar), Job(over, "note").text())
        with pytest.raises(CorruptRecord):
            await client.cancel(liar)
        [running] = await submitted(lane.store)
        await lane.claim()
        assert Status.PROCESSING == await client.cancel(running)
