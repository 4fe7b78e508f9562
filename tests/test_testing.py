"""`run_all` and the pytest plugin, as those use them who build on jobq."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis

from jobq import Client, Discard, Registry, Retry, RetryLater, Settings, Status, SyncClient, UnknownTask, current
from jobq.errors import CorruptRecord
from jobq.testing import TooManyAttempts, run_all, run_all_sync
from tests.support.processes import ROOT
from tests.support.tasks import asks_later, in_mail_queue, in_process, note, registry, returns_nan

FOREIGN = "11111111-1111-4111-8111-111111111111"


async def test_all_that_is_due_runs_in_order(client: Client) -> None:
    """Jobs run in the order of their queue, by priority first, and are answered as they are stored."""
    low = await client.submit(note.job(text="low"))
    high = await client.submit(note.job(text="high"), priority=5)
    mail = await client.submit(in_mail_queue.job())
    other = await client.submit(note.job(text="other"), queue="nobody-serves-it")

    over = await run_all(client, registry)

    assert [high.job_id, low.job_id, mail.job_id, other.job_id] == [job.job_id for job in over]
    assert [await job.get() for job in (high, low, mail, other)] == over
    assert "low" == await low.result()
    assert [] == await run_all(client, registry)


async def test_retries_are_not_waited_for(client: Client) -> None:
    """A failing job is run again at once whatever its back-off, until its retries are spent."""
    tasks = Registry()
    seen = []

    @tasks.task(retry=Retry(2, backoff=600))
    def fails() -> None:
        seen.append((current().attempt, current().retries))
        raise ValueError("as always")

    @tasks.task(retry=Retry(5, backoff=600))
    async def at_the_third() -> int:
        if current().attempt < 3:
            raise RetryLater(delay=3600)
        return current().attempt

    failing, lucky = await client.submit(fails.job()), await client.submit(at_the_third.job())
    by_id = {job.job_id: job for job in await run_all(client, tasks)}

    assert [(1, 0), (2, 1), (3, 2)] == seen
    assert (Status.FAILED, 2, "as always") == (
        (job := by_id[failing.job_id]).status, job.retries, (job.error or {})["message"],
    )  # fmt: skip
    assert 3 == await lucky.result()


async def test_what_is_not_due_stays(client: Client) -> None:
    """A job with a delay or a time ahead is left alone, and runs once it is due."""
    soon = await client.submit(note.job(), delay=0.2)
    late = await client.submit(note.job(), run_at=datetime.now(UTC) + timedelta(hours=1))
    assert [] == await run_all(client, registry)
    await asyncio.sleep(0.25)
    assert [soon.job_id] == [job.job_id for job in await run_all(client, registry)]
    assert Status.PENDING == await late.status()


async def test_jobs_of_jobs_run_too(client: Client) -> None:
    """What a task submits is run in the same call."""
    tasks = Registry()

    @tasks.task
    async def spread(depth: int) -> None:
        if depth:
            await client.submit_many([spread.job(depth - 1), spread.job(depth - 1)])

    await client.submit(spread.job(3))
    assert 15 == len(await run_all(client, tasks))


async def test_the_limit_is_one_of_attempts(client: Client) -> None:
    """A job that submits itself ends at the limit; exactly the limit is allowed, and what is left stays ready."""
    tasks = Registry()

    @tasks.task
    async def again() -> None:
        await client.submit(again.job())

    await client.submit(again.job())
    with pytest.raises(TooManyAttempts, match="again and again"):
        await run_all(client, tasks, limit=20)

    assert 1 == await client.purge("default")
    await client.submit_many([note.job()] * 3)
    assert 3 == len(await run_all(client, registry, limit=3))


async def test_refused_and_discarded_jobs_fail(client: Client) -> None:
    """A discarded job and one with an invalid result fail without a retry."""
    tasks = Registry()

    @tasks.task
    def no_use() -> None:
        raise Discard("no use")

    tasks.include(registry)
    await client.submit_many([no_use.job(), returns_nan.job()])
    assert ["discarded", "invalid"] == [(job.error or {})["reason"] for job in await run_all(client, tasks)]


async def test_a_task_that_is_not_there(client: Client) -> None:
    """A job of a task outside the registry raises UnknownTask; given its registry, it runs."""
    job = await client.submit(note.job(text="x"))
    with pytest.raises(UnknownTask):
        await run_all(client, Registry())
    assert Status.PENDING == await job.status()
    assert [job.job_id] == [each.job_id for each in await run_all(client, registry)]


async def test_foreign_jobs_run(client: Client, redis: Redis) -> None:
    """A job that another program wrote is run; one that is over by its own words is not; rubbish raises."""
    await redis.set(f"job:{FOREIGN}", '{"task": "note", "payload": {"text": "theirs"}, "mine": 1}')
    await redis.rpush("job_queue", FOREIGN)
    assert [FOREIGN] == [job.job_id for job in await run_all(client, registry)]
    assert b'"theirs"' == await client.wait(FOREIGN)

    await redis.set(f"job:{FOREIGN[:-1]}2", '{"task": "note", "status": "completed"}')
    await redis.rpush("job_queue", f"{FOREIGN[:-1]}2")
    assert [] == await run_all(client, registry)

    await redis.set(f"job:{FOREIGN[:-1]}3", "rubbish")
    await redis.rpush("job_queue", f"{FOREIGN[:-1]}3")
    with pytest.raises(CorruptRecord):
        await run_all(client, registry)
    assert [] == await run_all(client, registry)


async def test_what_a_task_tells_is_kept(client: Client) -> None:
    """Progress and log lines of an attempt are stored, as by a worker."""
    tasks = Registry()

    @tasks.task
    async def tells() -> None:
        current().progress(0.5, "half")
        logging.getLogger("mine").warning("look")

    job = await client.submit(tells.job())
    await run_all(client, tasks)
    assert ["progress", "log"] == [entry["kind"] for entry in await client.inspect.emitted(job.job_id)]


async def test_a_task_in_a_child_process(client: Client) -> None:
    """A task with `process=True` runs in a child, and no child is left afterwards."""
    before = psutil.Process().children()
    job = await client.submit(in_process.job(text="x"))
    await run_all(client, registry)
    assert "x" == await job.result()
    assert before == psutil.Process().children()


async def test_when_it_is_cancelled_the_job_goes_back(client: Client) -> None:
    """A `run_all` that is cut short gives its job back unspent."""
    tasks = Registry()

    @tasks.task
    async def hangs() -> None:
        await asyncio.sleep(30)

    job = await client.submit(hangs.job())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run_all(client, tasks), 0.3)
    assert (Status.PENDING, 0) == ((stored := await job.get()).status, stored.retries)


def test_the_synchronous_form(settings: Settings) -> None:
    """`run_all_sync` runs async and plain tasks for a SyncClient."""
    with SyncClient(settings=settings, registry=registry) as client:
        client.submit(asks_later.job(delay=600))
        client.submit(note.job(text="x"))
        assert ["note", "asks_later"] == [job.task for job in run_all_sync(client, registry)]
        client.submit_many([note.job(), note.job()])
        with pytest.raises(TooManyAttempts):
            run_all_sync(client, registry, limit=1)


PROJECT_TESTS = """
import os
import pytest
from jobq import Registry, Status, SyncClient
from jobq.testing import run_all, run_all_sync

