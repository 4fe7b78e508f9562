"""claim, a part of pump: pending → processing."""

from __future__ import annotations

import asyncio
import re

import pytest
from redis.asyncio import Redis

from jobq.job import Job, Status
from jobq.record import parse
from jobq.store import keys
from jobq.store.store import Claim, Settlement, Store
from tests.store.support import (
    LONG,
    ODD_TAIL,
    PAST,
    Lane,
    dump,
    finished,
    foreign,
    held,
    job_of,
    new_id,
    pushed,
    server_ms,
    submission,
    submitted,
    take_marks,
)


def ids_of(claims: list[Claim]) -> list[str]:
    return [claim.job_id for claim in claims]


class TestRecord:
    """What a claim writes."""

    async def test_head_rewritten_and_tail_copied(self, store: Store, redis: Redis, lane: Lane) -> None:
        """Processing, one attempt more, since when and by whom; the tail stays byte for byte."""
        [job_id] = await submitted(store, tail=ODD_TAIL)
        before = await job_of(store, job_id)
        [claim] = await lane.claim()

        job = parse(job_id, claim.record)
        assert job.started_at is not None
        assert before.created_at <= job.started_at <= await server_ms(redis)
        expected = Job(
            job_id, "note", Status.PROCESSING, attempt=1, created_at=before.created_at, started_at=job.started_at,
            worker="w1", tail=ODD_TAIL,
        )  # fmt: skip
        assert expected.text() == claim.record.decode()
        assert expected.text() == await redis.get(keys.job(job_id))

    async def test_every_member_of_the_head_survives(self, store: Store, redis: Redis) -> None:
        """A job that was tried before keeps its counters, its options and its last error through a claim."""
        job = Job(
            new_id(), "note", retries=2, attempt=4, lost=1, created_at=1795488299123, queue="mail", priority=3,
            expires_at=9795488299123, run_at=PAST, finished_at=7, error_text='{"type":"E\\"\\u007b"}', tail=ODD_TAIL,
        )  # fmt: skip
        await pushed(redis, job.text(), job.job_id, "job_queue:mail:3")
        [claim] = await Lane(store, queues="mail").claim()

        now = parse(job.job_id, claim.record)
        expected = Job(
            job.job_id, "note", Status.PROCESSING, 2, 5, 1, 1795488299123, "mail", 3, None, PAST, now.started_at, "w1",
            7, job.error_text, ODD_TAIL,
        )  # fmt: skip
        assert expected == now

    async def test_attempts_rise_by_one(self, store: Store, lane: Lane) -> None:
        """The attempt is the fencing number: it rises with every claim, whatever became of the last."""
        await submitted(store)
        attempts = []
        for _ in range(3):
            [claim] = await lane.claim()
            job = parse(claim.job_id, claim.record)
            attempts.append(job.attempt)
            await lane.settle(Settlement(claim.job_id, claim.token, "release", job.text()))

        assert [1, 2, 3] == attempts

    async def test_the_lease(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A claim is held under its token until the server's time plus the lease."""
        [job_id] = await submitted(store)
        pumped = await lane.next(want=1)

        assert {job_id: pumped.claims[0].token} == await held(redis)
        assert pumped.now + LONG == await redis.zscore("job_leases", job_id)

    async def test_an_expiry_is_over_with_the_claim(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A job that was started in time does not expire any more, not even between retries."""
        [job_id] = await submitted(store, expires="+60000")
        [claim] = await lane.claim()

        assert parse(job_id, claim.record).expires_at is None
        assert 0 == await redis.exists("job_expiry")


class TestOrder:
    """Which job is next."""

    async def test_first_in_first_out(self, store: Store, lane: Lane) -> None:
        """Jobs of one list are claimed in the order of their submit, over several calls."""
        ids = await submitted(store, 7)

        assert ids == ids_of([*await lane.claim(3), *await lane.claim(3), *await lane.claim(3)])

    async def test_priorities_9_to_0(self, store: Store, lane: Lane) -> None:
        """The higher priority goes first, whatever the order of submits."""
        rows = [submission(priority=priority) for priority in (0, 5, 9, 1, 3, 8, 2, 7, 4, 6)]
        await store.submit(rows)

        expected = [row.job_id for row in sorted(rows, key=lambda row: -row.priority)]
        assert expected == ids_of(await lane.claim(10))

    async def test_one_of_priority_9_in_a_backlog(self, store: Store, lane: Lane) -> None:
        """Priority 9 is claimed before a backlog of 1,000."""
        backlog = await submitted(store, 1000)
        [urgent] = await submitted(store, priority=9)

        assert [urgent, backlog[0]] == ids_of(await lane.claim(2))

    @pytest.mark.parametrize("queues", ["mail,default", "default,mail"])
    async def test_queues_in_strict_order(self, store: Store, queues: str) -> None:
        """All of a queue, of any priority, comes before the next queue."""
        rows = [submission(queue=queue, priority=priority) for priority in (0, 9) for queue in ("default", "mail")]
        await store.submit(rows)

        order = queues.split(",")
        expected = sorted(rows, key=lambda row: (order.index(row.queue), -row.priority))
        assert [row.job_id for row in expected] == ids_of(await Lane(store, queues=queues).claim(9))

    async def test_only_the_queues_asked_for(self, store: Store, redis: Redis) -> None:
        """Other queues are left alone, also one whose name begins alike."""
        [mail] = await submitted(store, queue="mail")
        [mailing] = await submitted(store, queue="mailing")

        assert [mail] == ids_of(await Lane(store, queues="mail").claim(9))
        assert [mailing] == await redis.lrange("job_queue:mailing", 0, -1)

    @pytest.mark.parametrize(("want", "expected"), [(0, 0), (1, 1), (4, 4), (5, 5), (9, 5)])
    async def test_never_more_than_wanted(
        self, store: Store, redis: Redis, lane: Lane, want: int, expected: int
    ) -> None:
        """A call claims up to `want`; the rest stays where it is."""
        ids = await submitted(store, 5)

        assert ids[:expected] == ids_of(await lane.claim(want))
        assert ids[expected:] == await redis.lrange("job_queue", 0, -1)
        assert expected == len(await held(redis))

    async def test_want_holds_across_queues_and_priorities(self, store: Store, redis: Redis) -> None:
        """The limit is for the call, not for each list."""
        await store.submit([submission(queue=q, priority=p) for q in ("mail", "default") for p in (9, 9, 0, 0)])

        assert 5 == len(await Lane(store, queues="mail,default").claim(5))
        assert 5 == len(await held(redis))


class TestMarks:
    """A claim that leaves work behind marks its queue again."""

    @pytest.mark.parametrize(("jobs", "expected"), [(1, []), (2, []), (3, ["default"])])
    async def test_work_left_behind(
        self, store: Store, redis: Redis, lane: Lane, jobs: int, expected: list[str]
    ) -> None:
        """The mark is set iff something is left."""
        await submitted(store, jobs)
        await take_marks(redis)
        await lane.claim(2)

        assert expected == await take_marks(redis)

    async def test_left_at_a_lower_priority(self, store: Store, redis: Redis, lane: Lane) -> None:
        """What is left at another priority counts too."""
        await store.submit([submission(priority=9), submission(priority=1)])
        await take_marks(redis)
        await lane.claim(1)

        assert ["default"] == await take_marks(redis)

    async def test_left_in_a_later_queue(self, store: Store, redis: Redis) -> None:
        """And what is left in the next queue asked for."""
        await store.submit([submission(queue="mail"), submission()])
        await take_marks(redis)
        await Lane(store, queues="mail,default").claim(1)

        assert ["default"] == await take_marks(redis)


class TestSkipped:
    """Listed ids that are not claimed: each leaves the list, and the jobs behind it are claimed all the same."""

    async def test_cancelled(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A job that was cancelled while it waited is skipped and stays cancelled."""
        cancelled, behind = await submitted(store, 2)
        await store.cancel(cancelled, "", "{}")

        assert [behind] == ids_of(await lane.claim(1))
        assert Status.CANCELLED == (await job_of(store, cancelled)).status
        assert 0 == await redis.llen("job_queue")

    @pytest.mark.parametrize("outcome", ["complete", "fail", "cancel"])
    async def test_over(self, store: Store, redis: Redis, lane: Lane, outcome: str) -> None:
        """The id of a job that is over, pushed again by somebody, is dropped."""
        job_id = await finished(lane, outcome)
        record = await redis.get(keys.job(job_id))
        await redis.rpush("job_queue", job_id)

        assert [] == await lane.claim(1)
        assert record == await redis.get(keys.job(job_id))
        assert 0 == await redis.llen("job_queue")
        assert {} == await held(redis)

    async def test_running(self, store: Store, redis: Redis, lane: Lane) -> None:
        """The id of a running job is dropped and its holder keeps it."""
        [job_id] = await submitted(store)
        [claim] = await lane.claim()
        await redis.rpush("job_queue", job_id)

        assert [] == await Lane(store, "w2").claim(1)
        assert {job_id: claim.token} == await held(redis)
        assert claim.record == await store.record(job_id)

    async def test_running_and_not_yet_adopted(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A foreign record still reads pending while it runs: that it is held is what counts."""
        job_id = new_id()
        await pushed(redis, foreign(job_id), job_id)
        [claim] = await lane.claim()
        await redis.rpush("job_queue", job_id)

        assert [] == await Lane(store, "w2").claim(1)
        assert {job_id: claim.token} == await held(redis)

    @pytest.mark.parametrize("spelling", ["canonical", "foreign"])
    async def test_pushed_1000_times(self, store: Store, redis: Redis, lane: Lane, spelling: str) -> None:
        """An id that is listed 1,000 times is claimed once, and the entries are worked off within a few calls."""
        job_id = new_id()
        record = Job(job_id, "note").text() if spelling == "canonical" else foreign(job_id)
        await pushed(redis, record, job_id)
        await redis.rpush("job_queue", *[job_id] * 999)
        [behind] = await submitted(store)

        claims = [claim for _ in range(5) for claim in await lane.claim(200)]

        assert [job_id, behind] == ids_of(claims)
        assert 0 == await redis.llen("job_queue")
        assert [job_id, behind] == sorted(await held(redis), key=[job_id, behind].index)

    async def test_one_call_looks_at_a_bounded_number(self, store: Store, redis: Redis, lane: Lane) -> None:
        """However many entries are worthless, a call looks at some hundreds, and marks the rest for the next."""
        job_id = await finished(lane)
        await redis.rpush("job_queue", *[job_id] * 1000)
        await take_marks(redis)

        assert [] == await lane.claim(100)
        assert 600 == await redis.llen("job_queue")
        assert ["default"] == await take_marks(redis)

    @pytest.mark.parametrize("key", ["job_queue", "job_queue:mail:3", "job_queue:default:3"])
    async def test_misplaced(self, store: Store, redis: Redis, key: str) -> None:
        """A job on another list than that of its queue and priority is moved to the right one, not lost."""
        lane = Lane(store, queues="mail,default")
        job = Job(new_id(), "note", queue="mail", priority=7)
        await pushed(redis, job.text(), job.job_id, key)
        await take_marks(redis)

        assert [] == await lane.claim(1)
        assert [job.job_id] == await redis.lrange("job_queue:mail:7", 0, -1)
        assert ["mail"] == await take_marks(redis)
        assert [job.job_id] == ids_of(await lane.claim(1))

    async def test_early(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A job that is listed before it is due goes back to the schedule."""
        due = await server_ms(redis) + LONG
        job = Job(new_id(), "note", run_at=due)
        await pushed(redis, job.text(), job.job_id)

        assert [] == await lane.claim(1)
        assert [(job.job_id, due)] == await redis.zrange("job_schedule", 0, -1, withscores=True)
        assert job.text() == await redis.get(keys.job(job.job_id))

    @pytest.mark.parametrize("name", ["run_at", "expires_at", "attempt"])
    async def test_a_number_that_is_none(self, store: Store, redis: Redis, lane: Lane, name: str) -> None:
        """A number that the server cannot take as a score is that record's own affair: its neighbours are claimed."""
        bad, good = Job(new_id(), "note", run_at=PAST, expires_at=10**14), Job(new_id(), "note")
        text = re.sub(rf'"{name}":\d+', f'"{name}":{"9" * 400}', bad.text())
        await pushed(redis, text, bad.job_id)
        await pushed(redis, good.text(), good.job_id)

        claims = await lane.claim(2)
        assert [bad.job_id, good.job_id] == ids_of(claims)
        assert b"9" * 400 in claims[0].record

    async def test_due(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A job whose time has come is claimed from its list, staged or not."""
        job = Job(new_id(), "note", run_at=await server_ms(redis))
        await pushed(redis, job.text(), job.job_id)

        assert [job.job_id] == ids_of(await lane.claim(1))

    async def test_expired(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A job whose time ran out fails with reason `expired` when its turn comes, and is never handed out."""
        job = Job(new_id(), "note", expires_at=PAST, tail=ODD_TAIL)
        await pushed(redis, job.text(), job.job_id)
        await redis.zadd("job_expiry", {job.job_id: PAST})

        assert [] == await lane.claim(1)
        now = await job_of(store, job.job_id)
        assert (Status.FAILED, "expired", 0, ODD_TAIL) == (
            now.status,
            (now.error or {})["reason"],
            now.attempt,
            now.tail,
        )
        assert [(job.job_id, now.finished_at)] == await redis.zrange("job_index:failed", 0, -1, withscores=True)
        assert 0 == await redis.exists("job_queue", "job_expiry", "job_running", "job_leases")

    async def test_a_mixture(self, store: Store, redis: Redis, lane: Lane) -> None:
        """Good jobs between bad entries are all claimed by one call, in order."""
        over = await finished(lane)
        good = await submitted(store, 4)
        await redis.delete("job_queue")
        await redis.rpush("job_queue", over, good[0], "rubbish", good[1], new_id(), over, good[2], good[0], good[3])

        assert good == ids_of(await lane.claim(4))


class TestPaused:
    """Queues from which nothing is claimed for now."""

    async def test_nothing_is_claimed(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A paused queue keeps its jobs at every priority, in order, and nothing about them changes."""
        rows = [submission(priority=priority) for priority in (9, 0, 0)]
        await store.submit(rows)
        await store.pause("default")
        await take_marks(redis)
        before = await dump(redis)

        assert [] == await lane.claim(5)
        assert {**before, "job_pump:w1:0": "1:"} == await dump(redis)
        await store.resume("default")
        assert [row.job_id for row in rows] == ids_of(await lane.claim(5))

    async def test_the_others_are_claimed(self, store: Store) -> None:
        """Pausing one queue does not hold up the next, whichever comes first, nor one whose name begins alike."""
        [mail] = await submitted(store, queue="mail")
        [mailing] = await submitted(store, queue="mailing")
        [plain] = await submitted(store)
        await store.pause("mail")

        lane = Lane(store, queues="mailing,mail,default")
        assert [mailing, plain] == ids_of(await lane.claim(5))
        await store.resume("mail")
        assert [mail] == ids_of(await lane.claim(5))

    async def test_worthless_entries_stay_too(self, store: Store, redis: Redis, lane: Lane) -> None:
        """Not even ids that nobody can run leave a paused queue."""
        await redis.rpush("job_queue", "rubbish", new_id())
        await store.pause("default")

        assert [] == await lane.claim(5)
        assert 2 == await redis.llen("job_queue")
        assert 0 == await redis.exists("job_quarantine", "job_missing")

    async def test_a_lost_reply(self, store: Store, lane: Lane) -> None:
        """What was claimed before the pause is handed out again when its reply was lost."""
        await submitted(store)
        first = await lane.call(1, want=1)
        await store.pause("default")

        assert first.claims == (await lane.call(1, want=1)).claims


class TestErased:
    """Entries of jobs that were deleted while they waited."""

    async def test_dropped(self, store: Store, redis: Redis, lane: Lane) -> None:
        """The id of an erased job is dropped, not waited for; an id that never had a record is."""
        erased, behind = await submitted(store, 2)
        await store.delete(erased)
        unheard_of = new_id()
        await redis.lpush("job_queue", unheard_of)

        assert [behind] == ids_of(await lane.claim(1))
        assert [f"default:0:{unheard_of}"] == await redis.zrange("job_missing", 0, -1)
        assert 0 == await redis.llen("job_queue")

    async def test_submitted_again(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A job that is made anew under an erased id is claimed, once, however many entries it has."""
        [job_id] = await submitted(store)
        await store.delete(job_id)
        assert ["ok"] == await store.submit([submission(job_id)])
        assert [job_id] * 2 == await redis.lrange("job_queue", 0, -1)

        assert [job_id] == ids_of(await lane.claim(5))


class TestIllegal:
    """What is listed need not be an id."""

    @pytest.mark.parametrize(
        "entry",
        [
            "",
            "x",
            "../../etc",
            "A" * 5000,
            "0190A7B4-0000-7000-8000-00000000000F",
            "{0190a7b4-0000-7000-8000-00000000000f}",
            "0190a7b4-0000-7000-8000-00000000000f:payload",
            "0190a7b400007000800000000000000f",
            "0190a7b4-0000-7000-8000-00000000000g",
            "0190a7b4-0000-7000-8000-00000000000f\n",
        ],
    )
    async def test_an_illegal_id_is_quarantined(self, store: Store, redis: Redis, lane: Lane, entry: str) -> None:
        """Anything but a canonical lower-case UUID is set aside, shortened, even with a record under its name."""
        await pushed(redis, Job(entry, "note").text(), entry)
        [behind] = await submitted(store)

        assert [behind] == ids_of(await lane.claim(1))
        assert {entry[:64]: "not a job id"} == await redis.hgetall("job_quarantine")
        assert {behind} == set(await held(redis))

    async def test_bytes_that_are_no_text(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A binary entry is set aside too."""
        await redis.rpush("job_queue", b"\xff\x00\xfe")

        assert [] == await lane.claim(1)
        assert 1 == await redis.hlen("job_quarantine")
        await redis.flushall()

    async def test_a_record_of_another_job(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A record that names another id than its key is set aside, and the job it names is not touched."""
        [victim] = await submitted(store)
        await lane.claim()
        before = await redis.get(keys.job(victim))
        liar = new_id()
        await pushed(redis, Job(victim, "note").text(), liar)

        assert [] == await lane.claim(1)
        assert {liar: "not a job id"} == await redis.hgetall("job_quarantine")
        assert before == await redis.get(keys.job(victim))


class TestForeign:
    """Records of producers that know only the contract."""

    @pytest.mark.parametrize(
        "record",
        [
            '{{"job_id": "{id}", "task": "note", "status": "pending", "retries": 0}}',
            '{{"retries":0,"status":"pending","task":"note","job_id":"{id}","x":[],"n":9007199254740993}}',
            '{{"job_id":"{id}","task":"note","status":"pending","retries":0}}',
            '{{"task":"note"}}',
            "not even JSON",
            "",
        ],
    )
    async def test_claimed_as_it_is(self, store: Store, redis: Redis, lane: Lane, record: str) -> None:
        """Any other text than a canonical record is handed out unchanged: its holder judges it."""
        job_id = new_id()
        text = record.format(id=job_id)
        await pushed(redis, text, job_id)
        [claim] = await lane.claim()

        assert (job_id, text.encode(), None) == (claim.job_id, claim.record, claim.payload)
        assert text == await redis.get(keys.job(job_id))
        assert {job_id: claim.token} == await held(redis)

    async def test_without_a_mark(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A push without a mark is claimed like any other: marks only save time."""
        job_id = new_id()
        await pushed(redis, foreign(job_id), job_id)

        assert [] == await take_marks(redis)
        assert [job_id] == ids_of(await lane.claim(1))

    async def test_polled_at_every_moment(self, store: Store, redis: Redis, lane: Lane) -> None:
        """While a foreign job is claimed, adopted and settled, its record reads as JSON with the four given keys."""
        job_id = new_id()
        await pushed(redis, foreign(job_id, odd=ODD_TAIL), job_id)
        seen: set[str] = set()
        over = asyncio.Event()

        async def poll() -> None:
            while not over.is_set():
                job = parse(job_id, (await redis.get(keys.job(job_id))).encode())
                assert (job_id, "note") == (job.job_id, job.task)
                seen.add(job.status.value)

        polling = asyncio.create_task(poll())
        [claim] = await lane.claim()
        adopted = Job(job_id, "note", Status.PROCESSING, attempt=1)
        assert "ok" == await store.adopt(job_id, claim.token, claim.record, adopted.text())
        await asyncio.sleep(0.02)
        done = Job(job_id, "note", Status.COMPLETED, attempt=1, finished_at=1)
        await lane.settle(Settlement(job_id, claim.token, "complete", done.text()))
        await asyncio.sleep(0.02)

        over.set()
        await polling
        assert {"processing", "completed"} <= seen


class TestMissing:
    """Listed ids without a readable record."""

    async def test_without_a_record(self, store: Store, redis: Redis, lane: Lane) -> None:
        """An id that was pushed before its record is put by, with its list, since when; it is not claimed."""
        early = new_id()
        await redis.rpush("job_queue:mail:3", early)
        before = await server_ms(redis)

        assert [] == await Lane(store, queues="mail").claim(1)
        [(entry, since)] = await redis.zrange("job_missing", 0, -1, withscores=True)
        assert f"mail:3:{early}" == entry
        assert before <= since <= await server_ms(redis)
        assert {} == await held(redis)

    async def test_of_another_type(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A list under `job:<id>` is put by like a missing record, and the call's other jobs are claimed."""
        job_id = new_id()
        await redis.rpush(keys.job(job_id), "mine")
        await redis.rpush("job_queue", job_id)
        [behind] = await submitted(store)

        assert [behind] == ids_of(await lane.claim(1))
        assert [f"default:0:{job_id}"] == await redis.zrange("job_missing", 0, -1)
        assert ["mine"] == await redis.lrange(keys.job(job_id), 0, -1)

    async def test_first_seen_counts(self, store: Store, redis: Redis, lane: Lane) -> None:
        """Pushed again and again without a record, an id is missing since it was first seen."""
        job_id = new_id()
        await redis.zadd("job_missing", {f"default:0:{job_id}": 5})
        await redis.rpush("job_queue", job_id)
        await lane.claim()

        assert [(f"default:0:{job_id}", 5)] == await redis.zrange("job_missing", 0, -1, withscores=True)


async def test_a_payload_of_another_type(store: Store, redis: Redis, lane: Lane) -> None:
    """A payload key that holds no string is no payload; the job is handed out."""
    [job_id] = await submitted(store)
    await redis.rpush(keys.payload(job_id), "mine")

    assert [None] == [claim.payload for claim in await lane.claim()]


async def test_nothing_to_claim_writes_only_the_lane(store: Store, redis: Redis, lane: Lane) -> None:
    """An idle worker's call writes its own number and nothing else."""
    assert [] == await lane.claim(5)
    assert {"job_pump:w1:0": "1:"} == await dump(redis)
