"""retry: failed | cancelled → pending, by hand."""

from __future__ import annotations

import json

import pytest
from redis.asyncio import Redis

from jobq import Client
from jobq.errors import Conflict, JobNotFound
from jobq.job import Job, JobError, Status
from jobq.store import keys
from jobq.store.store import Store
from tests.store.support import (
    ODD_TAIL,
    Lane,
    counted,
    dump,
    finished,
    foreign,
    job_of,
    new_id,
    pushed,
    settled,
    submitted,
    take_marks,
)

ERROR = JobError("ValueError", "x", "error").text()


@pytest.mark.parametrize(("outcome", "status"), [("fail", "failed"), ("cancel", "cancelled")])
async def test_back_to_the_queue_with_fresh_budgets(
    store: Store, redis: Redis, lane: Lane, outcome: str, status: str
) -> None:
    """A job that is over waits again at the back, with no retries and losses spent, and wakes a worker."""
    [job_id] = await submitted(store, tail=ODD_TAIL)
    [claim] = await lane.claim()
    await lane.settle(settled(claim, outcome, retries=3, lost=2, error_text=ERROR))
    [ahead] = await submitted(store)
    await take_marks(redis)

    assert ("ok", "pending") == await store.retry(job_id, 1)

    job = await job_of(store, job_id)
    expected = Job(job_id, "note", attempt=1, created_at=job.created_at, error_text=ERROR, tail=ODD_TAIL)
    assert expected == job
    assert [ahead, job_id] == await redis.lrange("job_queue", 0, -1)
    assert 0 == await redis.exists(f"job_index:{status}")
    assert ["default"] == await take_marks(redis)
    [line] = await redis.lrange(keys.attempts(job_id), 0, -1)
    past = json.loads(line)
    assert (1, status, "w1", json.loads(ERROR)) == (past["attempt"], past["outcome"], past["worker"], past["error"])


async def test_runs_again(store: Store, lane: Lane) -> None:
    """The next claim is the next attempt."""
    job_id = await finished(lane, "fail")
    await store.retry(job_id, 1)
    await lane.claim()

    assert 2 == (await job_of(store, job_id)).attempt


async def test_the_queue_and_priority_it_had(store: Store, redis: Redis) -> None:
    """It goes back to its own list."""
    job_id = await finished(Lane(store, queues="mail"), "fail", queue="mail", priority=4)
    await take_marks(redis)
    await store.retry(job_id, 1)

    assert [job_id] == await redis.lrange("job_queue:mail:4", 0, -1)
    assert ["mail"] == await take_marks(redis)


async def test_an_expired_job(store: Store, redis: Redis, lane: Lane) -> None:
    """A job that expired is run after all: its expiry and its due time are forgotten."""
    [job_id] = await submitted(store, due="+60000", expires="+60000")
    await redis.zadd("job_expiry", {job_id: 1})
    await store.expire()

    assert ("ok", "pending") == await store.retry(job_id, 0)
    job = await job_of(store, job_id)
    assert (None, None, None) == (job.expires_at, job.run_at, job.finished_at)
    assert 0 == await redis.exists("job_schedule", "job_expiry", keys.attempts(job_id))
    assert [job_id] == [claim.job_id for claim in await lane.claim()]


async def test_the_same_call_twice(store: Store, redis: Redis, lane: Lane) -> None:
    """A retry whose reply was lost is `repeat`: the job is listed once."""
    job_id = await finished(lane, "fail")
    await store.retry(job_id, 1)
    before = await dump(redis)

    assert ("repeat", "pending") == await store.retry(job_id, 1)
    assert before == await dump(redis)


async def test_nothing_is_counted(store: Store, redis: Redis, lane: Lane) -> None:
    """What somebody runs again by hand is neither new nor a retry of the queue's own."""
    job_id = await finished(lane, "fail")
    await store.retry(job_id, 1)

    assert {"default|in": 1, "default|failed": 1} == await counted(redis)


async def test_an_old_result_goes(store: Store, redis: Redis, lane: Lane) -> None:
    """Whatever stands under the result's key is not the result of what will run now."""
    job_id = await finished(lane, "fail")
    await redis.set(keys.result(job_id), "1")
    await store.retry(job_id, 1)

    assert 0 == await redis.exists(keys.result(job_id))


async def test_other_states(store: Store, redis: Redis, lane: Lane) -> None:
    """Completed, running, waiting for an automatic retry, or of another attempt: `state`, and no key changes."""
    completed = await finished(lane)
    running, waiting, other = await submitted(store, 3)
    claims = await lane.claim(3)
    await lane.settle(settled(claims[1], "retry", retries=1, due=9795488299123), settled(claims[2], "release"))
    before = await dump(redis)

    assert ("state", "completed") == await store.retry(completed, 1)
    assert ("state", "processing") == await store.retry(running, 1)
    assert ("state", "pending") == await store.retry(waiting, 1)
    assert ("state", "pending") == await store.retry(other, 0)
    assert before == await dump(redis)


async def test_foreign_missing_and_corrupt(store: Store, redis: Redis) -> None:
    """Records that are none of ours are told apart and left alone."""
    theirs, gone, corrupt, liar = new_id(), new_id(), new_id(), new_id()
    await pushed(redis, foreign(theirs, status="failed"), theirs)
    await redis.rpush(keys.job(corrupt), "mine")
    await redis.set(keys.job(liar), Job(new_id(), "note", Status.FAILED).text())
    before = await dump(redis)

    assert ("foreign", "") == await store.retry(theirs, 0)
    assert ("missing", "") == await store.retry(gone, 0)
    assert ("corrupt", "") == await store.retry(corrupt, 0)
    assert ("foreign", "") == await store.retry(liar, 0)
    assert before == await dump(redis)


class TestClient:
    """What a caller of `Client.retry` sees."""

    async def test_a_foreign_job(self, client: Client, redis: Redis) -> None:
        """A failed foreign job is retried like any other."""
        job_id = new_id()
        await redis.set(keys.job(job_id), foreign(job_id, status="failed", retries=3, odd=[]))

        await client.retry(job_id)
        job = await client.get(job_id)
        assert (Status.PENDING, 0, ',"odd":[]') == (job.status, job.retries, job.tail)
        assert [job_id] == await redis.lrange("job_queue", 0, -1)

    async def test_errors(self, client: Client, lane: Lane) -> None:
        """Unknown jobs and jobs in another state raise, with the state."""
        with pytest.raises(JobNotFound):
            await client.retry(new_id())
        with pytest.raises(Conflict, match="is completed and cannot be retried"):
            await client.retry(await finished(lane))
