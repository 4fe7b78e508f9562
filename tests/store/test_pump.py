"""pump: settles and claims in one call, numbered so that a lost reply costs nothing."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from jobq.job import Status
from jobq.store.store import Settlement, Store
from tests.store.conftest import Memory
from tests.store.support import (
    LONG,
    Lane,
    dump,
    foreign,
    held,
    job_of,
    lose_all,
    new_id,
    pushed,
    server_ms,
    settled,
    submitted,
)


async def test_the_reply(store: Store, redis: Redis, lane: Lane) -> None:
    """A claim brings id, token, record as it reads now, payload, and the server's time."""
    [job_id] = await submitted(store, payload=b'{"text":"x"}')
    before = await server_ms(redis)
    pumped = await lane.next(want=1)

    assert before <= pumped.now <= await server_ms(redis)
    assert [] == pumped.verdicts
    [claim] = pumped.claims
    assert (job_id, "w1.0.1.1", b'{"text":"x"}') == (claim.job_id, claim.token, claim.payload)
    assert await store.record(job_id) == claim.record


async def test_no_payload_is_none(store: Store, lane: Lane) -> None:
    """A job without a payload key is told apart from one with an empty object."""
    await submitted(store)
    await submitted(store, payload=b"{}")

    assert [None, b"{}"] == [claim.payload for claim in await lane.claim(2)]


async def test_settles_come_before_claims(store: Store, redis: Redis, lane: Lane) -> None:
    """What a call settles with `retry` at once may be claimed by the very same call."""
    [job_id] = await submitted(store)
    [claim] = await lane.claim()

    pumped = await lane.next(settled(claim, "retry", retries=1), want=1)

    assert ["ok"] == pumped.verdicts
    assert [job_id] == [claim.job_id for claim in pumped.claims]
    assert {job_id: "w1.0.2.1"} == await held(redis)


async def test_tokens_are_never_given_twice(store: Store, lane: Lane) -> None:
    """A token names worker, lane, call and place, so no two claims share one."""
    await submitted(store, 4)
    tokens = [claim.token for claim in [*await lane.claim(2), *await lane.claim(2)]]

    assert ["w1.0.1.1", "w1.0.1.2", "w1.0.2.1", "w1.0.2.2"] == tokens


