"""scrub: what records and indexes disagree on is repaired."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from jobq.job import Job, Status
from jobq.store import keys
from jobq.store.connect import Server
from jobq.store.store import Store
from tests.store.conftest import Memory
from tests.store.support import (
    LONG,
    PAST,
    Lane,
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
    settled,
    submitted,
    take_marks,
)
from tests.support.invariants import broken, snapshot
from tests.support.servers import Valkey

LEASE = 30_000
FUTURE = 9_000_000_000_000


@pytest.fixture
async def raw(valkey: Valkey) -> AsyncIterator[Redis]:
    """A client that does not decode, for snapshots."""
    async with Redis.from_url(valkey.url) as client:
        yield client


async def scrubbed(store: Store, pace: int = 0) -> list[tuple[str, str]]:
    """What a whole pass has done: on a small server that is one call."""
    return await store.scrub(1000, LEASE, pace)


async def left_alone(store: Store, redis: Redis) -> None:
    """A pass finds nothing and changes no key but its own."""
    await redis.delete("job_scrub")
    before = await dump(redis)
    assert [] == await scrubbed(store)
    await redis.delete("job_scrub")
    assert before == await dump(redis)


async def a_bit_of_everything(store: Store, redis: Redis) -> dict[str, str]:
    """A healthy server with a job in each state and place, by name."""
    lane = Lane(store, queues="default,mail")
    jobs = {status: await finished(lane, outcome) for status, outcome in _OVER.items()}
    for name, outcome, columns in _AGAIN:
        [jobs[name]] = await submitted(store)
        [claim] = await lane.claim()
        assert ["ok"] == await lane.settle(settled(claim, outcome, **columns))
        await redis.lrem("job_queue", 0, jobs[name])
        if name != "parked" and name != "waits for its retry":
            await redis.rpush("job_queue:mail:4", jobs[name])
            await redis.set(keys.job(jobs[name]), Job(jobs[name], "note", queue="mail", priority=4).text())
    [jobs["processing"], jobs["to be cancelled"]] = await submitted(store, 2)
    for claim in await lane.claim(2):
        await store.emit(claim.job_id, claim.token, 1, [(1, "progress", "5")])
    await store.cancel(jobs["to be cancelled"], "enough", "{}")
    [jobs["ready"]] = await submitted(store, expires="+60000")
    [jobs["elsewhere"]] = await submitted(store, queue="mail", priority=9)
    [jobs["later"]] = await submitted(store, due="+60000", expires="+90000")
    return jobs


_OVER = {"completed": "complete", "failed": "fail", "cancelled": "cancel"}
_AGAIN: list[tuple[str, str, dict[str, int]]] = [
    ("waits for its retry", "retry", {"due": FUTURE}),
    ("released", "release", {}),
    ("parked", "park", {}),
]


class TestHealthy:
    """What is in order is not touched."""

    async def test_a_bit_of_everything(self, store: Store, redis: Redis, raw: Redis) -> None:
        """Of jobs in every state and place nothing is changed."""
        await a_bit_of_everything(store, redis)
        assert [] == broken(await snapshot(raw))
        await left_alone(store, redis)

    async def test_a_foreign_record_that_is_not_pushed_yet(self, store: Store, redis: Redis) -> None:
        """A producer may write first and push later: its record is left alone until it has."""
        await redis.set(keys.job(job_id := new_id()), foreign(job_id))
        await left_alone(store, redis)

    async def test_a_foreign_record_that_is_held(self, store: Store, redis: Redis, lane: Lane) -> None:
        """Claimed and not adopted yet: its holder goes on, a cancel stays asked for."""
        await pushed(redis, foreign(job_id := new_id()), job_id)
        await lane.claim()
        await store.cancel(job_id, "enough", "{}")
        await left_alone(store, redis)

    async def test_a_foreign_cancel(self, store: Store, redis: Redis) -> None:
        """A cancel of a foreign job that was given back before it was adopted is kept."""
        await pushed(redis, foreign(job_id := new_id()), job_id)
        await redis.hset("job_cancel", job_id, "enough")
        await left_alone(store, redis)

    @pytest.mark.parametrize("status", ["processing", "pending"])
    async def test_what_was_set_aside(self, store: Store, redis: Redis, status: str) -> None:
        """A job in the quarantine is not brought back."""
        await redis.set(keys.job(job_id := new_id()), Job(job_id, "note", Status(status)).text())
        await redis.hset("job_quarantine", job_id, "why")
        await left_alone(store, redis)

    async def test_a_status_that_does_not_exist(self, store: Store, redis: Redis) -> None:
        """A record with a word for its status that we do not know is somebody else's."""
        await redis.set(keys.job(job_id := new_id()), Job(job_id, "note").text().replace("pending", "paused"))
        await left_alone(store, redis)

    async def test_a_record_of_another_type(self, store: Store, redis: Redis) -> None:
        """A list under a job's key is left alone, and the others are repaired."""
        await redis.rpush(keys.job(new_id()), "mine")
        [job_id] = await submitted(store)
        await redis.delete("job_queue")

        assert [(job_id, "listed")] == await scrubbed(store)

    async def test_no_server_time_is_too_large(self, store: Store, redis: Redis) -> None:
        """A record with times of hundreds of digits does not stop the walk."""
        record = Job(job_id := new_id(), "note", run_at=int("9" * 400), expires_at=int("9" * 400)).text()
        await redis.set(keys.job(job_id), record)
        await redis.rpush("job_queue", job_id)
        await left_alone(store, redis)


