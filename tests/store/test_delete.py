"""delete: anything but processing → nothing."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from jobq import Client
from jobq.errors import Conflict, CorruptRecord, JobNotFound
from jobq.job import Job
from jobq.store import keys
from jobq.store.store import Settlement, Store
from tests.store.conftest import Memory
from tests.store.support import (
    PAST,
    Lane,
    dump,
    finished,
    foreign,
    lose_all,
    new_id,
    pushed,
    server_ms,
    settled,
    submission,
    submitted,
)


async def left(redis: Redis, job_id: str) -> list[str]:
    """Names of keys in which this job still is."""
    found = await dump(redis)
    return sorted(key for key, value in found.items() if job_id in key or job_id in str(value))


async def test_waiting(store: Store, redis: Redis, lane: Lane) -> None:
    """Of a waiting job only the list entry stays, and a note that it is nobody's; claim drops it."""
    [job_id] = await submitted(store, payload=b"{}", expires="+60000")
    [behind] = await submitted(store)
    before = await server_ms(redis)

    assert ("ok", "pending") == await store.delete(job_id)

    assert ["job_erased", "job_queue"] == await left(redis, job_id)
    assert before <= await redis.zscore("job_erased", job_id) <= await server_ms(redis)
    assert [behind] == [claim.job_id for claim in await lane.claim(5)]
    assert 0 == await redis.exists("job_missing", "job_quarantine")


async def test_scheduled(store: Store, redis: Redis) -> None:
    """A job that is not due yet leaves the schedule."""
    [job_id] = await submitted(store, due="+60000")

    assert ("ok", "pending") == await store.delete(job_id)
    assert ["job_erased"] == await left(redis, job_id)


@pytest.mark.parametrize(
    ("outcome", "status"), [("complete", "completed"), ("fail", "failed"), ("cancel", "cancelled")]
)
async def test_over(store: Store, redis: Redis, lane: Lane, outcome: str, status: str) -> None:
    """Of a job that is over everything goes: record, payload, result, past attempts, log, index entry."""
    [job_id] = await submitted(store, payload=b"{}")
    [first] = await lane.claim()
    await store.emit(job_id, first.token, 1, [(1, "progress", "5"), (2, "log", "x")])
    await lane.settle(settled(first, "release"))
    [second] = await lane.claim()
    await lane.settle(settled(second, outcome, b"1"))
    await redis.delete("job_events", "job_pump:w1:0")

    assert ("ok", status) == await store.delete(job_id)
    assert ["job_erased"] == await left(redis, job_id)


async def test_the_others_stay(store: Store, redis: Redis, lane: Lane) -> None:
    """Nothing of another job changes."""
    over, other = await finished(lane), await finished(lane)
    before = {key: value for key, value in (await dump(redis)).items() if other in key}

    await store.delete(over)
    assert before == {key: value for key, value in (await dump(redis)).items() if other in key}
    assert [other] == await redis.zrange("job_index:completed", 0, -1)


async def test_running(store: Store, redis: Redis, lane: Lane) -> None:
    """A running job is refused, and no key changes."""
    [job_id] = await submitted(store)
    await lane.claim()
    before = await dump(redis)

    assert ("state", "processing") == await store.delete(job_id)
    assert before == await dump(redis)


async def test_running_and_foreign(store: Store, redis: Redis, lane: Lane) -> None:
    """A foreign record that is held already is running, although it still reads pending."""
    job_id = new_id()
    await pushed(redis, foreign(job_id), job_id)
    await lane.claim()

    assert ("state", "processing") == await store.delete(job_id)


async def test_twice(store: Store, redis: Redis) -> None:
    """The second delete is `repeat`; an id that never was is `missing`; neither changes anything."""
    [job_id] = await submitted(store)
    await store.delete(job_id)
    before = await dump(redis)

    assert ("repeat", "") == await store.delete(job_id)
    assert ("missing", "") == await store.delete(new_id())
    assert before == await dump(redis)


