"""settle, a part of pump: processing → completed | failed | cancelled, or back to pending."""

from __future__ import annotations

import json

import pytest
from redis.asyncio import Redis

from jobq.job import Job, JobError, Status
from jobq.store import keys
from jobq.store.store import Settlement, Store
from tests.store.support import (
    LONG,
    ODD_TAIL,
    Lane,
    counted,
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
    take_marks,
)

OUTCOMES = ["complete", "fail", "cancel", "retry", "lose", "release", "park", "drop", "quarantine"]
ERROR = JobError("ValueError", 'braces {} and "quotes"', "error").text()


async def events(redis: Redis) -> list[tuple[str, str]]:
    """Status and ids of each entry of `job_events`."""
    return [(fields["status"], fields["ids"]) for _, fields in await redis.xrange("job_events")]


class TestOver:
    """Outcomes after which a job is over."""

    async def test_complete(self, store: Store, redis: Redis, lane: Lane) -> None:
        """The record is the holder's text; the job is indexed by the server's time and announced; nothing is held."""
        [job_id] = await submitted(store)
        [claim] = await lane.claim()
        row = settled(claim, "complete", b'{"a":1}', tail=ODD_TAIL)
        before = await server_ms(redis)

        assert ["ok"] == await lane.settle(row)

        assert row.record == await redis.get(keys.job(job_id))
        [(indexed, at)] = await redis.zrange("job_index:completed", 0, -1, withscores=True)
        assert job_id == indexed
        assert before <= at <= await server_ms(redis)
        assert [("completed", job_id)] == await events(redis)
        assert {} == await held(redis)

    async def test_a_result_has_a_ttl(self, store: Store, redis: Redis, lane: Lane) -> None:
        """The result's bytes are kept as they are, for as long as the call says."""
        [job_id] = await submitted(store)
        [claim] = await lane.claim()
        body = b'{"list":[], "big":9007199254740993}\xff'
        await lane.settle(settled(claim, "complete", body), result_ttl=5_000)

        stored = await store.stored(job_id)
        assert stored is not None
        assert body == stored.result
        assert 4_000 < await redis.pttl(keys.result(job_id)) <= 5_000
        assert -1 == await redis.pttl(keys.job(job_id))

    async def test_no_result_no_key(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A task that returns None leaves no result key."""
        [job_id] = await submitted(store)
        [claim] = await lane.claim()
        await lane.settle(settled(claim, "complete"))

        assert 0 == await redis.exists(keys.result(job_id))

    @pytest.mark.parametrize(("outcome", "status"), [("fail", Status.FAILED), ("cancel", Status.CANCELLED)])
    async def test_fail_and_cancel(self, store: Store, redis: Redis, lane: Lane, outcome: str, status: Status) -> None:
        """The job is over with its error, finished at the server's time, indexed and announced."""
        [job_id] = await submitted(store, tail=ODD_TAIL)
        [claim] = await lane.claim()
        before = await server_ms(redis)

        assert ["ok"] == await lane.settle(settled(claim, outcome, error_text=ERROR))

        job = await job_of(store, job_id)
        assert (status, ERROR, ODD_TAIL) == (job.status, job.error_text, job.tail)
        assert job.finished_at is not None
        assert before <= job.finished_at <= await server_ms(redis)
        assert [(job_id, job.finished_at)] == await redis.zrange(f"job_index:{status}", 0, -1, withscores=True)
        assert [(status.value, job_id)] == await events(redis)
        assert [] == await redis.keys("*:attempts")
        assert {} == await held(redis)

    async def test_one_event_for_all_that_completed(self, store: Store, redis: Redis, lane: Lane) -> None:
        """The stream gets one entry a call, not one a job."""
        ids = await submitted(store, 3)
        await lane.settle(*(settled(claim, "complete") for claim in await lane.claim(3)))

        assert [("completed", ",".join(ids))] == await events(redis)


class TestBack:
    """Outcomes after which a job runs again."""

    async def test_retry_at_once_goes_to_the_back(self, store: Store, redis: Redis, lane: Lane) -> None:
        """Without a due time the job waits behind the others, with its error, and wakes a worker."""
        ids = await submitted(store, 2)
        [claim] = await lane.claim()
        await take_marks(redis)

        assert ["ok"] == await lane.settle(settled(claim, "retry", retries=1, error_text=ERROR, tail=ODD_TAIL))

        job = await job_of(store, ids[0])
        expected = Job(ids[0], "note", retries=1, attempt=1, created_at=job.created_at, error_text=ERROR, tail=ODD_TAIL)
        assert expected == job
        assert [ids[1], ids[0]] == await redis.lrange("job_queue", 0, -1)
        assert ["default"] == await take_marks(redis)
        assert {} == await held(redis)

    async def test_retry_later_goes_to_the_schedule(self, store: Store, redis: Redis, lane: Lane) -> None:
        """With a due time the job is scheduled and nobody is woken."""
        [job_id] = await submitted(store)
        [claim] = await lane.claim()
        await take_marks(redis)
        due = await server_ms(redis) + LONG

        assert ["ok"] == await lane.settle(settled(claim, "retry", retries=1, due=due))

        job = await job_of(store, job_id)
        assert (Status.PENDING, due, None, None) == (job.status, job.run_at, job.started_at, job.worker)
        assert [(job_id, due)] == await redis.zrange("job_schedule", 0, -1, withscores=True)
        assert 0 == await redis.llen("job_queue")
        assert [] == await take_marks(redis)

    async def test_release_goes_to_the_front_and_costs_nothing(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A released job is the next one, with the retries and losses it had."""
        ids = await submitted(store, 2)
        [claim] = await lane.claim()
        await take_marks(redis)

        assert ["ok"] == await lane.settle(settled(claim, "release"))

        job = await job_of(store, ids[0])
        assert Job(ids[0], "note", attempt=1, created_at=job.created_at) == job
        assert ids == await redis.lrange("job_queue", 0, -1)
        assert ["default"] == await take_marks(redis)

    async def test_lose_goes_to_the_front(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A job whose process died is the next one, with its error and a loss more; the attempt is kept as `lost`."""
        ids = await submitted(store, 2)
        [claim] = await lane.claim()
        await take_marks(redis)

        assert ["ok"] == await lane.settle(settled(claim, "lose", lost=1, error_text=ERROR, tail=ODD_TAIL))

        job = await job_of(store, ids[0])
        assert Job(ids[0], "note", attempt=1, lost=1, created_at=job.created_at, error_text=ERROR, tail=ODD_TAIL) == job
        assert ids == await redis.lrange("job_queue", 0, -1)
        assert ["default"] == await take_marks(redis)
        assert {} == await held(redis)
        [line] = await redis.lrange(keys.attempts(ids[0]), 0, -1)
        assert (1, "lost", "w1") == tuple(json.loads(line)[name] for name in ("attempt", "outcome", "worker"))

    @pytest.mark.parametrize("outcome", ["retry", "release", "lose"])
    async def test_queue_and_priority_are_kept(self, store: Store, redis: Redis, outcome: str) -> None:
        """It goes back to the list it came from."""
        lane = Lane(store, queues="mail")
        [job_id] = await submitted(store, queue="mail", priority=7)
        [claim] = await lane.claim()

        await lane.settle(settled(claim, outcome))

        assert [job_id] == await redis.lrange("job_queue:mail:7", 0, -1)
        assert ["mail"] == await take_marks(redis)

    async def test_park(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A job whose task nobody here knows waits apart, pending, and wakes nobody."""
        [job_id] = await submitted(store, task="unheard_of")
        [claim] = await lane.claim()
        await take_marks(redis)

        assert ["ok"] == await lane.settle(settled(claim, "park"))

        job = await job_of(store, job_id)
        assert (Status.PENDING, None, None) == (job.status, job.started_at, job.worker)
        assert [job_id] == await redis.lrange("job_parked:unheard_of", 0, -1)
        assert {"unheard_of"} == await redis.smembers("job_parked")
        assert 0 == await redis.llen("job_queue")
        assert [] == await take_marks(redis)
        assert {} == await held(redis)

    async def test_past_attempts(self, store: Store, redis: Redis, lane: Lane) -> None:
        """Each attempt that was not the last leaves a line that says when, where and why."""
        [job_id] = await submitted(store)
        [first] = await lane.claim()
        await lane.settle(settled(first, "retry", retries=1, error_text=ERROR))
        [second] = await lane.claim()
        await lane.settle(settled(second, "release"))
        [third] = await lane.claim()
        await lane.settle(settled(third, "complete"))

        lines = [json.loads(line) for line in await redis.lrange(keys.attempts(job_id), 0, -1)]
        assert [(1, "retry"), (2, "release")] == [(line["attempt"], line["outcome"]) for line in lines]
        assert json.loads(ERROR) == lines[0]["error"]
        assert ["w1", "w1"] == [line["worker"] for line in lines]
        now = await server_ms(redis)
        assert all(line["started_at"] <= line["finished_at"] <= now for line in lines)

    async def test_past_attempts_are_bounded(self, store: Store, redis: Redis, lane: Lane) -> None:
        """The hundred latest are kept."""
        [job_id] = await submitted(store)
        await redis.rpush(keys.attempts(job_id), *(f'{{"attempt":-{n}}}' for n in range(100)))
        [claim] = await lane.claim()
        await lane.settle(settled(claim, "release"))

        lines = await redis.lrange(keys.attempts(job_id), 0, -1)
        assert 100 == len(lines)
        assert 1 == json.loads(lines[-1])["attempt"]


class TestSetAside:
    """Outcomes for records that are not jobs."""

    async def test_quarantine(self, store: Store, redis: Redis, lane: Lane) -> None:
        """The id is set aside with the reason; the record stays for whoever looks into it."""
        job_id = new_id()
        await pushed(redis, "not a record", job_id)
        [claim] = await lane.claim()

        assert ["ok"] == await lane.settle(Settlement(job_id, claim.token, "quarantine", body="why"))

        assert {job_id: "why"} == await redis.hgetall("job_quarantine")
        assert "not a record" == await redis.get(keys.job(job_id))
        assert {} == await held(redis)

    async def test_drop(self, store: Store, redis: Redis, lane: Lane) -> None:
        """The claim is given up and nothing else happens to the record."""
        job_id = new_id()
        record = foreign(job_id, status="completed")
        await pushed(redis, record, job_id)
        [claim] = await lane.claim()

        assert ["ok"] == await lane.settle(Settlement(job_id, claim.token, "drop"))

        assert record == await redis.get(keys.job(job_id))
        assert 0 == await redis.llen("job_queue")
        assert {} == await held(redis)

    async def test_the_quarantine_is_bounded(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A flood of garbage is forgotten beyond 10,000 entries; the claim ends all the same."""
        await redis.hset("job_quarantine", mapping={str(n): "" for n in range(10_000)})
        await submitted(store)
        [claim] = await lane.claim()

        assert ["ok"] == await lane.settle(settled(claim, "quarantine", body="why"))
        assert 10_000 == await redis.hlen("job_quarantine")
        assert {} == await held(redis)


class TestCounts:
    """What is counted in the job's queue."""

    @pytest.mark.parametrize(
        ("outcome", "expected"),
        [
            ("complete", {"mail|completed": 1}),
            ("fail", {"mail|failed": 1}),
            ("cancel", {"mail|cancelled": 1}),
            ("retry", {"mail|retried": 1}),
            ("lose", {"mail|lost": 1}),
            ("release", {}),
            ("park", {}),
            ("drop", {}),
            ("quarantine", {}),
        ],
    )
    async def test_by_outcome(self, store: Store, redis: Redis, outcome: str, expected: dict[str, int]) -> None:
        """What ends a job and each retry count; what only gives it back does not."""
        lane = Lane(store, queues="mail")
        await submitted(store, queue="mail", priority=3)
        [claim] = await lane.claim()
        await lane.settle(settled(claim, outcome))

        assert {"mail|in": 1, **expected} == await counted(redis)

    async def test_of_one_call(self, store: Store, redis: Redis) -> None:
        """Jobs of several queues in one call count each in its own."""
        lane = Lane(store, queues="mail,default")
        await submitted(store, 3, queue="mail")
        await submitted(store, 2)
        await lane.settle(*(settled(claim, "complete") for claim in await lane.claim(5)))

        assert {"mail|in": 3, "mail|completed": 3, "default|in": 2, "default|completed": 2} == await counted(redis)

    async def test_a_cancel_counts_as_such(self, store: Store, redis: Redis, lane: Lane) -> None:
        """What a cancel turned into cancelled is neither a failure nor a retry."""
        [job_id] = await submitted(store)
        [claim] = await lane.claim()
        await store.cancel(job_id, "", "{}")
        await lane.settle(settled(claim, "retry"))

        assert {"default|in": 1, "default|cancelled": 1} == await counted(redis)


class TestProgress:
    """What a job emitted of its progress is shown while it runs."""

    @pytest.mark.parametrize("outcome", OUTCOMES)
    async def test_is_forgotten_with_the_attempt(self, store: Store, redis: Redis, lane: Lane, outcome: str) -> None:
        """Whatever the outcome, the progress of the attempt goes; that of other jobs and the log stay."""
        ids = await submitted(store, 2)
        claims = await lane.claim(2)
        for claim in claims:
            await store.emit(claim.job_id, claim.token, 1, [(1, "progress", "5")])
        await lane.settle(settled(claims[0], outcome))

        assert {ids[1]: "5"} == await redis.hgetall("job_progress")
        assert 1 == await redis.xlen(keys.emitted(ids[0]))


class TestFencing:
    """Only the holder of the token may settle."""

    @pytest.mark.parametrize("outcome", OUTCOMES)
    async def test_a_wrong_token_changes_nothing(self, store: Store, redis: Redis, lane: Lane, outcome: str) -> None:
        """Another token is `stale`, and no key changes."""
        await submitted(store, 2)
        [claim] = await lane.claim()
        await lane.next()
        stranger = settled(claim._replace(token="w1.0.1.2"), outcome, b"1")
        before = await dump(redis)

        assert ["stale"] == (await lane.call(lane.seq, stranger)).verdicts
        assert before == await dump(redis)

    @pytest.mark.parametrize("outcome", OUTCOMES)
    async def test_a_lease_that_was_taken_away(self, store: Store, redis: Redis, lane: Lane, outcome: str) -> None:
        """What comes of an attempt that was reaped is `stale`, whether the job waits, runs elsewhere or is over."""
        await submitted(store)
        [mine] = await lane.claim()
        late = settled(mine, outcome, b"1")
        await lose_all(redis)
        await store.reap(3)

        async def refused() -> None:
            await lane.next()
            before = await dump(redis)
            assert ["stale"] == (await lane.call(lane.seq, late)).verdicts
            assert before == await dump(redis)

        await refused()
        other = Lane(store, "w2")
        [theirs] = await other.claim()
        await refused()
        assert ["ok"] == await other.settle(settled(theirs, "complete", b"2"))
        await refused()

    async def test_lost_twice_over(self, store: Store, redis: Redis, lane: Lane) -> None:
        """An attempt whose process died and whose lease ran out as well is one loss: the late call is `repeat`."""
        await submitted(store)
        [mine] = await lane.claim()
        lose = settled(mine, "lose", lost=1)
        await lose_all(redis)
        await store.reap(3)
        await lane.next()
        before = await dump(redis)

        assert ["repeat"] == (await lane.call(lane.seq, lose)).verdicts
        assert before == await dump(redis)

    async def test_an_attempt_before_the_last(self, store: Store, redis: Redis, lane: Lane) -> None:
        """What was given back and has since been done by another is `stale` for who had it first, not `repeat`."""
        await submitted(store)
        [mine] = await lane.claim()
        release = settled(mine, "release")
        assert ["ok"] == await lane.settle(release)
        other = Lane(store, "w2")
        [theirs] = await other.claim()
        await other.settle(settled(theirs, "complete"))
        await lane.next()
        before = await dump(redis)

        assert ["stale"] == (await lane.call(lane.seq, release)).verdicts
        assert before == await dump(redis)

    async def test_a_job_that_is_gone(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A settle for a job of which nothing is left is `stale` and does not create it."""
        row = Settlement(new_id(), "w1.0.1.1", "complete", Job(new_id(), "note", Status.COMPLETED, attempt=1).text())

        assert ["stale"] == await lane.settle(row)
        assert ["job_pump:w1:0"] == list(await dump(redis))

    async def test_a_key_of_another_type(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A late settle of a job whose key somebody made a list is `stale`, and the call's others are settled."""
        ids = await submitted(store, 2)
        claims = await lane.claim(2)
        await redis.zadd("job_leases", {ids[0]: 1})
        await store.reap(3)
        await redis.delete(keys.job(ids[0]))
        await redis.rpush(keys.job(ids[0]), "mine")

        assert ["stale", "ok"] == await lane.settle(*(settled(claim, "complete") for claim in claims))
        assert ["mine"] == await redis.lrange(keys.job(ids[0]), 0, -1)

    async def test_an_attempts_key_of_another_type(self, store: Store, redis: Redis, lane: Lane) -> None:
        """Somebody else's value where past attempts belong costs the history, not the batch."""
        ids = await submitted(store, 2)
        claims = await lane.claim(2)
        await redis.set(keys.attempts(ids[0]), "mine")

        assert ["ok", "ok"] == await lane.settle(*(settled(claim, "release") for claim in claims))
        assert "mine" == await redis.get(keys.attempts(ids[0]))
        assert sorted(ids) == sorted(await redis.lrange("job_queue", 0, -1))
        assert {} == await held(redis)


class TestCancelMeanwhile:
    """A cancel that was asked for while the job ran."""

    @pytest.mark.parametrize("outcome", ["fail", "retry", "lose", "release", "park", "cancel"])
    async def test_turns_the_outcome_into_cancelled(self, store: Store, redis: Redis, lane: Lane, outcome: str) -> None:
        """Everything but complete becomes cancelled, is on no list, and the request is done with."""
        [job_id] = await submitted(store)
        [claim] = await lane.claim()
        await store.cancel(job_id, "no need", "{}")
        await take_marks(redis)

        assert ["ok"] == await lane.settle(settled(claim, outcome))

        job = await job_of(store, job_id)
        assert Status.CANCELLED == job.status
        assert [(job_id, job.finished_at)] == await redis.zrange("job_index:cancelled", 0, -1, withscores=True)
        assert [("cancelled", job_id)] == await events(redis)
        left = ("job_queue", "job_schedule", "job_parked:note", "job_index:failed", "job_cancel")
        assert 0 == await redis.exists(*left)
        assert [] == await take_marks(redis)
        assert {} == await held(redis)

    async def test_complete_stays_complete(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A job that was done before it heard of the cancel is completed, with its result."""
        [job_id] = await submitted(store)
        [claim] = await lane.claim()
        await store.cancel(job_id, "", "{}")

        assert ["ok"] == await lane.settle(settled(claim, "complete", b"1"))

        assert Status.COMPLETED == (await job_of(store, job_id)).status
        assert "1" == await redis.get(keys.result(job_id))
        assert 0 == await redis.exists("job_cancel", "job_index:cancelled")

    async def test_of_one_job_leaves_the_others(self, store: Store, redis: Redis, lane: Lane) -> None:
        """Other jobs of the same call are what they were reported to be, and a request for a third one stays."""
        ids = await submitted(store, 3)
        claims = await lane.claim(3)
        await store.cancel(ids[1], "a", "{}")
        await store.cancel(ids[2], "b", "{}")

        await lane.settle(settled(claims[0], "fail"), settled(claims[1], "fail"))

        statuses = [(await job_of(store, job_id)).status for job_id in ids]
        assert [Status.FAILED, Status.CANCELLED, Status.PROCESSING] == statuses
        assert {ids[2]: "b"} == await redis.hgetall("job_cancel")


class TestForeign:
    """Records that were released before they were adopted."""

    async def test_release_gives_it_back_as_it_is(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A foreign record goes to the front of the default queue, unchanged."""
        job_id = new_id()
        record = foreign(job_id, odd=[[], 9007199254740993])
        await pushed(redis, record, job_id)
        [claim] = await lane.claim()
        [behind] = await submitted(store)
        await take_marks(redis)

        row = Settlement(job_id, claim.token, "release", claim.record.decode())
        assert ["ok"] == await lane.settle(row)

        assert record == await redis.get(keys.job(job_id))
        assert [job_id, behind] == await redis.lrange("job_queue", 0, -1)
        assert ["default"] == await take_marks(redis)
        assert {} == await held(redis)


async def test_a_cancel_of_a_foreign_job_is_not_forgotten(store: Store, redis: Redis, lane: Lane) -> None:
    """A foreign job that is released before it was adopted keeps the cancel that was asked for."""
    job_id = new_id()
    await redis.set(keys.job(job_id), foreign(job_id))
    await redis.rpush("job_queue", job_id)
    [claim] = await lane.claim()
    assert ("requested", "processing") == await store.cancel(job_id, "enough", "{}")
    await lane.settle(Settlement(job_id, claim.token, "release", claim.record.decode()))

    assert {job_id: "enough"} == await redis.hgetall("job_cancel")
