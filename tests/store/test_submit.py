"""submit: asked → pending."""

from __future__ import annotations

import asyncio

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
    counted,
    dump,
    job_of,
    new_id,
    pass_ms,
    server_ms,
    settled,
    submission,
    submitted,
    take_marks,
)

KEY, BODY = "a1", "b1"
"""Digests, as far as the script cares."""


async def test_a_plain_job_is_a_short_record_and_an_id_on_the_default_list(store: Store, redis: Redis) -> None:
    """A job without options is a record of about 150 bytes and a list entry; its queue is known, marked and counted."""
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
        "job_queues": {"default"},
    } == await dump(redis, statistics=False)
    assert {"default|in": 1} == await counted(redis)


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


async def test_what_is_counted(store: Store, redis: Redis) -> None:
    """Each job that is accepted counts in its queue, also one that is due later; a repeated one does not."""
    rows = [submission(), submission(due="+60000"), submission(queue="mail", priority=3)]
    await store.submit(rows)
    await store.submit([*rows, submission()])

    assert {"default|in": 3, "mail|in": 1} == await counted(redis)
    assert {"default", "mail"} == await redis.smembers("job_queues")


async def test_counted_in_slots_of_ten_seconds(store: Store, redis: Redis) -> None:
    """Statistics lie in hashes by the server's time, which are forgotten after an hour."""
    before = await server_ms(redis)
    await submitted(store)
    [slot] = [key async for key in redis.scan_iter("job_stats:*")]

    assert before // 10_000 <= int(slot.removeprefix("job_stats:")) <= await server_ms(redis) // 10_000
    assert 3590 < await redis.ttl(slot) <= 3600


async def test_statistics_of_another_type(store: Store, redis: Redis, lane: Lane) -> None:
    """Somebody else's value where statistics belong costs the numbers, not the job."""
    slot = await server_ms(redis) // 10_000
    await redis.mset({f"job_stats:{slot + n}": "mine" for n in range(2)})
    [job_id] = await submitted(store)

    assert ["default"] == await take_marks(redis)
    [claim] = await lane.claim()
    assert ["ok"] == await lane.settle(settled(claim, "complete"))
    assert [job_id] == await redis.zrange("job_index:completed", 0, -1)


class TestIdempotency:
    """Requests with an idempotency key: here the digests of the key and of what came with it."""

    async def test_an_equal_request_is_the_job_made_before(self, store: Store, redis: Redis) -> None:
        """The same key and request answer the first job's id; no second job is made and nothing changes."""
        first = submission(idem=KEY, body=BODY, payload=b"{}", expires="+60000")
        assert ["ok"] == await store.submit([first])
        before = await dump(redis)

        again = first._replace(job_id=new_id())
        assert [f"replay:{first.job_id}"] == await store.submit([again])
        assert before == await dump(redis)

    async def test_the_same_call_twice(self, store: Store, redis: Redis) -> None:
        """A submit whose reply was lost answers its own job."""
        row = submission(idem=KEY, body=BODY)
        await store.submit([row])
        before = await dump(redis)

        assert [f"replay:{row.job_id}"] == await store.submit([row])
        assert before == await dump(redis)

    async def test_another_request(self, store: Store, redis: Redis) -> None:
        """The same key with another request is a mismatch, and nothing is stored."""
        await store.submit([submission(idem=KEY, body=BODY)])
        before = await dump(redis)

        assert ["mismatch"] == await store.submit([submission(idem=KEY, body="b2", payload=b"{}", queue="mail")])
        assert before == await dump(redis)

    async def test_fifty_at_once(self, store: Store, redis: Redis) -> None:
        """However many send the same request at the same time, one job is made and all get its id."""
        rows = [submission(idem=KEY, body=BODY) for _ in range(50)]
        verdicts = [verdict for [verdict] in await asyncio.gather(*(store.submit([row]) for row in rows))]

        [made] = [row.job_id for row, verdict in zip(rows, verdicts, strict=True) if verdict == "ok"]
        assert sorted(["ok"] + [f"replay:{made}"] * 49) == sorted(verdicts)
        assert [made] == await redis.lrange("job_queue", 0, -1)
        assert [keys.job(made)] == [key async for key in redis.scan_iter("job:*")]

    async def test_twice_in_one_call(self, store: Store, redis: Redis) -> None:
        """Within a call the first of equal requests makes the job; jobs with other keys or none are made."""
        first, equal, other = (submission(idem=key, body=BODY) for key in (KEY, KEY, "a2"))
        none = submission()

        assert ["ok", f"replay:{first.job_id}", "ok", "ok"] == await store.submit([first, equal, other, none])
        assert [first.job_id, other.job_id, none.job_id] == await redis.lrange("job_queue", 0, -1)

    async def test_for_a_day(self, store: Store, redis: Redis) -> None:
        """The key is kept for 24 h from the first request; a replay does not prolong it; after that it is new."""
        await store.submit([submission(idem=KEY, body=BODY)])
        assert 86_390 < await redis.ttl(f"job_idem:{KEY}") <= 86_400
        await redis.expire(f"job_idem:{KEY}", 100)
        await store.submit([submission(idem=KEY, body=BODY)])
        assert await redis.ttl(f"job_idem:{KEY}") <= 100

        await redis.pexpire(f"job_idem:{KEY}", 1)
        await pass_ms(redis, 2)
        assert ["ok"] == await store.submit([submission(idem=KEY, body="b2")])

    async def test_with_an_id_of_its_own(self, store: Store, redis: Redis) -> None:
        """The key comes first: with it the job made before is meant, whatever id is given now."""
        own = new_id()
        assert ["ok"] == await store.submit([submission(own, idem=KEY, body=BODY)])

        assert [f"replay:{own}"] == await store.submit([submission(own, idem=KEY, body=BODY)])
        assert [f"replay:{own}"] == await store.submit([submission(new_id(), idem=KEY, body=BODY)])
        assert ["repeat"] == await store.submit([submission(own)])
        assert ["mismatch"] == await store.submit([submission(own, idem=KEY, body="b2")])
        assert [own] == await redis.lrange("job_queue", 0, -1)

    async def test_an_id_that_exists_binds_no_key(self, store: Store, redis: Redis) -> None:
        """A new key with the id of a job that exists is `repeat`, and the key stays free."""
        [job_id] = await submitted(store)

        assert ["repeat"] == await store.submit([submission(job_id, idem=KEY, body=BODY)])
        assert 0 == await redis.exists(f"job_idem:{KEY}")

    async def test_holds_when_the_job_is_gone(self, store: Store) -> None:
        """A job that was erased is not made a second time under its key."""
        row = submission(idem=KEY, body=BODY)
        await store.submit([row])
        await store.delete(row.job_id)

        assert [f"replay:{row.job_id}"] == await store.submit([submission(idem=KEY, body=BODY)])

    async def test_a_key_of_another_type(self, store: Store, redis: Redis) -> None:
        """Somebody else's value under the key's name is no earlier request and harms no job of the call."""
        await redis.rpush(f"job_idem:{KEY}", "mine")
        rows = [submission(), submission(idem=KEY, body=BODY), submission()]

        assert ["ok", "ok", "ok"] == await store.submit(rows)
        assert [row.job_id for row in rows] == await redis.lrange("job_queue", 0, -1)


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


