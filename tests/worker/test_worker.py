"""The worker against a real server: what its users are promised."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from jobq import Client, JobCancelled, JobFailed, Registry, ResultTimeout, Status, current
from jobq.store.store import Store
from tests.support import tasks
from tests.support.proxy import Proxy
from tests.support.servers import Valkey
from tests.support.tasks import traced
from tests.worker.conftest import Running


async def failure(client: Client, job_id: str, timeout: float = 10) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        await client.wait(job_id, timeout)
    return caught.value


async def test_a_thousand_jobs_run_once_each(client: Client, working: Running, trace_file: Path) -> None:
    """1,000 submits while one worker runs: all completed, each executed once, as the task itself counts."""
    async with working():
        jobs = [await client.submit(tasks.note.job(text=str(n))) for n in range(1000)]
        results = [await job.result(20) for job in jobs]

    assert [str(n) for n in range(1000)] == results
    assert Counter({job.job_id: 1 for job in jobs}) == Counter(traced(trace_file))


async def test_a_failing_task_gets_four_attempts(client: Client, working: Running, trace_file: Path) -> None:
    """A task that always raises is executed four times, then failed with `retries` 3 and the error."""
    async with working():
        job = await client.submit(tasks.always_raises.job())
        error = await failure(client, job.job_id)

    assert (error.type, str(error), error.reason) == ("ValueError", "as always", "error")
    assert "raise ValueError" in error.traceback
    stored = await job.get()
    assert (stored.status, stored.retries, stored.attempt) == (Status.FAILED, 3, 4)
    assert len(traced(trace_file)) == 4


async def test_no_retries_means_once(client: Client, working: Running, trace_file: Path) -> None:
    """`max_retries=0` executes once."""
    async with working():
        job = await client.submit(tasks.always_raises.job(), max_retries=0)
        await failure(client, job.job_id)

    assert [job.job_id] == traced(trace_file)
    assert (await job.get()).retries == 0


@pytest.mark.parametrize(("name", "executions"), [("OSError", 4), ("KeyError", 1)])
async def test_retries_only_on_chosen_exceptions(
    client: Client, working: Running, trace_file: Path, name: str, executions: int
) -> None:
    """An exception that `Retry.on` does not name fails the job at once."""
    async with working():
        job = await client.submit(tasks.raises_by_name.job(name=name))
        assert name == (await failure(client, job.job_id)).type

    assert executions == len(traced(trace_file))


async def test_retry_later_says_when(client: Client, working: Running) -> None:
    """`raise RetryLater(delay=1)` runs the job again after a second and spends a retry."""
    async with working():
        started = time.monotonic()
        job = await client.submit(tasks.asks_later.job(delay=1.0))
        assert await job.result(5) == 2

    assert 1.0 <= time.monotonic() - started < 1.8
    assert (await job.get()).retries == 1


async def test_discard_fails_at_once(client: Client, working: Running, trace_file: Path) -> None:
    """`raise Discard(…)` leaves the retries unused."""
    async with working():
        job = await client.submit(tasks.discards.job())
        assert (await failure(client, job.job_id)).reason == "discarded"

    assert len(traced(trace_file)) == 1


async def test_backoff_grows_with_jitter(client: Client, working: Running, store: Store, redis: Redis) -> None:
    """The first retry waits half to one back-off: the job lies in the schedule meanwhile."""
    async with working():
        job = await client.submit(tasks.always_raises.job(), backoff=60.0)
        for _ in range(100):
            if await redis.zcard("job_schedule"):
                break
            await asyncio.sleep(0.02)
        stored = await job.get()

    now = (await store.uptime())[1]
    assert Status.PENDING is stored.status
    assert stored.run_at is not None
    assert 28_000 < stored.run_at - now <= 60_000


async def test_priority_goes_first(client: Client, working: Running, trace_file: Path) -> None:
    """In a backlog of 1,000 a job of priority 9 runs before those of priority 0."""
    await client.submit_many(tasks.note.job() for _ in range(1000))
    urgent = await client.submit(tasks.note.job(), priority=9)
    async with working(concurrency=1):
        await urgent.result(10)

    assert urgent.job_id == traced(trace_file)[0]


async def test_delay(client: Client, working: Running, trace_file: Path) -> None:
    """`delay=2` starts between 2.0 and 2.6 seconds after the submit, and `run_at` likewise."""
    async with working():
        before = time.time()
        delayed = await client.submit(tasks.note.job(), delay=2)
        planned = await client.submit(tasks.note.job(), run_at=datetime.now(UTC) + timedelta(seconds=2))
        await asyncio.gather(delayed.result(5), planned.result(5))

    starts = [float(line.split()[3]) - before for line in trace_file.read_text().splitlines()]
    assert all(2.0 <= start <= 2.6 for start in starts), starts
    assert len(starts) == 2


async def test_expired_jobs_never_run(client: Client, working: Running, trace_file: Path) -> None:
    """A job whose `expires_in` has passed before a worker came is failed with reason `expired`."""
    job = await client.submit(tasks.note.job(), expires_in=0.2)
    alive = await client.submit(tasks.note.job(), expires_in=60)
    await asyncio.sleep(0.3)
    async with working():
        assert (await failure(client, job.job_id)).reason == "expired"
        await alive.result(5)

    assert [alive.job_id] == traced(trace_file)


@pytest.mark.parametrize("task", [tasks.sleeps, tasks.sleeps_in_thread])
async def test_timeout(client: Client, working: Running, task: tasks.Registry) -> None:
    """Timeout 1 on a sleeping task fails it after 1.0 to 1.6 seconds, whether it sleeps on the loop or in a thread."""
    async with working():
        before = time.monotonic()
        job = await client.submit(task.job(seconds=3.0), timeout=1, max_retries=0)  # type: ignore[attr-defined]
        error = await failure(client, job.job_id)
        took = time.monotonic() - before

    assert (error.reason, str(error)) == ("timeout", "not done within 1 s")
    assert 1.0 <= took <= 1.6


async def test_cancel_of_a_pending_job(client: Client, working: Running, trace_file: Path) -> None:
    """A pending job that is cancelled never runs."""
    job = await client.submit(tasks.note.job())
    assert Status.CANCELLED is await job.cancel("changed my mind")
    async with working():
        after = await client.submit(tasks.note.job())
        await after.result(5)
        with pytest.raises(JobCancelled, match="changed my mind"):
            await job.result(1)

    assert [after.job_id] == traced(trace_file)


async def test_cancel_of_a_running_job(client: Client, working: Running, trace_file: Path) -> None:
    """A running `async def` job ends within two seconds of its cancel, even at the default lease of 15 s."""
    async with working(lease=15.0):
        job = await client.submit(tasks.sleeps.job())
        while not traced(trace_file, "began"):
            await asyncio.sleep(0.01)
        before = time.monotonic()
        assert Status.PROCESSING is await job.cancel("enough")
        with pytest.raises(JobCancelled, match="enough"):
            await job.result(5)

    assert time.monotonic() - before < 2
    assert traced(trace_file, "ended") == []


async def test_unknown_tasks_are_parked_until_a_worker_knows_them(client: Client, working: Running) -> None:
    """A job of a task that no worker knows waits, and runs within two seconds of the start of one that does."""
    async with working(registry=Registry()):
        job = await client.submit(tasks.note.job(text="patience"))
        with pytest.raises(ResultTimeout):
            await job.result(0.5)
        assert ((await job.get()).status, (await job.get()).retries) == (Status.PENDING, 0)
    before = time.monotonic()
    async with working():
        assert await job.result(5) == "patience"

    assert time.monotonic() - before < 2


async def test_results_and_jobs_vanish(client: Client, working: Running, redis: Redis) -> None:
    """Results vanish after their TTL, finished jobs after their retention, and nothing is left of them."""
    async with working(result_ttl=1, retention=2):
        job = await client.submit(tasks.note.job(text="x"))
        assert await job.result(5) == "x"
        await asyncio.sleep(1.2)
        assert ((await client.details(job.job_id)).result, await job.status()) == (None, Status.COMPLETED)
        for _ in range(100):
            if not await redis.exists(f"job:{job.job_id}"):
                break
            await asyncio.sleep(0.1)

    assert [key async for key in redis.scan_iter("job:*")] == []
    assert await redis.zcard("job_index:completed") == 0


async def test_a_result_that_is_no_json_fails_the_job(client: Client, working: Running, trace_file: Path) -> None:
    """NaN is not JSON: the job fails at once with a reason, and is not retried."""
    async with working():
        job = await client.submit(tasks.returns_nan.job())
        assert ((e := await failure(client, job.job_id)).type, e.reason) == ("ResultInvalid", "invalid")

    assert len(traced(trace_file)) == 1


async def test_system_exit_fails_the_job_only(client: Client, working: Running) -> None:
    """A task that calls `sys.exit` fails like any other and the worker lives on."""
    async with working():
        job = await client.submit(tasks.exits.job(), max_retries=0)
        assert (await failure(client, job.job_id)).type == "SystemExit"
        assert await (await client.submit(tasks.note.job(text="on"))).result(5) == "on"


async def test_the_context_and_the_task_called_directly(client: Client, working: Running) -> None:
    """`current()` tells the job inside of one and raises outside; a task called directly is the plain function."""
    registry = Registry()

    @registry.task
    def who() -> tuple[str, int]:
        return current().job_id, current().attempt

    async with working(registry=registry):
        client.registry = registry
        job = await client.submit(who.job())
        assert (job.job_id, 1) == await job.result(5)

    with pytest.raises(LookupError):
        who()


async def test_a_task_that_blocks_the_loop_keeps_its_lease(client: Client, working: Running, trace_file: Path) -> None:
    """The heartbeat has its own thread: a job that blocks the loop for more than two leases is not run twice."""
    async with working(lease=1.0):
        job = await client.submit(tasks.blocks_the_loop.job(seconds=2.5))
        assert await job.result(10) == "blocked"

    assert [job.job_id] == traced(trace_file, "began")
    assert (await job.get()).attempt == 1


async def test_before_each_attempt(client: Client, working: Running, trace_file: Path) -> None:
    """What `before` raises fails the attempt; the task is not called."""

    def refuse() -> None:
        raise RuntimeError("simulated")

    async with working(before=refuse):
        job = await client.submit(tasks.note.job())
        assert str(await failure(client, job.job_id)) == "simulated"

    assert traced(trace_file) == []
    assert (await job.get()).retries == 3


async def test_retry_by_hand(client: Client, working: Running, trace_file: Path) -> None:
    """A failed job put back by hand has its whole retry budget again, and its attempts go on counting."""
    async with working():
        job = await client.submit(tasks.always_raises.job())
        await failure(client, job.job_id)
        await job.retry()
        await failure(client, job.job_id)

    stored = await job.get()
    assert (stored.attempt, stored.retries) == (8, 3)
    assert len(traced(trace_file)) == 8


async def test_lost_replies_of_the_pump(
    valkey: Valkey, client: Client, working: Running, redis: Redis, trace_file: Path
) -> None:
    """The reply to a pump call is cut off 100 times: nothing is lost and nothing runs twice."""
    with Proxy(str(valkey.socket), "pump") as proxy:
        async with working(redis_url=proxy.url, concurrency=4):
            proxy.cuts = 100
            jobs = []
            while proxy.lost < 100:
                jobs.append(await client.submit(tasks.note.job(text=str(len(jobs)))))
                await asyncio.sleep(0.005)
            results = [await job.result(30) for job in jobs]

    assert [str(n) for n in range(len(jobs))] == results
    assert Counter({job.job_id: 1 for job in jobs}) == Counter(traced(trace_file))
    assert (await redis.zcard("job_leases"), await redis.hlen("job_running")) == (0, 0)