class TestRunning:
    """Leases and tokens."""

    async def test_a_token_without_a_lease(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A live worker goes on, and the job of a dead one is reaped: the lease begins anew."""
        await submitted(store)
        [claim] = await lane.claim()
        await redis.delete("job_leases")
        now = await server_ms(redis)

        assert [(claim.job_id, "lease renewed")] == await scrubbed(store)
        assert now + LEASE <= await redis.zscore("job_leases", claim.job_id) <= await server_ms(redis) + LEASE
        assert ["ok"] == await lane.settle(settled(claim, "complete"))

    @pytest.mark.parametrize("lost", [("job_running",), ("job_running", "job_leases")])
    async def test_without_a_token(self, store: Store, redis: Redis, lane: Lane, lost: tuple[str, ...]) -> None:
        """Nobody can settle it any more: it is given back like a job whose lease ran out, and the loss is counted."""
        [job_id] = await submitted(store)
        [claim] = await lane.claim()
        await redis.delete(*lost)

        assert [(job_id, "lease ended")] == await scrubbed(store)
        assert [] == await scrubbed(store)
        assert [(job_id, "pending")] == await store.reap(3)
        assert (1, 1) == ((job := await job_of(store, job_id)).attempt, job.lost)
        assert ["stale"] == await lane.settle(settled(claim, "complete"))

    @pytest.mark.parametrize("where", [("job_running",), ("job_leases",), ("job_running", "job_leases")])
    async def test_pending_and_held(self, store: Store, redis: Redis, where: tuple[str, ...]) -> None:
        """A token or a lease of a job that does not run goes: claim would drop its list entry as stale."""
        [job_id] = await submitted(store)
        if "job_running" in where:
            await redis.hset("job_running", job_id, "w9.0.1.1")
        if "job_leases" in where:
            await redis.zadd("job_leases", {job_id: FUTURE})
        await scrubbed(store)

        assert {} == await held(redis)
        assert [job_id] == [claim.job_id for claim in await Lane(store).claim()]

    async def test_a_cancel_of_a_job_that_only_seemed_to_run(self, store: Store, redis: Redis, raw: Redis) -> None:
        """What was answered `requested` is done: the job is cancelled, not run."""
        [job_id] = await submitted(store)
        await redis.hset("job_running", job_id, "w9.0.1.1")
        assert ("requested", "processing") == await store.cancel(job_id, "enough", "{}")
        await scrubbed(store)

        assert Status.CANCELLED is (await job_of(store, job_id)).status
        assert [] == broken(await snapshot(raw))

    async def test_no_record(self, store: Store, redis: Redis) -> None:
        """What is kept of the run of a job that is gone is forgotten, unless somebody holds it."""
        ids = [new_id() for _ in range(5)]
        await redis.hset("job_running", mapping={ids[0]: "w9.0.1.1", ids[4]: "w9.0.1.2"})
        await redis.zadd("job_leases", {ids[1]: FUTURE, ids[4]: await server_ms(redis) + LONG})
        await redis.hset("job_cancel", ids[2], "enough")
        await redis.hset("job_progress", ids[3], "5")

        assert {(job_id, "let go") for job_id in ids[:4]} == set(await scrubbed(store)) - {(ids[1], "lease shortened")}
        assert {ids[4]: "w9.0.1.2"} == await held(redis)
        assert 0 == await redis.exists("job_cancel", "job_progress")

    @pytest.mark.parametrize("lost", ["job_running", "job_leases"])
    async def test_a_foreign_record(self, store: Store, redis: Redis, raw: Redis, lane: Lane, lost: str) -> None:
        """It goes on if its token is there, and is given back as it is if not."""
        await pushed(redis, record := foreign(job_id := new_id()), job_id)
        await lane.claim()
        await redis.delete(lost)
        await scrubbed(store)
        reaped = await store.reap(3)

        assert (record, lost == "job_running") == (await redis.get(keys.job(job_id)), reaped == [(job_id, "pending")])
        assert [] == broken(await snapshot(raw))

    async def test_progress_of_a_foreign_record(self, store: Store, redis: Redis) -> None:
        """Progress of nothing that runs is forgotten."""
        await pushed(redis, foreign(job_id := new_id()), job_id)
        await redis.hset("job_progress", job_id, "5")

        assert [(job_id, "let go")] == await scrubbed(store)


class TestClockSetBack:
    """A lease that reaches further than any could from now on."""

    async def test_is_shortened(self, store: Store, redis: Redis, lane: Lane) -> None:
        """The lease of a dead worker ends within a lease of now; one that may be in force is left alone."""
        ids = await submitted(store, 2)
        await lane.claim(2)
        now = await server_ms(redis)
        allowed = now + 2 * LEASE + 900
        await redis.zadd("job_leases", {ids[0]: now + 3_600_000, ids[1]: allowed})

        assert [(ids[0], "lease shortened")] == await scrubbed(store)
        leases = dict(await redis.zrange("job_leases", 0, -1, withscores=True))
        assert now + LEASE <= leases[ids[0]] <= await server_ms(redis) + LEASE
        assert allowed == leases[ids[1]]

    async def test_never_below_two_seconds(self, store: Store, redis: Redis, lane: Lane) -> None:
        """A live worker with a longer lease than ours says so once a second: it keeps its job."""
        await submitted(store)
        [claim] = await lane.claim()
        now = await server_ms(redis)
        await store.scrub(1000, 1000, 0)

        assert now + 2000 <= await redis.zscore("job_leases", claim.job_id) <= await server_ms(redis) + 2000

    async def test_a_hundred_a_call(self, store: Store, redis: Redis, lane: Lane) -> None:
        """Of 150 leases a call shortens 100."""
        await submitted(store, 150)
        await lane.claim(150)
        await redis.zadd("job_leases", dict.fromkeys(await held(redis), FUTURE))

        assert [100, 50, 0] == [len(await scrubbed(store)) for _ in range(3)]


class TestPending:
    """A job that waits has a home."""

    @pytest.mark.parametrize(
        ("columns", "home"), [({}, "job_queue"), ({"queue": "mail", "priority": 3}, "job_queue:mail:3")]
    )
    async def test_on_no_list(self, store: Store, redis: Redis, columns: dict[str, object], home: str) -> None:
        """It goes to the back of its list, and wakes a worker."""
        [first, second] = await submitted(store, 2, **columns)
        await redis.lrem(home, 0, first)
        await take_marks(redis)

        assert [(first, "listed")] == await scrubbed(store)
        assert [second, first] == await redis.lrange(home, 0, -1)
        assert [columns.get("queue", "default")] == await take_marks(redis)

    async def test_a_list_that_is_long(self, store: Store, redis: Redis) -> None:
        """A list of more than 1,000 is not searched; it is, once it is short."""
        [job_id] = await submitted(store)
        await redis.delete("job_queue")
        await redis.rpush("job_queue", *(new_id() for _ in range(1001)))
        assert [] == await scrubbed(store)
        await redis.lpop("job_queue")

        assert [(job_id, "listed")] == await scrubbed(store)

    async def test_a_list_of_another_type(self, store: Store, redis: Redis) -> None:
        """Somebody else's value in the place of a list is left alone."""
        await submitted(store)
        await redis.set("job_queue", "mine")
        await left_alone(store, redis)

    async def test_not_in_the_schedule(self, store: Store, redis: Redis) -> None:
        """A job that is due later is scheduled for then; one whose time has come meanwhile is ready."""
        [later] = await submitted(store, due="+60000")
        [soon] = await submitted(store, due="+30")
        await redis.delete("job_schedule")
        await pass_ms(redis, 30)

        assert {(later, "schedule"), (soon, "listed")} == set(await scrubbed(store))
        assert [(later, (await job_of(store, later)).run_at)] == await redis.zrange(
            "job_schedule", 0, -1, withscores=True
        )
        assert [soon] == await redis.lrange("job_queue", 0, -1)

    @pytest.mark.parametrize("columns", [{}, {"due": "+60000"}])
    async def test_scheduled_for_another_time(self, store: Store, redis: Redis, columns: dict[str, str]) -> None:
        """What the record says holds."""
        [job_id] = await submitted(store, **columns)
        await redis.zadd("job_schedule", {job_id: FUTURE})

        assert [(job_id, "schedule")] == await scrubbed(store)
        due = (await job_of(store, job_id)).run_at
        assert ([(job_id, due)] if due else []) == await redis.zrange("job_schedule", 0, -1, withscores=True)

    async def test_parked_and_scheduled(self, store: Store, redis: Redis, raw: Redis, lane: Lane) -> None:
        """One home: a job that is parked stays there."""
        [job_id] = await submitted(store)
        [claim] = await lane.claim()
        await lane.settle(settled(claim, "park"))
        await redis.zadd("job_schedule", {job_id: FUTURE})

        assert [(job_id, "schedule")] == await scrubbed(store)
        assert [] == broken(await snapshot(raw))

    async def test_expiry(self, store: Store, redis: Redis) -> None:
        """A job that has a time to expire is told off at it, and no other is."""
        [limited] = await submitted(store, expires="+60000")
        [free] = await submitted(store)
        await redis.delete("job_expiry")
        await redis.zadd("job_expiry", {free: FUTURE})

        assert {(limited, "expiry"), (free, "expiry")} == set(await scrubbed(store))
        assert [(limited, (await job_of(store, limited)).expires_at)] == await redis.zrange(
            "job_expiry", 0, -1, withscores=True
        )

    async def test_in_an_index(self, store: Store, redis: Redis) -> None:
        """A job that waits is in no index of finished ones."""
        [job_id] = await submitted(store)
        await redis.zadd("job_index:failed", {job_id: PAST})

        assert [(job_id, "index")] == await scrubbed(store)
        assert 0 == await redis.exists("job_index:failed")


class TestOver:
    """Nothing is kept of a job that is over but its entry in one index."""

    @pytest.mark.parametrize(("status", "outcome"), _OVER.items())
    async def test_in_no_index(self, store: Store, redis: Redis, lane: Lane, status: str, outcome: str) -> None:
        """It is indexed by when it ended, so that it is shown and forgotten in time."""
        job_id = await finished(lane, outcome)
        await redis.delete(f"job_index:{status}")

        assert [(job_id, "index")] == await scrubbed(store)
        ended = (await job_of(store, job_id)).finished_at
        assert [(job_id, ended)] == await redis.zrange(f"job_index:{status}", 0, -1, withscores=True)

    @pytest.mark.parametrize(("status", "outcome"), _OVER.items())
    async def test_elsewhere(self, store: Store, redis: Redis, lane: Lane, status: str, outcome: str) -> None:
        """Whatever else holds its id does not any more, and the record stays as it is."""
        job_id = await finished(lane, outcome)
        record = await redis.get(keys.job(job_id))
        before = await dump(redis)
        for name in ("schedule", "leases", "expiry", *(f"index:{word}" for word in _OVER if word != status)):
            await redis.zadd(f"job_{name}", {job_id: FUTURE})
        for name in ("running", "cancel", "progress"):
            await redis.hset(f"job_{name}", job_id, "5")
        await scrubbed(store)
        await redis.delete("job_scrub")

        assert (record, before) == (await redis.get(keys.job(job_id)), await dump(redis))


class TestWalk:
    """One pass, shared by all."""

    async def test_in_steps(self, store: Store, redis: Redis) -> None:
        """A call with next to no time goes on where the last one ended, until all have been seen."""
        ids = await submitted(store, 600)
        await redis.delete("job_queue")
        repaired: list[str] = []
        for calls in range(1, 1000):  # noqa: B007
            repaired += [job_id for job_id, _ in await store.scrub(0, LEASE, 0)]
            if (await redis.get("job_scrub")).startswith("1:0:"):
                break

        assert sorted(ids) == sorted(repaired) == sorted(await redis.lrange("job_queue", 0, -1))
        assert calls > 5

    async def test_at_a_common_pace(self, store: Store, redis: Redis) -> None:
        """However many workers scrub, a step is made once in `pace` ms; the others write nothing."""
        await submitted(store)
        await scrubbed(store)
        await redis.delete("job_queue")
        before = await dump(redis)
        assert [[]] * 10 == await asyncio.gather(*(scrubbed(store, LONG) for _ in range(10)))
        assert before == await dump(redis)
        await pass_ms(redis, 10)

        assert 1 == len(await scrubbed(store, 10))

    @pytest.mark.parametrize("state", [f"1:0:{FUTURE}", "nonsense", "9:0:1", "1:1:"])
    async def test_a_cursor_of_any_kind(self, store: Store, redis: Redis, state: str) -> None:
        """After the clock was set back, and whatever somebody wrote there, the pass goes on."""
        [job_id] = await submitted(store)
        await redis.delete("job_queue")
        await redis.set("job_scrub", state)

        assert [(job_id, "listed")] == await scrubbed(store, LONG)

    async def test_a_cursor_of_another_type(self, store: Store, redis: Redis) -> None:
        """Somebody else's list under the cursor's name does not stop it."""
        await submitted(store)
        await redis.delete("job_queue")
        await redis.rpush("job_scrub", "mine")

        assert 1 == len(await scrubbed(store))

    async def test_full_memory(self, store: Store, redis: Redis, memory: Memory) -> None:
        """At the memory limit it repairs on."""
        await submitted(store)
        await redis.delete("job_queue")
        await memory.fill()

        assert 1 == len(await scrubbed(store))

    async def test_beside_work(self, store: Store, redis: Redis) -> None:
        """While jobs are submitted, run, retried and cancelled, a pass finds nothing to repair."""
        done = asyncio.Event()

        async def work(number: int) -> None:
            lane, rng = Lane(store, f"w{number}"), random.Random(number)
            for _ in range(40):
                ids = await submitted(store, 3, due=rng.choice(["", "+5"]), expires=rng.choice(["", "+60000"]))
                await store.cancel(rng.choice(ids), "", '{"type":"Cancelled"}')
                for claim in await lane.claim(3):
                    outcome = rng.choice(["complete", "fail", "release", "retry", "lose"])
                    await lane.settle(
                        settled(claim, outcome, due=await server_ms(redis) + 5 if outcome == "retry" else "")
                    )
                await store.stage()

        async def scrub_on() -> list[tuple[str, str]]:
            repaired: list[tuple[str, str]] = []
            while not done.is_set():
                repaired += await store.scrub(1, 2 * LONG, 0)
            return repaired

        scrubbing = asyncio.create_task(scrub_on())
        await asyncio.gather(*(work(number) for number in range(3)))
        done.set()

        assert [] == await scrubbing


# Damage of every kind, at random.

Damage = Callable[[Redis, str], Awaitable[object]]

DAMAGES: dict[str, Damage] = {
    **{
        f"ZREM {name}": lambda redis, job_id, name=name: redis.zrem(name, job_id)
        for name in ("job_leases", "job_schedule", "job_expiry", "job_index:completed", "job_index:failed")
    },
    **{
        f"ZADD {name}": lambda redis, job_id, name=name: redis.zadd(name, {job_id: FUTURE})
        for name in ("job_leases", "job_schedule", "job_expiry", "job_index:completed", "job_index:cancelled")
    },
    **{
        f"ZADD {name} past": lambda redis, job_id, name=name: redis.zadd(name, {job_id: PAST})
        for name in ("job_leases", "job_schedule", "job_index:failed")
    },
    **{
        f"HDEL {name}": lambda redis, job_id, name=name: redis.hdel(name, job_id)
        for name in ("job_running", "job_cancel", "job_progress")
    },
    **{
        f"HSET {name}": lambda redis, job_id, name=name: redis.hset(name, job_id, f"garbage of {job_id}")
        for name in ("job_running", "job_cancel", "job_progress")
    },
    **{
        f"LREM {name}": lambda redis, job_id, name=name: redis.lrem(name, 0, job_id)
        for name in ("job_queue", "job_queue:mail:9", "job_parked:note")
    },
    "RPUSH job_queue": lambda redis, job_id: redis.rpush("job_queue", *[job_id] * 3),
}  # type: ignore[misc]

NAMES = [
    "completed", "failed", "cancelled", "waits for its retry", "released", "parked", "processing", "to be cancelled",
    "ready", "elsewhere", "later",
]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """Emptied for each example."""
    server = Valkey().start()
    yield server
    server.kill()
    shutil.rmtree(server.dir)


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(sorted(DAMAGES))), max_size=12))
@settings(max_examples=60)
def test_whatever_was_done_to_it(server: Valkey, damages: list[tuple[str, str]]) -> None:
    """After any damage to the sets a server is in order again, and no job that was over is not."""
    asyncio.run(_damaged(server, damages))