class TestFullQueue:
    """`most` jobs may be ready in a queue when a call comes; beyond that it takes nothing new."""

    async def test_a_full_queue_refuses_and_stays_as_it_is(self, store: Store, redis: Redis) -> None:
        """What finds the limit reached is `full`, whatever its priority or time, and no key changes."""
        await submitted(store, 2, priority=3)
        await submitted(store, 1)
        before = await dump(redis)

        rows = [submission(), submission(priority=9), submission(due="+60000"), submission(idem=KEY, body=BODY)]
        assert ["full"] * 4 == await store.submit(rows, 3)
        assert before == await dump(redis)
        assert ["ok"] == await store.submit(rows[:1], 4)

    async def test_only_the_full_queue(self, store: Store, redis: Redis) -> None:
        """Rows of other queues in the same call are stored."""
        await submitted(store)
        rows = [submission(), submission(queue="mail"), submission()]

        assert ["full", "ok", "full"] == await store.submit(rows, 1)
        assert [rows[1].job_id] == await redis.lrange("job_queue:mail", 0, -1)

    async def test_the_depth_is_that_at_the_start(self, store: Store, redis: Redis) -> None:
        """A call that finds room is stored whole: a queue may be one call over its limit."""
        assert ["ok"] * 200 == await store.submit([submission() for _ in range(200)], 1)
        assert 200 == await redis.llen("job_queue")

    async def test_what_was_made_before_is_answered_as_ever(self, store: Store, redis: Redis) -> None:
        """A repeat, a replay and a mismatch are no new jobs: a full queue answers them too, alone or all or nothing."""
        made, keyed = submission(), submission(idem=KEY, body=BODY)
        await store.submit([made, keyed])
        rows = [made, submission(idem=KEY, body=BODY), submission(idem=KEY, body="b2"), submission(made.job_id)]

        expected = ["repeat", f"replay:{keyed.job_id}", "mismatch", "repeat"]
        assert expected == await store.submit(rows, 1)
        assert expected == await store.submit(rows, 1, atomic=True)
        assert ["repeat", f"replay:{keyed.job_id}", "ok"] == await store.submit(
            [made, rows[1], submission(queue="mail")], 1, atomic=True
        )

    async def test_all_or_nothing(self, store: Store, redis: Redis) -> None:
        """With `atomic` one job without room keeps all new ones out, in whatever order they come."""
        [known] = await submitted(store)
        before = await dump(redis)
        rows = [submission(queue="mail"), submission(known), submission()]

        assert ["full", "repeat", "full"] == await store.submit(rows, 1, atomic=True)
        assert before == await dump(redis)
        assert ["ok", "repeat", "ok"] == await store.submit(rows, 2, atomic=True)

    async def test_what_is_no_submit_passes(self, store: Store, redis: Redis, lane: Lane) -> None:
        """Retries, releases and due jobs go back to a full queue: the limit is for what comes in."""
        await submitted(store, 2)
        [first, second] = await lane.claim(2)
        await submitted(store, due="+1")
        await submitted(store)
        assert ["full"] == await store.submit([submission()], 1)

        await lane.settle(settled(first, "retry"), settled(second, "release"))
        await pass_ms(redis, 2)
        await store.stage()
        assert 4 == await redis.llen("job_queue")

    async def test_a_foreign_type_counts_nothing(self, store: Store, redis: Redis) -> None:
        """What somebody else keeps under the name of another priority's list is not counted."""
        await redis.set("job_queue:default:7", "x")
        assert ["ok"] == await store.submit([submission()], 1)
