"""Inspector: what people see of the queue."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from jobq.errors import BadRequest, StoreUnavailable
from jobq.job import Job, Status
from jobq.store import keys, pages
from jobq.store.connect import Server
from jobq.store.inspect import Inspector, QueueView
from jobq.store.pages import Filter, JobPage, Place
from jobq.store.statistics import HISTORY, SLOT
from jobq.store.store import Store
from tests.store.support import (
    LONG,
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
from tests.support.servers import Valkey

DAY = 86_400_000


async def early_in_a_slot(redis: Redis) -> None:
    """So that the test is over before the next ten seconds begin."""
    while await server_ms(redis) % 10_000 > 9_700:
        await asyncio.sleep(0.02)


async def counted_ago(redis: Redis, slots: int, **counts: int) -> None:
    """Statistics of the default queue, so many slots of ten seconds ago."""
    slot = await server_ms(redis) // 10_000 - slots
    await redis.hset(f"job_stats:{slot}", mapping={f"default|{word}": number for word, number in counts.items()})


def inspect_of(valkey: Valkey) -> Inspector:
    return Server(valkey.url, "").inspector()


async def after_ms(inspector: Inspector, ms: int) -> None:
    """Until the server's clock shows a later millisecond."""
    while await inspector.now() <= ms:
        pass


async def queue_of(inspector: Inspector, name: str = "default") -> QueueView:
    [view] = [view for view in await inspector.queues([name]) if view.name == name]
    return view


class TestOverview:
    """The numbers of a front page."""

    async def test_of_nothing(self, inspector: Inspector) -> None:
        """An empty server is all zeros."""
        overview = await inspector.overview([])

        numbers = (overview.ready, overview.scheduled, overview.processing, overview.parked, overview.missing)
        assert (0, 0, 0, 0, 0) == numbers
        assert 0 == overview.quarantined
        assert {"completed": 0, "failed": 0, "cancelled": 0} == overview.finished
        assert {} == overview.rates

    async def test_each_number(self, store: Store, redis: Redis, inspector: Inspector) -> None:
        """Each is that of its own key."""
        lane = Lane(store, queues="default,mail")
        for outcome, times in (("complete", 3), ("fail", 2), ("cancel", 1)):
            for _ in range(times):
                await finished(lane, outcome)
        await submitted(store, 4, task="new")
        claims = await lane.claim(4)
        await lane.settle(*(settled(claim, "park") for claim in claims[:3]), settled(claims[3], "quarantine"))
        await submitted(store, 2)
        await lane.claim(2)
        await submitted(store, 5, due="+60000")
        await redis.rpush("job_queue", new_id())
        await lane.claim()
        await store.submit([submission(queue=queue, priority=p) for queue in ("default", "mail") for p in (0, 5, 9)])

        overview = await inspector.overview([])

        assert (6, 5, 2) == (overview.ready, overview.scheduled, overview.processing)
        assert (3, 1, 1) == (overview.parked, overview.missing, overview.quarantined)
        assert {"completed": 3, "failed": 2, "cancelled": 1} == overview.finished

    async def test_rates_of_all_queues(self, redis: Redis, inspector: Inspector) -> None:
        """Rates are those of the queues together."""
        slot = await server_ms(redis) // 10_000 - 3
        await redis.hset(f"job_stats:{slot}", mapping={"default|in": 60, "mail|in": 30, "mail|failed": 6})

        assert {"in": 1.5, "failed": 0.1} == (await inspector.overview(["default", "mail"])).rates

    async def test_what_it_sums(self, store: Store, inspector: Inspector) -> None:
        """It holds the queues and workers of the same moment."""
        await submitted(store, 2, queue="mail")
        await store.present("w1", '{"queues": ["mail"]}', LONG)

        overview = await inspector.overview(["default"])
        assert [("default", 0, 0), ("mail", 2, 1)] == [(q.name, q.depth, q.workers) for q in overview.queues]
        assert ["w1"] == [worker.worker for worker in overview.workers]


