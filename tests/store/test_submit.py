"""submit: asked → pending."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from jobq.errors import StoreFull
from jobq.job import Job
from jobq.store import keys
from jobq.store.store import Store
from tests.store.conftest import Memory
from tests.store.support import (
    ODD_TAIL,
    Lane,
    dump,
    job_of,
    new_id,
    server_ms,
    settled,
    submission,
    submitted,
    take_marks,
)


async def test_a_plain_job_is_a_short_record_and_an_id_on_the_default_list(store: Store, redis: Redis) -> None:
    """A job without options is one record of about 150 bytes and one list entry, and nothing else but the mark."""
    before = await server_ms(redis)
    [job_id] = await submitted(store)
    job = await job_of(store, job_id)

    assert Job(job_id, "note", created_at=job.created_at) == job
    assert before <= job.created_at <= await server_ms(redis)
    record = await redis.get(keys.job(job_id))
    assert len(record) < 160
    assert {
        "job_queue": [job_id],
        keys.job(job_id): record,
        "job_wake:default": [("1", 0.0)],
    } == await dump(redis)


async def test_the_four_keys_of_the_contract_come_first(store: Store, redis: Redis) -> None:
    """A reader of the record sees the contract's four members as it gives them."""
    [job_id] = await submitted(store)

    head = f'{{"job_id":"{job_id}","task":"note","status":"pending","retries":0,'
    assert (await redis.get(keys.job(job_id))).startswith(head)


async def test_payload_and_tail_are_kept_byte_for_byte(store: Store, redis: Redis) -> None:
    """Payload bytes and the members of the tail are stored as given, never decoded."""
    payload = b'{"list":[], "big":9007199254740993,\n"raw":"\\ud800"}'
    [job_id] = await submitted(store, payload=payload, tail=ODD_TAIL)

    stored = await store.stored(job_id)
    assert stored is not None
    assert payload == stored.payload
    assert stored.record.decode().endswith(ODD_TAIL + "}")


@pytest.mark.parametrize(
    ("queue", "priority", "expected"),
    [
        ("default", 0, "job_queue"),
        ("default", 4, "job_queue:default:4"),
        ("mail", 0, "job_queue:mail"),
        ("mail", 9, "job_queue:mail:9"),
    ],
)
async def test_the_list_of_queue_and_priority(
    store: Store, redis: Redis, queue: str, priority: int, expected: str
) -> None:
    """An id goes to the back of the list of its queue and priority, and the queue is marked."""
    ids = await submitted(store, 3, queue=queue, priority=priority)

    assert ids == await redis.lrange(expected, 0, -1)
    assert expected == keys.ready(queue, priority)
    assert [queue] == await take_marks(redis)
    job = await job_of(store, ids[0])
    assert (queue, priority) == (job.queue, job.priority)


async def test_one_call_fills_several_lists_in_order(store: Store, redis: Redis) -> None:
    """Jobs of several queues in one call keep their order within each."""
    rows = [submission(queue=queue) for queue in ("mail", "default", "mail", "default")]
    assert ["ok"] * 4 == await store.submit(rows)

    assert [rows[1].job_id, rows[3].job_id] == await redis.lrange("job_queue", 0, -1)
    assert [rows[0].job_id, rows[2].job_id] == await redis.lrange("job_queue:mail", 0, -1)
    assert ["default", "mail"] == await take_marks(redis)


async def test_a_delay_goes_to_the_schedule(store: Store, redis: Redis) -> None:
    """A job that is due later is scheduled, by the server's clock, is on no list and wakes nobody."""
    [job_id] = await submitted(store, due="+60000")

    job = await job_of(store, job_id)
    assert job.created_at + 60_000 == job.run_at
    assert [(job_id, job.run_at)] == await redis.zrange("job_schedule", 0, -1, withscores=True)
    assert 0 == await redis.llen("job_queue")
    assert [] == await take_marks(redis)


