"""SyncClient: the verbs of Client from threads, forked processes and code without an event loop, on a real server."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobq import (
    Client,
    ConfigError,
    Conflict,
    JobCancelled,
    JobFailed,
    JobNotFound,
    ResultTimeout,
    Settings,
    Status,
    StoreUnavailable,
    SyncClient,
    SyncJobHandle,
    UnknownTask,
)
from jobq.client import JobHandle
from jobq.errors import IdempotencyMismatch
from jobq.store.blocking import drive
from jobq.testing import run_all_sync
from jobq.worker import Worker
from tests.support.processes import eventually
from tests.support.servers import Valkey
from tests.support.tasks import always_raises, note, registry, sleeps

MISSING = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def sync_client(settings: Settings) -> Iterator[SyncClient]:
    with SyncClient(settings=settings, registry=registry) as client:
        yield client


@pytest.fixture
def served(settings: Settings) -> Iterator[None]:
    """A worker in a thread with a loop of its own."""
    worker = Worker(settings, registry)
    thread = threading.Thread(target=lambda: asyncio.run(worker.run()))
    thread.start()
    yield
    worker.stop()
    worker.stop()
    thread.join()


def test_every_verb_of_the_client_is_there() -> None:
    """Each coroutine of Client and of its handle has a namesake with the same parameters and no `async`."""
    inside = {"settled"}
    for theirs, ours in ((Client, SyncClient), (JobHandle, SyncJobHandle)):
        verbs = {name: verb for name, verb in vars(theirs).items() if inspect.iscoroutinefunction(verb)}
        for name in [name for name in verbs if not name.startswith("_") and name not in inside]:
            assert not inspect.iscoroutinefunction(getattr(ours, name))
            mine = inspect.signature(getattr(ours, name)).parameters
            assert list(inspect.signature(verbs[name]).parameters) == list(mine), name


def test_a_job_from_submit_to_result(sync_client: SyncClient, served: None) -> None:
    """A job is submitted, waited for and read without an event loop in this thread."""
    job = sync_client.submit(note.job(text="hello"))
    assert "hello" == job.result(timeout=10)
    assert Status.COMPLETED == job.status() == job.get().status
    assert (b'{"text":"hello"}', b'"hello"') == (lambda it: (it.payload, it.result))(sync_client.details(job.job_id))
    assert b'"hello"' == sync_client.wait(job.job_id)
    assert f"<job {job.job_id} note>" == repr(job)


def test_many_and_by_name(sync_client: SyncClient, served: None) -> None:
    """Jobs by name and in bulk keep their order."""
    jobs = sync_client.submit_many(note.job(text=str(n)) for n in range(300))
    assert [str(n) for n in range(300)] == [job.result(10) for job in jobs]
    assert "x" == sync_client.submit("note", {"text": "x"}, priority=9).result(10)


def test_an_error_of_the_task_is_raised(sync_client: SyncClient, served: None) -> None:
    """`result` raises the remote error with its type."""
    with pytest.raises(JobFailed, match="as always") as caught:
        sync_client.submit(always_raises.job(), max_retries=0).result(10)
    assert "ValueError" == caught.value.type


def test_refusals_are_those_of_the_client(sync_client: SyncClient) -> None:
    """What Client refuses is refused with the same errors."""
    with pytest.raises(UnknownTask):
        sync_client.submit("nothing")
    with pytest.raises(JobNotFound):
        sync_client.get(MISSING)
    sync_client.submit("note", idempotency_key="k")
    assert sync_client.submit("note", idempotency_key="k").replayed
    with pytest.raises(IdempotencyMismatch):
        sync_client.submit("note", {"text": "other"}, idempotency_key="k")


def test_cancel_retry_delete_pause_purge(sync_client: SyncClient) -> None:
    """The verbs that change a job or a queue do so."""
    job = sync_client.submit(note.job())
    assert Status.CANCELLED == job.cancel("not needed")
    with pytest.raises(JobCancelled, match="not needed"):
        job.result()
    job.retry()
    assert Status.PENDING == job.status()
    with pytest.raises(Conflict):
        sync_client.retry(job.job_id)
    assert Status.CANCELLED == sync_client.cancel(job.job_id)
    sync_client.delete(job.job_id)
    with pytest.raises(JobNotFound):
        job.get()

    sync_client.pause("default")
    paused = sync_client.submit(note.job())
    assert [] == run_all_sync(sync_client, registry)
    sync_client.resume("default")
    assert [paused.job_id] == [each.job_id for each in run_all_sync(sync_client, registry)]
    sync_client.submit_many([note.job(), note.job()])
    assert 2 == sync_client.purge("default")
    sync_client.writable()


def test_a_wait_ends_at_its_timeout(sync_client: SyncClient) -> None:
    """Waiting longer than the timeout raises ResultTimeout, neither early nor more than a moment late."""
    job = sync_client.submit(note.job())
    for timeout in (0.0, 0.3, 1.2):
        began = time.monotonic()
        with pytest.raises(ResultTimeout):
            job.result(timeout)
        assert timeout <= time.monotonic() - began < timeout + 0.3


def test_a_wait_is_woken_and_does_not_spin(sync_client: SyncClient, settings: Settings) -> None:
    """A waiter is answered within 200 ms of the end, and asks the server only a few times a second until then."""
    job = sync_client.submit(note.job(text="x"))
    with ThreadPoolExecutor() as threads:
        ended = threads.submit(lambda: (job.result(20), time.time() * 1000))
        time.sleep(0.5)
        before = processed(settings)
        time.sleep(2)
        assert processed(settings) - before < 15
        [over] = run_all_sync(sync_client, registry)
        value, at = ended.result()
    assert "x" == value
    assert at - (over.finished_at or 0) < 200


def processed(settings: Settings) -> int:
    import redis

    with redis.Redis.from_url(str(settings.redis_url)) as client:
        return int(client.info("stats")["total_commands_processed"])  # type: ignore[index]


def test_many_threads_share_one_client(sync_client: SyncClient, served: None) -> None:
    """Fifty threads submit and wait at once over one client: each gets its own result."""
    with ThreadPoolExecutor(50) as threads:
        results = threads.map(lambda n: sync_client.submit(note.job(text=str(n))).result(20), range(500))
        assert [str(n) for n in range(500)] == list(results)


def test_more_waiters_than_connections(sync_client: SyncClient, served: None) -> None:
    """150 threads that wait at once are all answered, though there are 100 connections to wait on."""
    job = sync_client.submit(sleeps.job(seconds=1.0))
    with ThreadPoolExecutor(150) as threads:
        assert ["slept"] * 150 == list(threads.map(lambda _: job.result(20), range(150)))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_has_its_own_connections(sync_client: SyncClient, served: None) -> None:
    """After a fork amid calls of other threads, parent and children go on with the same client at once."""
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            sync_client.submit(note.job())

    with ThreadPoolExecutor(4) as threads:
        for _ in range(4):
            threads.submit(busy)
        children = [in_child(lambda: worked(sync_client) and sync_client.close() is None) for _ in range(8)]
        assert worked(sync_client)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        stop.set()
    assert [0] * 8 == codes
    assert worked(sync_client)


def worked(client: SyncClient) -> bool:
    jobs = client.submit_many(note.job(text=f"{os.getpid()} {n}") for n in range(50))
    return [f"{os.getpid()} {n}" for n in range(50)] == [job.result(10) for job in jobs]


def in_child(work: Any) -> int:
    """A forked process that exits 0 when `work` is true; its pid."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        threading.Timer(20, os._exit, (2,)).start()
        code = 0 if work() else 1
    finally:
        os._exit(code)


