"""adopt: the canonical form of a foreign record, under the token of its holder."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from jobq.record import parse
from jobq.store import keys
from jobq.store.store import Claim, Store
from tests.store.conftest import Memory
from tests.store.support import Lane, dump, foreign, lose_all, new_id, pushed


@pytest.fixture
async def claim(redis: Redis, lane: Lane) -> Claim:
    """A foreign record that is held."""
    job_id = new_id()
    await pushed(redis, foreign(job_id, odd=[[], 9007199254740993]), job_id)
    [claim] = await lane.claim()
    return claim


def canonical(claim: Claim) -> str:
    return parse(claim.job_id, claim.record).text()


async def test_under_the_token(store: Store, redis: Redis, claim: Claim) -> None:
    """The holder's text replaces the record."""
    assert "ok" == await store.adopt(claim.job_id, claim.token, claim.record, canonical(claim))
    assert canonical(claim) == await redis.get(keys.job(claim.job_id))
    assert canonical(claim).endswith(',"odd":[[], 9007199254740993]}')


async def test_twice(store: Store, redis: Redis, claim: Claim) -> None:
    """The same call twice is `repeat`, and changes nothing."""
    await store.adopt(claim.job_id, claim.token, claim.record, canonical(claim))
    before = await dump(redis)

    assert "repeat" == await store.adopt(claim.job_id, claim.token, claim.record, canonical(claim))
    assert before == await dump(redis)


@pytest.mark.parametrize("token", ["w1.0.1.2", ""])
async def test_another_token(store: Store, redis: Redis, claim: Claim, token: str) -> None:
    """Another token, or none, is `stale` while the job is held, and no key changes."""
    before = await dump(redis)

    assert "stale" == await store.adopt(claim.job_id, token, claim.record, canonical(claim))
    assert before == await dump(redis)


async def test_after_the_lease_was_taken_away(store: Store, redis: Redis, claim: Claim) -> None:
    """The former holder is `stale`, before and after somebody else has claimed the job."""
    await lose_all(redis)
    await store.reap(3)
    for step in ("waiting", "claimed"):
        if step == "claimed":
            await Lane(store, "w2").claim()
        before = await dump(redis)
        assert "stale" == await store.adopt(claim.job_id, claim.token, claim.record, canonical(claim)), step
        assert before == await dump(redis)


async def test_the_producer_wrote_again(store: Store, redis: Redis, claim: Claim) -> None:
    """A record that reads otherwise than expected is a `conflict` and stays."""
    await redis.set(keys.job(claim.job_id), foreign(claim.job_id, more=1))
    before = await dump(redis)

    assert "conflict" == await store.adopt(claim.job_id, claim.token, claim.record, canonical(claim))
    assert before == await dump(redis)


@pytest.mark.parametrize("found", ["nothing", "a list"])
async def test_no_record(store: Store, redis: Redis, claim: Claim, found: str) -> None:
    """A record that is gone, or is no string, is a `conflict`; it is not created."""
    await redis.delete(keys.job(claim.job_id))
    if found == "a list":
        await redis.rpush(keys.job(claim.job_id), "mine")
    before = await dump(redis)

    assert "conflict" == await store.adopt(claim.job_id, claim.token, claim.record, canonical(claim))
    assert before == await dump(redis)


async def test_of_a_job_nobody_runs(store: Store, redis: Redis) -> None:
    """With an empty token a waiting record is brought into canonical form; it stays listed."""
    job_id = new_id()
    record = foreign(job_id)
    await pushed(redis, record, job_id)
    text = parse(job_id, record.encode()).text()

    assert "ok" == await store.adopt(job_id, "", record.encode(), text)
    assert text == await redis.get(keys.job(job_id))
    assert [job_id] == await redis.lrange("job_queue", 0, -1)


async def test_full_memory(store: Store, redis: Redis, memory: Memory, claim: Claim) -> None:
    """At the memory limit foreign jobs are adopted on."""
    await memory.fill()

    assert "ok" == await store.adopt(claim.job_id, claim.token, claim.record, canonical(claim))
