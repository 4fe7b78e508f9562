"""A server whose clock is set: real processes, and libfaketime in the server alone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobq import Client, Status
from tests.support import tasks
from tests.support.processes import Process, eventually, stop_all, worker
from tests.support.servers import Valkey
from tests.support.tasks import traced

pytestmark = pytest.mark.system

LEASE = 2.0
HOUR = 3600


class Clock:
    """Of a server: so many seconds ahead of ours."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def set(self, ahead: int) -> None:
        # In one piece: the server may read it at any time.
        new = self._path.with_suffix(".new")
        new.write_text(f"{ahead:+d}\n")
        new.rename(self._path)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    clock = Clock(tmp_path / "clock")
    clock.set(0)
    return clock


@pytest.fixture
def server(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Valkey]:
    """Its wall clock follows `clock`; its monotonic one does not."""
    [library] = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    with monkeypatch.context() as its:
        its.setenv("LD_PRELOAD", str(library))
        its.setenv("FAKETIME_TIMESTAMP_FILE", str(tmp_path / "clock"))
        its.setenv("FAKETIME_NO_CACHE", "1")
        its.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        server = Valkey().start()
    yield server
    server.kill()
    shutil.rmtree(server.dir)


@pytest.fixture
def workers(server: Valkey, trace_file: Path) -> Iterator[list[Process]]:
    """Two, which end with the test."""
    env = {"JOBQ_REDIS_URL": server.url, "TRACE": str(trace_file), "JOBQ_LEASE": str(LEASE), "JOBQ_CONCURRENCY": "1"}
    started = [worker(env), worker(env)]
    yield started
    stop_all(started)


def begun(trace_file: Path) -> int:
    """The process that runs the job that began last."""
    eventually(lambda: traced(trace_file, "began"))
    return int(trace_file.read_text().splitlines()[-1].split()[4])


@pytest.mark.parametrize("ahead", [-HOUR, HOUR])
async def test_a_live_worker_keeps_its_job(
    server: Valkey, clock: Clock, workers: list[Process], trace_file: Path, ahead: int
) -> None:
    """The server's clock jumps by an hour: nothing that runs is lost."""
    async with Client(server.url, registry=tasks.registry) as client:
        job = await client.submit(tasks.sleeps.job(3 * LEASE))
        eventually(lambda: traced(trace_file, "began"))
        clock.set(ahead)
        await job.result(4 * LEASE)

        stored = await job.get()
        assert (Status.COMPLETED, 1, 0) == (stored.status, stored.attempt, stored.lost)


@pytest.mark.parametrize("ahead", [-HOUR, HOUR])
async def test_a_dead_workers_job_comes_back(
    server: Valkey, clock: Clock, workers: list[Process], trace_file: Path, ahead: int
) -> None:
    """A worker dies and the server's clock jumps by an hour: its job runs again within two leases and a second."""
    async with Client(server.url, registry=tasks.registry) as client:
        job = await client.submit(tasks.sleeps.job(60))
        pid = begun(trace_file)
        [dead] = [one for one in workers if one.popen.pid == pid]
        dead.popen.kill()
        clock.set(ahead)
        before = time.monotonic()
        eventually(lambda: len(traced(trace_file, "began")) == 2, 3 * LEASE)

        assert time.monotonic() - before < 2 * LEASE + 1
        assert (2, 1) == ((stored := await job.get()).attempt, stored.lost)