class TestHistory:
    """The last hour."""

    async def test_slots(self, redis: Redis, inspector: Inspector) -> None:
        """All whole slots of the hour, oldest first, with what was counted in all queues; not the one that runs."""
        await early_in_a_slot(redis)
        now = await server_ms(redis) // 10_000
        await counted_ago(redis, 0, **{"in": 1000})
        await counted_ago(redis, 2, **{"in": 60, "failed": 1})
        await redis.hset(f"job_stats:{now - 2}", mapping={"mail|in": 5, "mail|retried": 2})
        await counted_ago(redis, 360, completed=7)
        await counted_ago(redis, 361, completed=1000)

        slots = await inspector.history()
        assert [10_000 * n for n in range(now - 360, now)] == [slot.at for slot in slots]
        assert {0: {"completed": 7}, 358: {"in": 65, "failed": 1, "retried": 2}} == {
            n: slot.counts for n, slot in enumerate(slots) if slot.counts
        }

    @pytest.mark.parametrize(("ms", "expected"), [(0, 3), (1, 2), (10_000, 2), (20_001, 0), (9_999_999, 0)])
    async def test_since(self, redis: Redis, inspector: Inspector, ms: int, expected: int) -> None:
        """Only slots that began then or later, and none of the future."""
        await early_in_a_slot(redis)
        third_last = 10_000 * (await server_ms(redis) // 10_000 - 3)

        assert expected == len(await inspector.history(third_last + ms))

    async def test_what_the_scripts_keep(self, redis: Redis, lane: Lane) -> None:
        """What is asked for is what the scripts keep: one hour."""
        await finished(lane)
        [slot] = [key async for key in redis.scan_iter("job_stats:*")]

        assert HISTORY * SLOT - 5 <= await redis.ttl(slot) <= HISTORY * SLOT

    async def test_foreign_values(self, redis: Redis, inspector: Inspector) -> None:
        """What somebody else keeps under a slot's name counts as nothing, here and in the rates."""
        await early_in_a_slot(redis)
        await counted_ago(redis, 3, **{"in": 60})
        await redis.set(f"job_stats:{await server_ms(redis) // 10_000 - 2}", "mine")

        assert [{"in": 60}] == [slot.counts for slot in await inspector.history() if slot.counts]
        assert {"in": 1.0} == (await queue_of(inspector)).rates


class TestQueues:
    """One line for each queue."""

    async def test_names(self, store: Store, inspector: Inspector) -> None:
        """Queues that were submitted to once are known for good, and those that the caller knows."""
        await submitted(store, queue="mail")
        await store.purge("mail")

        assert ["mail"] == await inspector.queue_names()
        assert ["default", "mail"] == await inspector.queue_names(["default", "mail"])
        assert ["default", "mail"] == [view.name for view in await inspector.queues(["default"])]

    async def test_an_idle_queue(self, inspector: Inspector) -> None:
        """A queue without jobs is all zeros."""
        assert [QueueView("default", {}, False, None, {}, 0)] == await inspector.queues(["default"])

    async def test_ready_by_priority(self, store: Store, inspector: Inspector) -> None:
        """What is ready is told apart by priority; what is scheduled is not ready."""
        for priority, count in ((0, 3), (9, 2), (4, 1)):
            await submitted(store, count, priority=priority, queue="mail")
        await submitted(store, due="+60000", queue="mail")
        await submitted(store, queue="mailing")

        view = await queue_of(inspector, "mail")
        assert {9: 2, 4: 1, 0: 3} == view.ready
        assert 6 == view.depth

    async def test_paused(self, store: Store, inspector: Inspector) -> None:
        """A paused queue says so, and no other."""
        await submitted(store, queue="mail")
        await store.pause("mail")

        assert {"default": False, "mail": True} == {v.name: v.paused for v in await inspector.queues(["default"])}

    @pytest.mark.parametrize(
        ("ages", "expected"),
        [({0: 5}, 5), ({0: 5, 9: 90}, 90), ({0: 90, 9: 5}, 90), ({3: -60}, 0)],
    )
    async def test_oldest(self, redis: Redis, inspector: Inspector, ages: dict[int, int], expected: int) -> None:
        """The longest wait at the head of any list counts, in seconds since the submit; a clock ahead is no wait."""
        now = await server_ms(redis)
        for priority, age in ages.items():
            job = Job(new_id(), "note", created_at=now - age * 1000, priority=priority)
            await pushed(redis, job.text(), job.job_id, keys.ready("default", priority))

        oldest = (await queue_of(inspector)).oldest_seconds
        assert oldest is not None
        assert expected <= oldest < expected + 4

    async def test_oldest_of_a_delayed_job(self, redis: Redis, inspector: Inspector) -> None:
        """A job that was to wait waits since it was due; one that is not due does not wait."""
        now = await server_ms(redis)
        due, early = (Job(new_id(), "note", created_at=now - DAY, run_at=now + ms) for ms in (-3000, LONG))
        await pushed(redis, due.text(), due.job_id)
        await pushed(redis, early.text(), early.job_id, "job_queue:mail")

        oldest = (await queue_of(inspector)).oldest_seconds
        assert oldest is not None
        assert 3 <= oldest < 30
        assert (await queue_of(inspector, "mail")).oldest_seconds is None

    async def test_oldest_behind_stale_entries(self, store: Store, redis: Redis, inspector: Inspector) -> None:
        """Entries of jobs that do not wait, have no record, are no ids or say no time are passed over."""
        cancelled, erased = await submitted(store, 2)
        await store.cancel(cancelled, "", "{}")
        await store.delete(erased)
        plain = new_id()
        await pushed(redis, foreign(plain), plain)
        await redis.rpush("job_queue", "rubbish", b"\xff\xfe")
        assert (await queue_of(inspector)).oldest_seconds is None

        await submitted(store)
        assert (await queue_of(inspector)).oldest_seconds is not None

    async def test_rates(self, redis: Redis, inspector: Inspector) -> None:
        """Jobs a second over the last six whole slots: neither the slot that has just begun nor older ones count."""
        await early_in_a_slot(redis)
        await counted_ago(redis, 0, **{"in": 1000})
        await counted_ago(redis, 2, **{"in": 60, "completed": 30, "retried": 3})
        await counted_ago(redis, 4, completed=30, lost=6)
        await counted_ago(redis, 9, **{"in": 1000})

        assert {"in": 1.0, "completed": 1.0, "retried": 0.05, "lost": 0.1} == (await queue_of(inspector)).rates

    async def test_what_the_scripts_count(self, store: Store, redis: Redis, lane: Lane, inspector: Inspector) -> None:
        """What was counted shows once its slot is over."""
        await early_in_a_slot(redis)
        await finished(lane)
        [slot] = [key async for key in redis.scan_iter("job_stats:*")]
        await redis.rename(slot, f"job_stats:{await server_ms(redis) // 10_000 - 2}")

        assert {"in": 1 / 60, "completed": 1 / 60} == (await queue_of(inspector)).rates

    async def test_workers(self, store: Store, inspector: Inspector) -> None:
        """Each queue counts the workers that serve it, each once, whatever else they say of themselves."""
        for worker, about in {
            "w1": {"queues": ["default", "mail"]},
            "w2": {"queues": ["default", "default", 7, None]},
            "w3": {"queues": "default"},
            "w4": {"queues": {"default": 3}},
            "w5": {},
            "w6": ["default"],
        }.items():
            await store.present(worker, json.dumps(about), LONG)
        await store.present("w7", "not JSON", LONG)

        views = await inspector.queues(["default", "mail"])
        assert {"default": 2, "mail": 1} == {view.name: view.workers for view in views}


class TestWorkers:
    """Who is there."""

    async def test_what_they_say_and_hold(self, store: Store, inspector: Inspector) -> None:
        """Each worker with what it said of itself, when, and the jobs it holds."""
        await submitted(store, 3)
        mine = [claim.job_id for claim in await Lane(store, "w1").claim(2)]
        [theirs] = await Lane(store, "w10").claim()
        for worker in ("w1", "w10", "w2"):
            await store.present(worker, json.dumps({"host": worker}), LONG)

        views = {view.worker: view for view in await inspector.workers()}

        assert 3 == len(views)
        assert [sorted(mine), [theirs.job_id], []] == [sorted(views[worker].running) for worker in ("w1", "w10", "w2")]
        assert {"host": "w1"} == views["w1"].about
        assert all(0 <= view.seen_seconds < 5 for view in views.values())

    async def test_seen(self, store: Store, redis: Redis, inspector: Inspector) -> None:
        """`seen_seconds` counts from its last word; a clock that jumped back does not make it negative."""
        for worker, ms in (("w1", -4000), ("w2", 9000)):
            await store.present(worker, "{}", LONG)
            await redis.zadd("job_workers", {worker: await server_ms(redis) + ms})

        seen = {view.worker: view.seen_seconds for view in await inspector.workers()}
        assert 4 <= seen["w1"] < 30
        assert 0 == seen["w2"]

    async def test_gone(self, store: Store, redis: Redis, inspector: Inspector) -> None:
        """A worker that left or was not heard of is not shown, also before another one's word sweeps it away."""
        for worker in ("left", "silent", "w1"):
            await store.present(worker, "{}", LONG)
        await store.leave("left")
        await redis.delete("job_worker:silent")

        assert ["w1"] == [view.worker for view in await inspector.workers()]

    async def test_nobody(self, inspector: Inspector) -> None:
        """Without workers the list is empty."""
        assert [] == await inspector.workers()


class TestOrder:
    """Telling a worker what to do."""

    async def test_is_heard(self, store: Store, redis: Redis, inspector: Inspector) -> None:
        """The worker hears the last order; an order that nobody fetches is forgotten after a day."""
        await store.present("w1", "{}", LONG)

        assert await inspector.order("w1", "quiet")
        assert await inspector.order("w1", "stop")
        assert "stop" == await store.present("w1", "{}", LONG)
        assert 86_390 < await redis.ttl("job_order:w1") <= 86_400

    async def test_of_nobody(self, store: Store, redis: Redis, inspector: Inspector) -> None:
        """Who is not there is told nothing, and nothing is written."""
        await store.present("w1", "{}", LONG)
        await store.leave("w1")

        assert not await inspector.order("w1", "stop")
        assert not await inspector.order("w2", "stop")
        assert {} == await dump(redis)


class TestEmitted:
    """Progress and log."""

    async def test_pages(self, store: Store, lane: Lane, inspector: Inspector) -> None:
        """Entries come oldest first, from behind the one named, as many as asked for."""
        [job_id] = await submitted(store)
        [claim] = await lane.claim()
        await store.emit(job_id, claim.token, 1, [(n, "log", f"ä{n}") for n in range(1, 12)])

        first = await inspector.emitted(job_id, limit=10)
        assert [(f"1-{n}", "log", f"ä{n}") for n in range(1, 11)] == [(e["id"], e["kind"], e["data"]) for e in first]
        assert {"id", "at", "kind", "data"} == set(first[0])
        assert ["1-11"] == [entry["id"] for entry in await inspector.emitted(job_id, after="1-10")]
        assert [] == await inspector.emitted(job_id, after="1-11")

    async def test_of_a_job_without(self, redis: Redis, inspector: Inspector) -> None:
        """A job that emitted nothing has an empty list, and so has one whose log is somebody else's value."""
        job_id = new_id()
        assert [] == await inspector.emitted(job_id)
        await redis.set(keys.emitted(job_id), "mine")
        assert [] == await inspector.emitted(job_id)

    async def test_bytes_that_are_no_text(self, redis: Redis, inspector: Inspector) -> None:
        """What somebody else wrote there is shown with escapes."""
        job_id = new_id()
        await redis.xadd(keys.emitted(job_id), {b"\xff": b"a\xfe"}, id="1-1")

        assert [{"id": "1-1", "\\xff": "a\\xfe"}] == await inspector.emitted(job_id)

    @pytest.mark.parametrize("after", ["", "+", "(1-1", "1", "1-", "1-1 ", "9" * 30 + "-1", "１-1"])
    async def test_a_bad_place(self, inspector: Inspector, after: str) -> None:
        """What is no entry's id is refused."""
        with pytest.raises(BadRequest, match="after"):
            await inspector.emitted(new_id(), after=after)

    async def test_progress(self, store: Store, lane: Lane, inspector: Inspector) -> None:
        """The last progress is there while the job runs, also an empty one; afterwards there is none."""
        [job_id] = await submitted(store)
        [claim] = await lane.claim()
        assert await inspector.progress(job_id) is None
        await store.emit(job_id, claim.token, 1, [(1, "progress", '"ä"')])
        assert '"ä"' == await inspector.progress(job_id)
        await store.emit(job_id, claim.token, 1, [(2, "progress", "")])
        assert "" == await inspector.progress(job_id)
        await lane.settle(settled(claim, "complete"))
        assert await inspector.progress(job_id) is None

    async def test_running(self, store: Store, lane: Lane, inspector: Inspector) -> None:
        """Of a running job: its progress and the reason of a cancel; None for what there is not."""
        [job_id] = await submitted(store)
        [claim] = await lane.claim()
        assert (None, None) == await inspector.running(job_id)
        await store.emit(job_id, claim.token, 1, [(1, "progress", "5")])
        await store.cancel(job_id, "", "{}")
        assert ("5", "") == await inspector.running(job_id)


async def walk(
    inspector: Inspector,
    limit: int,
    wanted: Filter | None = None,
    between: Callable[[JobPage], Awaitable[object]] | None = None,
) -> list[Job]:
    """All pages after one another."""
    jobs: list[Job] = []
    place: Place | None = Place()
    while place is not None:
        page = await inspector.jobs(wanted or Filter(), place, limit, ["default"])
        assert len(page.jobs) <= limit
        jobs += page.jobs
        if between:
            await between(page)
        # As a cursor: what a page ends with survives being written down.
        place = None if page.next is None else Place(*json.loads(json.dumps(page.next)))
    return jobs


def ids_of(jobs: list[Job]) -> list[str]:
    return [job.job_id for job in jobs]


async def some_of_each(store: Store, redis: Redis) -> dict[str, list[str]]:
    """Ids of jobs in every place where a job can be."""
    lane = Lane(store, queues="default,mail")
    over = {outcome: [await finished(lane, outcome) for _ in range(3)] for outcome in ("complete", "fail", "cancel")}
    parked = await submitted(store, 2, task="new") + await submitted(store, 1, task="anew")
    await lane.settle(*(settled(claim, "park") for claim in await lane.claim(3)))
    running = await submitted(store, 3, queue="mail")
    await lane.claim(3)
    scheduled = await submitted(store, 3, due="+60000")
    await redis.zadd("job_schedule", dict.fromkeys(scheduled, await server_ms(redis) + LONG))
    ready = [
        job_id
        for queue in ("default", "mail")
        for priority in (9, 0)
        for job_id in await submitted(store, 2, queue=queue, priority=priority)
    ]
    return {"running": running, "ready": ready, "scheduled": scheduled, "parked": parked, **over}


class TestJobs:
    """Pages of jobs."""

    @pytest.mark.parametrize("limit", [1, 2, 3, 5, 7, 26, 1000])
    async def test_every_job_once(self, store: Store, redis: Redis, inspector: Inspector, limit: int) -> None:
        """However long a page is, all of them show every job exactly once, in one order."""
        there = await some_of_each(store, redis)
        shown = ids_of(await walk(inspector, limit))

        assert sorted(job_id for ids in there.values() for job_id in ids) == sorted(shown)
        assert sorted(there["running"]) == shown[:3]
        assert there["ready"] == shown[3:11]
        assert sorted(there["scheduled"]) == shown[11:14]
        assert there["parked"][2:] + there["parked"][:2] == shown[14:17]
        by_time = [
            await redis.zrevrange(f"job_index:{status}", 0, -1) for status in ("completed", "failed", "cancelled")
        ]
        assert [job_id for ids in by_time for job_id in ids] == shown[17:]

    async def test_no_job(self, inspector: Inspector) -> None:
        """An empty server is one empty page."""
        page = await inspector.jobs(Filter(), Place(), 10)
        assert ([], None, False) == (page.jobs, page.next, page.capped)

    @pytest.mark.parametrize("limit", [1, 3, 100])
    @pytest.mark.parametrize(
        ("status", "places"),
        [
            ("pending", ("ready", "scheduled", "parked")),
            ("processing", ("running",)),
            ("completed", ("complete",)),
            ("failed", ("fail",)),
            ("cancelled", ("cancel",)),
        ],
    )
    async def test_by_status(
        self, store: Store, redis: Redis, inspector: Inspector, limit: int, status: str, places: tuple[str, ...]
    ) -> None:
        """Jobs of one status, wherever they are."""
        there = await some_of_each(store, redis)
        jobs = await walk(inspector, limit, Filter(status=status))

        assert sorted(job_id for place in places for job_id in there[place]) == sorted(ids_of(jobs))
        assert {status} == {job.status.value for job in jobs}

    @pytest.mark.parametrize("limit", [1, 4, 100])
    async def test_by_task_and_queue(self, store: Store, redis: Redis, inspector: Inspector, limit: int) -> None:
        """Jobs of one task, of one queue, and of both."""
        there = await some_of_each(store, redis)

        assert there["parked"][:2] == ids_of(await walk(inspector, limit, Filter(task="new")))
        assert there["parked"][2:] == ids_of(await walk(inspector, limit, Filter(task="anew", status="pending")))
        mail = sorted(there["running"]) + there["ready"][4:]
        assert mail == ids_of(await walk(inspector, limit, Filter(queue="mail")))
        assert there["ready"][4:] == ids_of(await walk(inspector, limit, Filter(queue="mail", status="pending")))
        assert [] == await walk(inspector, limit, Filter(queue="mail", task="new"))

    @pytest.mark.parametrize("limit", [1, 100])
    async def test_scheduled(self, store: Store, redis: Redis, inspector: Inspector, limit: int) -> None:
        """Of the pending ones, those that are due later: the next one first."""
        there = await some_of_each(store, redis)
        soon = await submitted(store, due="+30000", queue="mail")

        scheduled = Filter("pending", scheduled=True)
        assert soon + sorted(there["scheduled"]) == ids_of(await walk(inspector, limit, scheduled))
        assert soon == ids_of(await walk(inspector, limit, scheduled._replace(queue="mail")))
        assert [] == await walk(inspector, limit, scheduled._replace(status="failed"))

    async def test_by_time(self, redis: Redis, inspector: Inspector) -> None:
        """`created_after` includes its instant, `created_before` does not."""
        jobs = [Job(new_id(), "note", created_at=at) for at in (1000, 2000, 3000, 4000)]
        for job in jobs:
            await pushed(redis, job.text(), job.job_id)

        assert jobs[1:3] == await walk(inspector, 10, Filter(created_after=2000, created_before=4000))
        assert jobs[2:] == await walk(inspector, 10, Filter(created_after=3000))
        assert jobs[:1] == await walk(inspector, 10, Filter(created_before=2000))

    @pytest.mark.parametrize("limit", [1, 2, 3, 250])
    async def test_equal_times(self, store: Store, redis: Redis, inspector: Inspector, limit: int) -> None:
        """Jobs that ended or are due in the same instant are told apart, more than are read at once too."""
        count = 450 if limit == 250 else 10
        lane = Lane(store)
        over = await submitted(store, count)
        while claims := await lane.claim(200):
            await lane.settle(*(settled(claim, "complete") for claim in claims))
        await redis.zadd("job_index:completed", dict.fromkeys(over, 5))
        due = await submitted(store, count, due="+60000")
        await redis.zadd("job_schedule", dict.fromkeys(due, await server_ms(redis) + LONG))

        assert Counter(over + due) == Counter(ids_of(await walk(inspector, limit)))

    async def test_parked_by_task(self, store: Store, inspector: Inspector) -> None:
        """Parking lots come in the order of their tasks, in whatever order they are kept."""
        expected = []
        lane = Lane(store)
        for task in "hcfadgbe":
            expected += [(task, job_id) for job_id in await submitted(store, task=task)]
            [claim] = await lane.claim()
            await lane.settle(settled(claim, "park"))

        assert [job_id for _, job_id in sorted(expected)] == ids_of(await walk(inspector, 1))

    async def test_more_than_is_read_at_once(self, store: Store, inspector: Inspector) -> None:
        """Long lists are read on, within a page and over pages."""
        ids = await submitted(store, 450)

        assert ids == ids_of(await walk(inspector, 1000))
        assert ids == ids_of(await walk(inspector, 130))


class TestWhileJobsMove:
    """Pages of a queue at work."""

    @pytest.mark.parametrize("limit", [1, 2, 3])
    async def test_finished_ones_come_at_the_front(self, store: Store, inspector: Inspector, limit: int) -> None:
        """While more jobs end, each of those that were over is shown once, and no other."""
        lane = Lane(store)
        over = [await finished(lane) for _ in range(6)]
        begun = await inspector.now()

        async def another(page: JobPage) -> None:
            await after_ms(inspector, begun)
            await finished(lane)

        assert sorted(over) == sorted(ids_of(await walk(inspector, limit, Filter(status="completed"), another)))

    @pytest.mark.parametrize("limit", [1, 2, 3])
    async def test_running_ones_end(self, store: Store, inspector: Inspector, limit: int) -> None:
        """A job that was shown running and then ends is not shown again among those that are over."""
        lane = Lane(store)
        over = [await finished(lane) for _ in range(3)]
        await submitted(store, 6)
        claims = {claim.job_id: claim for claim in await lane.claim(6)}

        async def end(page: JobPage) -> None:
            await after_ms(inspector, await inspector.now())
            shown = [claims.pop(job_id) for job_id in ids_of(page.jobs) if job_id in claims]
            await lane.settle(*(settled(claim, "complete") for claim in shown))

        running = sorted(claims)
        jobs = await walk(inspector, limit, between=end)
        assert dict.fromkeys(running + over, 1) == Counter(ids_of(jobs))
        assert running == ids_of(jobs)[:6]

    @pytest.mark.parametrize("limit", [1, 2, 5])
    async def test_ready_ones_are_run(self, store: Store, inspector: Inspector, limit: int) -> None:
        """However many jobs are claimed and end between the pages, none is shown twice."""
        lane = Lane(store)
        await submitted(store, 12)

        async def work(page: JobPage) -> None:
            await after_ms(inspector, await inspector.now())
            await lane.settle(*(settled(claim, "complete") for claim in await lane.claim(2)))

        assert {1} == set(Counter(ids_of(await walk(inspector, limit, between=work))).values())

    @pytest.mark.parametrize("limit", [1, 2])
    async def test_heartbeats(self, store: Store, redis: Redis, inspector: Inspector, limit: int) -> None:
        """Leases that are extended meanwhile, in any order, do not shift what runs."""
        ids = await submitted(store, 5)
        await Lane(store).claim(5)

        async def extend(page: JobPage) -> None:
            for job_id in ids_of(page.jobs):
                await redis.zincrby("job_leases", LONG, job_id)

        assert sorted(ids) == ids_of(await walk(inspector, limit, Filter(status="processing"), extend))

    @pytest.mark.parametrize("limit", [1, 2])
    async def test_queues_and_tasks_come_and_go(self, store: Store, inspector: Inspector, limit: int) -> None:
        """A queue that is new or a parking lot that empties between two pages does not shift the others."""
        lane = Lane(store, queues="a,m,default")
        await submitted(store, task="old")
        await lane.settle(settled((await lane.claim())[0], "park"))
        over = [await finished(lane) for _ in range(4)]
        listed = await submitted(store, 2, queue="m")
        pages = 0

        async def change(page: JobPage) -> None:
            nonlocal pages
            pages += 1
            if pages == 1:
                await submitted(store, queue="a")
            if any(job.status.over for job in page.jobs):
                await store.unpark(["default"], ["old"])

        shown = Counter(ids_of(await walk(inspector, limit, between=change)))
        assert dict.fromkeys(over + listed, 1) == {i: n for i, n in shown.items() if i in over + listed}
        assert {1} == set(shown.values())

    async def test_pruned_meanwhile(self, store: Store, redis: Redis, inspector: Inspector) -> None:
        """Jobs that are forgotten between two pages are missing, and nothing else."""
        lane = Lane(store)
        over = [await finished(lane) for _ in range(6)]
        await redis.zadd("job_index:completed", {job_id: n + 1 for n, job_id in enumerate(over)})
        place = (await inspector.jobs(Filter(status="completed"), Place(), 2)).next
        await store.prune("completed", 0, 0, 0)
        assert place is not None

        page = await inspector.jobs(Filter(status="completed"), place, 10)
        assert ([], None) == (page.jobs, page.next)


class TestOddRecords:
    """What is listed need not be a job, nor wait there."""

    @pytest.mark.parametrize("limit", [1, 100])
    async def test_jobs_that_are_listed_but_do_not_wait(
        self, store: Store, redis: Redis, inspector: Inspector, limit: int
    ) -> None:
        """Entries left behind by jobs that were cancelled, run or are over do not show the job a second time."""
        lane = Lane(store)
        over = await finished(lane)
        running, cancelled, waiting = await submitted(store, 3)
        await lane.claim()
        await store.cancel(cancelled, "", "{}")
        await redis.rpush("job_queue", running, over)

        shown = await walk(inspector, limit)
        assert [(running, "processing"), (waiting, "pending"), (over, "completed"), (cancelled, "cancelled")] == [
            (job.job_id, job.status.value) for job in shown
        ]

    async def test_entries_of_an_index_that_is_wrong(self, store: Store, redis: Redis, inspector: Inspector) -> None:
        """A job is shown among those of its own status only."""
        [waiting] = await submitted(store)
        over = await finished(Lane(store, queues="mail"), "fail", queue="mail")
        for status in ("completed", "failed", "cancelled"):
            await redis.zadd(f"job_index:{status}", {waiting: 1, over: 1, new_id(): 1})

        assert [(waiting, "pending"), (over, "failed")] == [
            (job.job_id, job.status.value) for job in await walk(inspector, 10)
        ]

    @pytest.mark.parametrize("limit", [1, 100])
    async def test_unreadable_ones_are_passed_over(
        self, store: Store, redis: Redis, inspector: Inspector, limit: int
    ) -> None:
        """Entries without a readable record of that very job harm nobody, wherever they are."""
        [good] = await submitted(store)
        records = {
            new_id(): "not a record", new_id(): "[]", new_id(): "", new_id(): "[" * 5000, new_id(): b"\xff",
            new_id(): '{"task": 7}', new_id(): Job(good, "note").text(),
            new_id(): Job(good, "note").text().replace("pending", "dreaming"),
            new_id(): f'{{"task":"note","n":{"9" * 5000}}}',
        }  # fmt: skip
        await redis.mset({keys.job(job_id): record for job_id, record in records.items()})
        listed = new_id()
        await redis.rpush(keys.job(listed), "mine")
        odd = [*records, listed, new_id(), "rubbish", "A" * 5000, b"\xff\xfe"]
        await redis.lpush("job_queue", *odd)
        for key in ("job_schedule", "job_index:completed", "job_index:failed"):
            await redis.zadd(key, dict.fromkeys(odd, 5))
        await redis.hset("job_running", mapping=dict.fromkeys(odd, b"\xff.0.1.1"))
        await redis.rpush("job_parked:new", *odd)
        await redis.sadd("job_parked", "new")

        assert [good] == ids_of(await walk(inspector, limit))
        assert len(odd) + 1 == (await queue_of(inspector)).ready[0]
        assert len(odd) == (await inspector.overview([])).processing
        await store.present("w1", "{}", LONG)
        assert [[]] == [view.running for view in await inspector.workers()]

    async def test_foreign_ones_are_shown(self, store: Store, redis: Redis, inspector: Inspector) -> None:
        """A foreign record is shown as it reads, while it waits and while it runs."""
        job_id = new_id()
        await pushed(redis, foreign(job_id, odd=[]), job_id)
        assert [(job_id, ',"odd":[]')] == [(job.job_id, job.tail) for job in await walk(inspector, 10)]
        await Lane(store).claim()
        assert [job_id] == ids_of(await walk(inspector, 10))


class TestMostLookedAt:
    """A page does not look for its jobs without end."""

    @pytest.fixture(autouse=True)
    def _few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pages, "MOST_LOOKED_AT", 20)
        monkeypatch.setattr(pages, "BATCH", 10)

    async def test_a_page_ends_early_and_says_so(self, store: Store, inspector: Inspector) -> None:
        """What is rare is found over several pages, of which the early ones may be empty."""
        await submitted(store, 35)
        [rare] = await submitted(store, task="rare")
        await submitted(store, 35, due="+60000")
        wanted = Filter(task="rare")

        first = await inspector.jobs(wanted, Place(), 5)
        assert ([], True) == (first.jobs, first.capped)
        assert first.next is not None
        pages: list[JobPage] = []

        async def keep(page: JobPage) -> None:
            pages.append(page)

        assert [rare] == ids_of(await walk(inspector, 5, wanted, keep))
        assert [True, True, True, False] == [page.capped for page in pages]

    async def test_worthless_entries_count(self, redis: Redis, inspector: Inspector) -> None:
        """Entries without a record are looked at as well."""
        await redis.rpush("job_queue", *(new_id() for _ in range(50)))

        page = await inspector.jobs(Filter(), Place(), 5, ["default"])
        assert ([], True) == (page.jobs, page.capped)

    async def test_a_full_page_is_not_capped(self, store: Store, inspector: Inspector) -> None:
        """A page that found all it was to hold before is a page like any other."""
        ids = await submitted(store, 60)

        page = await inspector.jobs(Filter(), Place(), 20)
        assert (ids[:20], False) == (ids_of(page.jobs), page.capped)
        assert ids == ids_of(await walk(inspector, 20))


