"""Workers as real processes that are really killed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from jobq import Client, Status
from tests.support import tasks
from tests.support.processes import Process, eventually, stop_all, worker
from tests.support.servers import Valkey
from tests.support.tasks import traced


@pytest.fixture
def env(valkey: Valkey, trace_file: Path) -> dict[str, str]:
    return {"JOBQ_REDIS_URL": valkey.url, "TRACE": str(trace_file), "JOBQ_LEASE": "2", "JOBQ_RETRY_BACKOFF": "0"}


@pytest.fixture
def workers(env: dict[str, str]) -> Iterator[list[Process]]:
    """Add worker processes to this; they end with the test."""
    started: list[Process] = []
    yield started
    stop_all(started)


async def test_a_killed_workers_job_runs_again(
    client: Client, env: dict[str, str], workers: list[Process], trace_file: Path
) -> None:
    """`kill -9` of a worker in mid-job: another runs it within lease + 1 s; the loss is counted, no retry spent."""
    workers.append(worker(env))
    job = await client.submit(tasks.sleeps.job(seconds=2.0))
    eventually(lambda: traced(trace_file, "began"))
    workers.append(worker(env))
    workers[0].signal(signal.SIGKILL)
    killed = time.time()
    eventually(lambda: len(traced(trace_file, "began")) == 2, 6)
    again = float(trace_file.read_text().splitlines()[-1].split()[3])

    assert again - killed <= 2 + 1
    assert await job.result(10) == "slept"
    stored = await job.get()
    assert (stored.attempt, stored.lost, stored.retries) == (2, 1, 0)


async def test_sigterm_lets_a_short_job_finish(
    client: Client, env: dict[str, str], workers: list[Process], trace_file: Path
) -> None:
    """SIGTERM in mid-job within the drain limit: the job finishes, the worker exits with 0, nothing is spent."""
    workers.append(worker(env, "--drain-timeout", "5"))
    job = await client.submit(tasks.sleeps.job(seconds=1.0))
    eventually(lambda: traced(trace_file, "began"))
    workers[0].signal(signal.SIGTERM)

    assert workers[0].wait(7) == 0
    assert await job.result(1) == "slept"
    stored = await job.get()
    assert (stored.attempt, stored.lost, stored.retries) == (1, 0, 0)


@pytest.mark.parametrize("task", ["sleeps", "sleeps_in_thread"])
async def test_sigterm_gives_a_long_job_back(
    client: Client, env: dict[str, str], workers: list[Process], trace_file: Path, redis: Redis, task: str
) -> None:
    """SIGTERM with a job longer than the drain limit: it goes to the front of its queue, exit 0, no retry spent."""
    workers.append(worker(env, "--drain-timeout", "0.5", "--concurrency", "1"))
    job = await client.submit(task, {"seconds": 30})
    eventually(lambda: traced(trace_file, "began"))
    behind = await client.submit(tasks.note.job())
    workers[0].signal(signal.SIGTERM)

    assert workers[0].wait(0.5 + 2) == 0
    stored = await job.get()
    assert (stored.status, stored.lost, stored.retries) == (Status.PENDING, 0, 0)
    assert [job.job_id, behind.job_id] == await redis.lrange("job_queue", 0, -1)
    assert (await redis.zcard("job_leases"), await redis.hlen("job_running")) == (0, 0)


async def test_a_second_signal_gives_back_at_once(
    client: Client, env: dict[str, str], workers: list[Process], trace_file: Path
) -> None:
    """A second SIGINT does not wait for the drain limit."""
    workers.append(worker(env, "--drain-timeout", "60"))
    job = await client.submit(tasks.sleeps.job(seconds=60))
    eventually(lambda: traced(trace_file, "began"))
    workers[0].signal(signal.SIGINT)
    workers[0].wait_for("worker stops")
    workers[0].signal(signal.SIGINT)

    assert workers[0].wait(4) == 0
    assert Status.PENDING is await job.status()


async def test_burst_ends_when_nothing_is_ready(
    client: Client, env: dict[str, str], workers: list[Process], trace_file: Path
) -> None:
    """`--burst` runs what is ready and exits with 0; what is due later stays."""
    ready = await client.submit_many(tasks.note.job() for _ in range(50))
    later = await client.submit(tasks.note.job(), delay=60)
    workers.append(worker(env, "--burst"))

    assert workers[0].wait(10) == 0
    assert {job.job_id for job in ready} == set(traced(trace_file))
    assert Status.PENDING is await later.status()


async def test_a_frozen_worker_cannot_settle(
    client: Client, env: dict[str, str], workers: list[Process], trace_file: Path
) -> None:
    """A worker that was stopped for longer than its lease finds its job taken; its outcome changes nothing."""
    workers.append(worker(env))
    job = await client.submit(tasks.sleeps.job(seconds=6.0))
    eventually(lambda: traced(trace_file, "began"))
    workers.append(worker(env))
    workers[0].signal(signal.SIGSTOP)
    eventually(lambda: len(traced(trace_file, "began")) == 2, 6)
    workers[0].signal(signal.SIGCONT)

    assert await job.result(15) == "slept"
    stored = await job.get()
    assert (stored.attempt, stored.lost, stored.status) == (2, 1, Status.COMPLETED)
    workers[0].wait_for("lease lost", 5)


async def test_queues_in_strict_order(
    client: Client, env: dict[str, str], workers: list[Process], trace_file: Path
) -> None:
    """`--queues mail,default` empties mail first, and a queue that is not named is left alone."""
    other = await client.submit(tasks.note.job(), queue="other")
    usual = [await client.submit(tasks.note.job()) for _ in range(3)]
    mail = [await client.submit(tasks.in_mail_queue.job()) for _ in range(3)]
    workers.append(worker(env, "--burst", "--concurrency", "1", "--queues", "mail,default"))

    assert workers[0].wait(10) == 0
    assert [job.job_id for job in mail + usual] == traced(trace_file)
    assert Status.PENDING is await other.status()


async def test_a_server_that_is_killed_and_comes_back(
    own_valkey: Valkey, env: dict[str, str], workers: list[Process], trace_file: Path
) -> None:
    """`kill -9` of the server and its return: workers go on by themselves and every accepted job is completed."""
    env |= {"JOBQ_REDIS_URL": own_valkey.url}
    workers.append(worker(env))
    async with Client(own_valkey.url, registry=tasks.registry) as client:
        jobs = await client.submit_many(tasks.note.job() for _ in range(200))
        own_valkey.kill()
        own_valkey.start()
        jobs += await client.submit_many(tasks.note.job() for _ in range(200))
        for job in jobs:
            await job.result(20)

    assert {job.job_id for job in jobs} == set(traced(trace_file))


async def test_a_worker_ends_without_its_server(
    own_valkey: Valkey, env: dict[str, str], workers: list[Process], trace_file: Path
) -> None:
    """SIGTERM while the server is away: the worker does not wait for it; its job runs again when the server is back."""
    env |= {"JOBQ_REDIS_URL": own_valkey.url}
    workers.append(worker(env, "--drain-timeout", "0.5"))
    async with Client(own_valkey.url, registry=tasks.registry) as client:
        job = await client.submit(tasks.sleeps.job(seconds=5))
        eventually(lambda: traced(trace_file, "began"))
        own_valkey.kill()
        workers[0].signal(signal.SIGTERM)
        assert 1 == workers[0].wait(0.5 + 4)
        own_valkey.start()
        workers.append(worker(env))
        eventually(lambda: len(traced(trace_file, "began")) == 2, 8)
        await job.cancel()