async def test_it_works_where_an_event_loop_runs(settings: Settings) -> None:
    """In a thread whose event loop runs it works as elsewhere (and blocks it); no loop of its own is started."""
    with SyncClient(settings=settings, registry=registry) as client:
        assert Status.PENDING == client.submit(note.job()).status()


def test_no_event_loop_is_made(sync_client: SyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call makes neither an event loop nor a thread."""

    def refuse(*_: object) -> None:
        raise AssertionError("a call started something")

    monkeypatch.setattr(asyncio, "new_event_loop", refuse)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    job = sync_client.submit(note.job())
    with pytest.raises(ResultTimeout):
        job.result(0.1)


def test_a_running_job_shows_its_cancel(sync_client: SyncClient, served: None) -> None:
    """A running job is read with all that is known of it, and ends when it is cancelled."""
    job = sync_client.submit(sleeps.job(seconds=30))
    eventually(lambda: job.status() is Status.PROCESSING)
    assert Status.PROCESSING == sync_client.details(job.job_id).job.status
    assert Status.PROCESSING == job.cancel("enough")
    with pytest.raises(JobCancelled, match="enough"):
        job.result(10)


def test_a_server_that_is_away(own_valkey: Valkey) -> None:
    """While the server is away calls raise StoreUnavailable; afterwards the same client goes on."""
    with SyncClient(own_valkey.url) as client:
        job = client.submit("anything")
        own_valkey.kill()
        with pytest.raises(StoreUnavailable):
            client.submit("anything")
        with pytest.raises(StoreUnavailable):
            job.result(5)
        own_valkey.start()
        assert Status.PENDING == job.status()


def test_a_waiter_outlives_a_restart(own_valkey: Valkey, settings: Settings) -> None:
    """A wait that begins before a quick restart of the server is answered after it."""
    with SyncClient(own_valkey.url, registry=registry) as client, ThreadPoolExecutor() as threads:
        job = client.submit(note.job(text="x"))
        ended = threads.submit(job.result, 20)
        time.sleep(0.7)
        own_valkey.kill()
        own_valkey.start()
        run_all_sync(client, registry)
        assert "x" == ended.result()


def test_no_server_at_all(tmp_path: Path) -> None:
    """`open` raises ConfigError with one line when nothing answers."""
    with pytest.raises(ConfigError, match="cannot use the Redis at unix:"):
        SyncClient(f"unix://{tmp_path / 's'}").open()


def test_open_and_close(settings: Settings) -> None:
    """Opening twice is opening once; a closed client says so, and can be opened again."""
    client = SyncClient(settings=settings)
    with pytest.raises(RuntimeError, match="not open"):
        client.submit("anything")
    client.open()
    client.open()
    client.submit("anything")
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="not open"):
        client.wait(MISSING)
    with client:
        client.writable()


def test_the_embedded_server_is_found_and_revived() -> None:
    """Without a URL the embedded server is used, and started again when it was killed."""
    folder = Path(tempfile.mkdtemp(prefix="jq"))
    try:
        with SyncClient(settings=Settings(data_dir=folder / "d"), registry=registry) as client:
            job = client.submit(note.job(text="kept"))
            time.sleep(1.2)  # `fast` writes through once a second
            psutil.Process(int((folder / "d" / "server.lock").read_text())).kill()
            assert Status.PENDING == job.status()
            run_all_sync(client, registry)
            assert "kept" == job.result(1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_what_would_wait_is_a_bug() -> None:
    """A coroutine that needs an event loop is refused with a clear error."""

    async def waits() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waited for an event loop"):
        drive(waits())


TYPED = """
from typing import assert_type
from jobq import Registry, SyncClient, SyncJobHandle
registry = Registry()

@registry.task
async def double(count: int) -> list[int]:
    return [count]

client = SyncClient()
assert_type(client.submit(double.job(1), delay=3).result(5), list[int])
assert_type(client.submit_many([double.job(1)]), list[SyncJobHandle[list[int]]])
client.submit("double", {"count": 1}, priority=3)
client.submit(double.job(1), later=3)  # refused
"""


@pytest.mark.system
@pytest.mark.timeout(90)
def test_types(tmp_path: Path) -> None:
    """Results have the type of the task's annotation; an option that does not exist is an error."""
    (tmp_path / "typed.py").write_text(TYPED)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            "--no-pretty",
            str(tmp_path / "typed.py"),
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    errors = {line.split(":")[1] for line in done.stdout.splitlines() if ": error:" in line}
    assert {str(TYPED.count("\n"))} == errors, done.stdout