class TestLostReply:
    """The same number again."""

    async def test_hands_out_the_same_claims(self, store: Store, redis: Redis, lane: Lane) -> None:
        """The ids claimed then are returned with the same tokens, nothing new is claimed, nothing changes."""
        await submitted(store, 5, payload=b"{}")
        first = await lane.call(1, want=3)
        before = await dump(redis)

        again = await lane.call(1, want=3)

        assert first.claims == again.claims
        assert 3 == len(again.claims)
        assert before == await dump(redis)

    async def test_claims_nothing_new_even_if_nothing_was_claimed(self, store: Store, lane: Lane) -> None:
        """A call that found nothing finds nothing when it is repeated, although there is work now."""
        assert [] == (await lane.call(1, want=3)).claims
        await submitted(store, 3)

        assert [] == (await lane.call(1, want=3)).claims
        assert 3 == len((await lane.call(2, want=3)).claims)

    async def test_settles_answer_repeat(self, store: Store, redis: Redis, lane: Lane) -> None:
        """What the lost call settled is `repeat` in the second, whatever its outcome, and nothing changes."""
        await submitted(store, 6)
        claims = await lane.claim(6)
        rows = [
            settled(claims[0], "complete", b"1"),
            settled(claims[1], "fail"),
            settled(claims[2], "cancel"),
            settled(claims[3], "retry", retries=1),
            settled(claims[4], "retry", retries=1, due=(await server_ms(redis)) + LONG),
            settled(claims[5], "park"),
        ]
        assert ["ok"] * 6 == (await lane.call(2, *rows)).verdicts
        before = await dump(redis)

        assert ["repeat"] * 6 == (await lane.call(2, *rows)).verdicts
        assert before == await dump(redis)

    async def test_of_a_release_is_repeat(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A release whose reply was lost does not list the job a second time."""
        [job_id] = await submitted(store)
        [claim] = await lane.claim()
        assert ["ok"] == (await lane.call(2, settled(claim, "release"))).verdicts

        assert ["repeat"] == (await lane.call(2, settled(claim, "release"))).verdicts
        assert [job_id] == await redis.lrange("job_queue", 0, -1)

    async def test_does_not_hand_out_what_was_taken_away(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A claim that was reaped meanwhile is not handed out again, the others are."""
        ids = await submitted(store, 3)
        first = await lane.call(1, want=3)
        await redis.zadd("job_leases", {ids[1]: 1})
        assert [(ids[1], "pending")] == await store.reap(3)

        assert [first.claims[0], first.claims[2]] == (await lane.call(1, want=3)).claims

    async def test_does_not_hand_out_what_another_holds(self, store: Store, redis: Redis, lane: Lane) -> None:
        """Nor is a claim that another worker got after the reaper."""
        await submitted(store)
        await lane.call(1, want=1)
        await lose_all(redis)
        await store.reap(3)
        [theirs] = await Lane(store, "w2").claim()

        assert [] == (await lane.call(1, want=1)).claims
        assert {theirs.job_id: theirs.token} == await held(redis)

    async def test_keeps_the_place_of_each_claim(self, store: Store, lane: Lane) -> None:
        """Tokens count from the first claim, also when that one has gone."""
        await submitted(store, 2)
        first, second = (await lane.call(1, want=2)).claims
        # Another lane of the same worker settles it: what matters is only that it is held no more.
        await Lane(store, "w1b").settle(settled(first, "complete"))

        assert [second] == (await lane.call(1, want=2)).claims

    async def test_hands_out_foreign_records_and_payloads(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A foreign record is handed out again as it is."""
        job_id = new_id()
        record = foreign(job_id, payload={"text": "x"})
        await pushed(redis, record, job_id)
        first = await lane.call(1, want=1)

        again = await lane.call(1, want=1)
        assert first.claims == again.claims
        assert record.encode() == again.claims[0].record

    async def test_with_200_claims(self, store: Store, lane: Lane) -> None:
        """A full batch is remembered whole."""
        await submitted(store, 200)
        first = await lane.call(1, want=200)

        assert 200 == len(first.claims)
        assert first.claims == (await lane.call(1, want=200)).claims


class TestNumbers:
    """Lanes and their sequence."""

    async def test_a_lower_number_is_refused(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A delayed duplicate does nothing at all, neither settle nor claim."""
        await submitted(store, 2)
        [claim] = (await lane.call(9, want=1)).claims
        before = await dump(redis)

        with pytest.raises(ResponseError, match="a later call of this lane"):
            await lane.call(8, settled(claim, "complete"), want=1)
        assert before == await dump(redis)

    async def test_numbers_are_compared_as_numbers(self, store: Store, lane: Lane) -> None:
        """10 comes after 9."""
        await submitted(store, 2)
        await lane.call(9, want=1)

        assert 1 == len((await lane.call(10, want=1)).claims)
        with pytest.raises(ResponseError, match="a later call of this lane"):
            await lane.call(9, want=1)

    async def test_lanes_count_for_themselves(self, store: Store, lane: Lane) -> None:
        """Another worker's lane, and another lane of the same worker, have their own numbers."""
        await submitted(store, 3)
        await lane.call(5, want=1)

        assert 1 == len((await Lane(store, "w2").call(1, want=1)).claims)
        other = await store.pump(("w1", "1"), 1, [], 1, lease=LONG, result_ttl=LONG, queues="default")
        assert ["w1.1.1.1"] == [claim.token for claim in other.claims]

    async def test_what_a_lane_remembers_goes_with_its_leases(self, store: Store, redis: Redis) -> None:
        """The lane's key lives for two leases."""
        await submitted(store)
        await Lane(store, lease=5_000).claim()

        assert 9_000 < await redis.pttl("job_pump:w1:0") <= 10_000

    async def test_a_settle_of_another_lane(self, store: Store, lane: Lane) -> None:
        """A token is what counts, not the lane that sends it: a worker that is back may use a new lane."""
        await submitted(store)
        [claim] = await lane.claim()

        assert ["ok"] == await Lane(store, "w2").settle(settled(claim, "complete"))


async def test_200_settles_in_a_call(store: Store, redis: Redis, lane: Lane) -> None:
    """A full batch is settled in one call while as many are claimed."""
    await submitted(store, 400)
    claims = await lane.claim(200)

    pumped = await lane.next(*(settled(claim, "complete", b"1") for claim in claims), want=200)

    assert ["ok"] * 200 == pumped.verdicts
    assert 200 == len(pumped.claims)
    assert {claim.job_id: claim.token for claim in pumped.claims} == await held(redis)
    assert 200 == await redis.zcard("job_index:completed")


async def test_one_stale_settle_does_not_harm_the_others(store: Store, redis: Redis, lane: Lane) -> None:
    """Each settle has its own verdict."""
    ids = await submitted(store, 2)
    claims = await lane.claim(2)
    rows = [
        settled(claims[0], "complete"),
        Settlement(new_id(), "w9.0.1.1", "complete", "{}"),
        settled(claims[1], "fail"),
    ]

    assert ["ok", "stale", "ok"] == await lane.settle(*rows)
    assert [Status.COMPLETED, Status.FAILED] == [(await job_of(store, job_id)).status for job_id in ids]


async def test_full_memory_drains(store: Store, redis: Redis, lane: Lane, memory: Memory) -> None:
    """At the memory limit jobs are settled and claimed on."""
    await submitted(store, 2)
    [claim] = await lane.claim()
    await memory.fill()

    pumped = await lane.next(settled(claim, "complete", b"1"), want=1)

    assert ["ok"] == pumped.verdicts
    assert 1 == len(pumped.claims)