async def test_nothing_is_written(store: Store, redis: Redis, inspector: Inspector) -> None:
    """Looking changes nothing."""
    await some_of_each(store, redis)
    await store.present("w1", "{}", LONG)
    before = await dump(redis)

    await inspector.overview(["default"])
    await inspector.history()
    await inspector.workers()
    await walk(inspector, 5)
    assert before == await dump(redis)


async def test_a_server_that_is_away(own_valkey: Valkey) -> None:
    """Every question raises StoreUnavailable while the server does not answer."""
    inspector = inspect_of(own_valkey)
    own_valkey.kill()
    for ask in (
        inspector.now(), inspector.overview([]), inspector.queue_names(), inspector.queues(), inspector.workers(),
        inspector.order("w1", "stop"), inspector.emitted("x"), inspector.progress("x"), inspector.running("x"),
        inspector.jobs(Filter(), Place(), 1), inspector.history(),
    ):  # fmt: skip
        with pytest.raises(StoreUnavailable):
            await ask
    await inspector.close()


async def test_a_reap_in_between(store: Store, redis: Redis, inspector: Inspector) -> None:
    """A job that lost its worker shows as waiting, and its worker holds nothing."""
    await submitted(store)
    await Lane(store).claim()
    await store.present("w1", "{}", LONG)
    await lose_all(redis)
    await store.reap(3)

    assert [Status.PENDING] == [job.status for job in await walk(inspector, 5)]
    assert [[]] == [view.running for view in await inspector.workers()]