async def test_parked(store: Store, redis: Redis, lane: Lane) -> None:
    """The parking list's entry of an erased job is dropped when the task is known."""
    await submitted(store, task="new")
    [claim] = await lane.claim()
    await lane.settle(settled(claim, "park"))

    assert ("ok", "pending") == await store.delete(claim.job_id)
    assert 0 == await store.unpark(["default"], ["new"])
    assert 0 == await redis.exists("job_queue", "job_parked", "job_parked:new")


async def test_a_late_settle(store: Store, redis: Redis, lane: Lane) -> None:
    """A worker that comes back after its job was reaped and erased does not bring it back."""
    [job_id] = await submitted(store)
    [claim] = await lane.claim()
    await lose_all(redis)
    await store.reap(3)
    await store.delete(job_id)

    assert ["stale"] == await lane.settle(settled(claim, "complete", b"1"))
    assert 0 == await redis.exists(keys.job(job_id), keys.result(job_id), "job_index:completed")


async def test_a_foreign_job_with_a_cancel(store: Store, redis: Redis, lane: Lane) -> None:
    """A foreign job is erased as it is, and a cancel that waited for it goes too."""
    job_id = new_id()
    await pushed(redis, foreign(job_id), job_id)
    [claim] = await lane.claim()
    await store.cancel(job_id, "enough", "{}")
    await lane.settle(Settlement(job_id, claim.token, "release", claim.record.decode()))

    assert ("ok", "") == await store.delete(job_id)
    assert 0 == await redis.exists(keys.job(job_id), "job_cancel")


async def test_unreadable(store: Store, redis: Redis) -> None:
    """A text that is no record is erased; of another job's record only the copy goes, not that job."""
    [victim] = await submitted(store, expires="+60000")
    record = await redis.get(keys.job(victim))
    odd, liar = new_id(), new_id()
    await redis.mset({keys.job(odd): "not a record", keys.job(liar): Job(victim, "note").text()})

    assert ("ok", "") == await store.delete(odd)
    assert ("ok", "") == await store.delete(liar)
    assert 0 == await redis.exists(keys.job(odd), keys.job(liar))
    assert record == await redis.get(keys.job(victim))
    assert [victim] == await redis.zrange("job_expiry", 0, -1)


async def test_a_key_of_another_type(store: Store, redis: Redis) -> None:
    """What is no string is somebody else's: `corrupt`, and nothing changes."""
    job_id = new_id()
    await redis.rpush(keys.job(job_id), "mine")
    before = await dump(redis)

    assert ("corrupt", "") == await store.delete(job_id)
    assert before == await dump(redis)


async def test_notes_are_forgotten(store: Store, redis: Redis) -> None:
    """That a job was erased is known for 30 days."""
    young = await server_ms(redis) - 29 * 86_400_000
    await redis.zadd("job_erased", {"old": PAST, "young": young})
    [job_id] = await submitted(store)
    await store.delete(job_id)

    assert ["young", job_id] == await redis.zrange("job_erased", 0, -1)


async def test_made_anew(store: Store, lane: Lane) -> None:
    """An id that was erased may be submitted again, and the new job may be erased like the old one."""
    [job_id] = await submitted(store)
    await store.delete(job_id)
    assert ["ok"] == await store.submit([submission(job_id)])

    assert ("ok", "pending") == await store.delete(job_id)
    assert [] == await lane.claim(5)


async def test_full_memory(store: Store, memory: Memory) -> None:
    """At the memory limit jobs can be deleted."""
    [job_id] = await submitted(store)
    await memory.fill()

    assert ("ok", "pending") == await store.delete(job_id)


async def test_client(client: Client, redis: Redis, lane: Lane) -> None:
    """A caller of `Client.delete` sees success, again when repeated, or the reason."""
    job_id = await finished(lane)
    await client.delete(job_id)
    await client.delete(job_id)
    with pytest.raises(JobNotFound):
        await client.get(job_id)
    with pytest.raises(JobNotFound):
        await client.delete(new_id())
    [running] = await submitted(lane.store)
    await lane.claim()
    with pytest.raises(Conflict, match="is processing and cannot be deleted"):
        await client.delete(running)
    theirs = new_id()
    await redis.rpush(keys.job(theirs), "mine")
    with pytest.raises(CorruptRecord):
        await client.delete(theirs)