async def test_an_absolute_time(store: Store, redis: Redis) -> None:
    """`run_at` is taken as it is; a time that is over means now."""
    later = await server_ms(redis) + 60_000
    [ahead] = await submitted(store, due=str(later))
    [over] = await submitted(store, due="1000")

    assert later == (await job_of(store, ahead)).run_at
    assert [(ahead, later)] == await redis.zrange("job_schedule", 0, -1, withscores=True)
    assert [over] == await redis.lrange("job_queue", 0, -1)


async def test_an_expiry_is_noted(store: Store, redis: Redis) -> None:
    """`expires_in` is kept in the record and in the set that expire works through, also of a scheduled job."""
    [listed] = await submitted(store, expires="+5000")
    [scheduled] = await submitted(store, expires="+6000", due="+1000")

    first, second = await job_of(store, listed), await job_of(store, scheduled)
    assert first.created_at + 5000 == first.expires_at
    assert second.created_at + 6000 == second.expires_at
    assert [(listed, first.expires_at), (scheduled, second.expires_at)] == await redis.zrange(
        "job_expiry", 0, -1, withscores=True
    )


async def test_the_same_call_twice_equals_once(store: Store, redis: Redis) -> None:
    """A submit whose reply was lost may be sent again: `repeat`, and nothing is added or changed."""
    rows = [submission(payload=b"{}"), submission(due="+60000"), submission(expires="+60000", queue="mail")]
    assert ["ok"] * 3 == await store.submit(rows)
    before = await dump(redis)

    assert ["repeat"] * 3 == await store.submit(rows)
    assert before == await dump(redis)


async def test_an_id_twice_in_one_call(store: Store, redis: Redis) -> None:
    """The first of two jobs with one id wins, within a call too."""
    job_id = new_id()

    assert ["ok", "repeat"] == await store.submit([submission(job_id, task="one"), submission(job_id, task="two")])
    assert "one" == (await job_of(store, job_id)).task
    assert [job_id] == await redis.lrange("job_queue", 0, -1)


@pytest.mark.parametrize("outcome", ["complete", "fail"])
async def test_an_id_that_is_over_is_not_run_again(store: Store, redis: Redis, lane: Lane, outcome: str) -> None:
    """Submitting the id of a job that is over changes nothing about it."""
    [job_id] = await submitted(store)
    [claim] = await lane.claim()
    await lane.settle(settled(claim, outcome))
    before = await dump(redis)

    assert ["repeat"] == await store.submit([submission(job_id)])
    assert before == await dump(redis)


async def test_a_key_of_another_type_is_left_alone(store: Store, redis: Redis) -> None:
    """`job:<id>` that holds a list is not overwritten, and the other jobs of the call are accepted."""
    taken = new_id()
    await redis.rpush(keys.job(taken), "mine")

    assert ["repeat", "ok"] == await store.submit([submission(taken), submission()])
    assert ["mine"] == await redis.lrange(keys.job(taken), 0, -1)


async def test_200_in_a_call(store: Store, redis: Redis) -> None:
    """A full batch in one call keeps its order, listed, scheduled and expiring alike."""
    listed = [submission(payload=b'{"a":1}') for _ in range(200)]
    assert ["ok"] * 200 == await store.submit(listed)
    assert [row.job_id for row in listed] == await redis.lrange("job_queue", 0, -1)

    scheduled = [submission(due=f"+{60_000 + i}", expires="+90000") for i in range(200)]
    assert ["ok"] * 200 == await store.submit(scheduled)
    assert [row.job_id for row in scheduled] == await redis.zrange("job_schedule", 0, -1)
    assert 200 == await redis.zcard("job_expiry")


async def test_nothing_is_nothing(store: Store, redis: Redis) -> None:
    """An empty submit answers nothing and writes nothing: readiness asks so."""
    assert [] == await store.submit([])
    await store.writable()
    assert {} == await dump(redis)


async def test_full_memory_refuses_submits(store: Store, redis: Redis, memory: Memory) -> None:
    """At the memory limit a submit raises StoreFull and leaves nothing behind; later it is accepted."""
    row = submission()
    await memory.fill()

    with pytest.raises(StoreFull):
        await store.submit([row])
    with pytest.raises(StoreFull):
        await store.writable()
    assert {} == await dump(redis)

    await memory.free()
    assert ["ok"] == await store.submit([row])