async def _damaged(server: Valkey, damages: list[tuple[str, str]]) -> None:
    server.flush()
    store = Server(server.url, "").store()
    async with Redis.from_url(server.url, decode_responses=True) as redis, Redis.from_url(server.url) as raw:
        jobs = await a_bit_of_everything(store, redis)
        before = await snapshot(raw)
        assert [] == broken(before)
        for name, damage in damages:
            await DAMAGES[damage](redis, jobs[name])

        for _ in range(5):
            repaired = await store.scrub(1000, LEASE, 0)
            reaped = await store.reap(100)
            staged = await store.stage()
            if not (repaired or reaped or staged):
                break

        after = await snapshot(raw)
        assert ([], [], []) == (repaired, reaped, broken(after))
        for job_id, job in before.jobs.items():
            assert job.status == after.jobs[job_id].status or not job.status.over
        assert before.jobs.keys() == after.jobs.keys()
    await store.close()


async def test_a_lost_job_is_found_by_a_claim(store: Store, redis: Redis, lane: Lane) -> None:
    """A job that was on no list, and one whose token had vanished, run after all."""
    ids = await submitted(store, 2)
    await lane.claim()
    await redis.delete("job_queue", "job_running")
    await scrubbed(store)
    await lose_all(redis)
    await store.reap(3)

    assert sorted(ids) == sorted(claim.job_id for claim in await lane.claim(2))