tasks = Registry()

@tasks.task
async def greet(name: str) -> str:
    return f"Hello, {name}"

@pytest.fixture
def jobq_registry():
    return tasks

@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["Ada", "Grace"])
async def test_async(jobq_client, jobq_registry, name):
    job = await jobq_client.submit("greet", {"name": name})
    assert [job.job_id] == [each.job_id for each in await run_all(jobq_client, jobq_registry)]
    assert f"Hello, {name}" == await job.result()

@pytest.mark.parametrize("name", ["Ada", "Grace"])
def test_sync(jobq_sync_client, name):
    job = jobq_sync_client.submit(greet.job(name))
    assert [Status.COMPLETED] == [each.status for each in run_all_sync(jobq_sync_client, tasks)]
    assert f"Hello, {name}" == job.result()

def test_own_client(jobq_settings):
    with SyncClient(settings=jobq_settings, registry=tasks) as client:
        assert [] == run_all_sync(client, tasks)
        client.submit(greet.job("Ada"))

def test_server(jobq_server):
    print("SOCKET", jobq_server, os.getpid())
"""

DEFAULTS = """
def test_empty(jobq_registry, jobq_sync_client):
    assert len(jobq_registry) == 0
    assert jobq_sync_client.registry is jobq_registry
"""

LIGHT = """
import sys, pytest, jobq.testing_plugin
print(sorted(name for name in sys.modules if name in ("redis", "pydantic", "jobq.client", "fastapi", "jobq.testing")))
"""


def pytest_of(folder: Path, *options: str, **files: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a project of its own, with our plugin as if it were installed."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    plugin = ("-p", "no:jobq", "-p", "jobq.testing_plugin")  # not twice, where jobq is installed
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, "-p", "no:cacheprovider", *options],
        capture_output=True, text=True, timeout=50, cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JOBQ_REDIS_URL": "redis://127.0.0.1:1"},
    )  # fmt: skip


def test_the_plugin_in_a_project(tmp_path: Path) -> None:
    """Its fixtures give a real, empty queue to each test, in a project that has configured nothing."""
    strict = ("-W", "error", "-o", "asyncio_default_fixture_loop_scope=function")
    done = pytest_of(tmp_path, "-s", *strict, test_it=PROJECT_TESTS, test_defaults=DEFAULTS)
    assert "7 passed" in done.stdout, done.stdout + done.stderr
    assert 0 == done.returncode

    [line] = [line for line in done.stdout.splitlines() if "SOCKET" in line]
    socket = Path(line.split("unix://")[1].split()[0])
    assert not socket.parent.exists()


def test_the_plugin_costs_nothing() -> None:
    """Loading it imports neither redis nor pydantic nor the client."""
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, cwd=ROOT)
    assert "[]\n" == done.stdout, done.stderr


def test_the_plugin_beside_others(tmp_path: Path) -> None:
    """Without pytest-asyncio it loads all the same, and its synchronous fixtures work."""
    hide = "import sys\nsys.modules['pytest_asyncio'] = None\n"
    code = "def test_it(jobq_sync_client):\n    jobq_sync_client.writable()\n"
    done = pytest_of(tmp_path, "-p", "hide", "-p", "no:asyncio", hide=hide, test_it=code)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
