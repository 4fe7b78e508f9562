"""Tasks in child processes: limits that hold, and a worker that none of it touches."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from jobq import Client, JobCancelled, Registry, Status
from jobq.context import Context
from jobq.job import JobError
from jobq.policy import Lost, Released
from jobq.task import Defaults
from jobq.worker import processes
from jobq.worker.capture import Entries
from jobq.worker.processes import Processes, death
from tests.support import tasks
from tests.support.processes import Process, eventually, stop_all, worker
from tests.support.servers import Valkey
from tests.support.tasks import traced
from tests.worker.conftest import Running
from tests.worker.test_worker import failure


def children(pid: int | None = None) -> list[psutil.Process]:
    """The child processes of jobs that live."""
    return [
        child
        for child in psutil.Process(pid).children()
        if child.status() != psutil.STATUS_ZOMBIE and "jobq.worker.child" in " ".join(child.cmdline())
    ]


def dead(process: psutil.Process) -> bool:
    """Also before whoever inherited it has noticed."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


async def begun(trace_file: Path, count: int = 1) -> None:
    while len(traced(trace_file, "began")) < count:
        await asyncio.sleep(0.01)


async def test_results_and_errors_are_those_of_other_tasks(client: Client, working: Running, trace_file: Path) -> None:
    """A result, a traceback from the task's own frame on, `Retry.on` by class, Discard and RetryLater."""
    async with working():
        assert await (await client.submit(tasks.in_process.job("Grüße"))).result(10) == "Grüße"
        found = await failure(client, (await client.submit(tasks.raises_in_process.job("FileNotFoundError"))).job_id)
        other = await failure(client, (await client.submit(tasks.raises_in_process.job("KeyError"))).job_id)
        discarded = await failure(client, (await client.submit(tasks.raises_in_process.job("Discard"))).job_id)
        assert await (await client.submit(tasks.asks_later_in_process.job(0.1))).result(10) == 2

    assert (found.type, str(found), found.reason) == ("FileNotFoundError", "by name", "error")
    assert found.traceback.splitlines()[1].endswith("in raises_in_process")
    assert (other.type, discarded.reason) == ("KeyError", "discarded")
    assert len(traced(trace_file)) == 1 + 4 + 1 + 1


async def test_a_loop_for_ever_ends_at_its_timeout(client: Client, working: Running, trace_file: Path) -> None:
    """It is killed within a second of its timeout, and with it what it started."""
    async with working():
        before = time.monotonic()
        job = await client.submit(tasks.spins.job(starts_another=True), timeout=1.5, max_retries=0)
        await begun(trace_file)
        family = [one for child in children() for one in child.children()]
        error = await failure(client, job.job_id)
        took = time.monotonic() - before
        assert await (await client.submit(tasks.note.job("alive"))).result(5) == "alive"

    assert (error.type, error.reason, str(error)) == ("Timeout", "timeout", "not done within 1.5 s")
    assert (await job.get()).lost == 0
    assert took < 1.5 + 1
    assert len(family) == 1
    assert not family[0].is_running() or family[0].status() == psutil.STATUS_ZOMBIE
    assert children() == []


@pytest.mark.parametrize("pieces", [False, True])
async def test_memory_has_a_limit(client: Client, working: Running, pieces: bool) -> None:
    """2 GiB at once, or many small objects, under a limit of 256 MiB: the error says so, and the next job runs."""
    async with working():
        job = await client.submit(tasks.takes_memory.job(2048, pieces), max_retries=0)
        error = await failure(client, job.job_id)
        assert await (await client.submit(tasks.takes_memory.job(100))).result(5) == 100

    assert (error.type, str(error)) == ("MemoryLimit", "more than 256 MiB of memory")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (tasks.dies.job(), "its process ended with exit code 3"),
        (tasks.dies.job(signal.SIGSEGV), "its process was ended by SIGSEGV"),
        (
            tasks.is_killed.job(),
            "its process was ended by SIGKILL, as the system does when memory is short (its limit was 64 MiB)",
        ),
    ],
)
async def test_a_death_is_a_loss_that_says_of_what(client: Client, working: Running, spec: Any, message: str) -> None:
    """A death is a loss and spends no retry; after the last one the job has failed, with the cause."""
    async with working(max_lost=2):
        job = await client.submit(spec, max_retries=0)
        error = await failure(client, job.job_id)
        assert await (await client.submit(tasks.in_process.job("next"))).result(5) == "next"

    stored = await job.get()
    assert (error.type, error.reason) == ("ProcessDied", "lost")
    assert re.fullmatch(re.escape(message) + r"; it had at most \d+ MiB of memory", str(error))
    assert (stored.attempt, stored.lost, stored.retries) == (2, 2, 0)


async def test_too_much_processor_time_is_an_error(client: Client, working: Running) -> None:
    """The limit of a task is no accident: going beyond it spends retries."""
    async with working(max_lost=1):
        job = await client.submit(tasks.spins_within_limits.job(), max_retries=0)
        error = await failure(client, job.job_id)

    assert (error.type, str(error), error.reason) == ("CpuLimit", "more than 1 s of processor time", "error")
    assert (await job.get()).lost == 0


own = Registry()


@own.task(process=True)
def logs_and_dies(lines: int, width: int) -> None:
    for line in range(lines):
        logging.getLogger("own").warning("line %d %s", line, "x" * width)
    time.sleep(0.5)
    os._exit(3)


async def test_the_last_words(client: Client, working: Running) -> None:
    """The error of a job whose process died ends with the last five lines of its log, or the last 1,024 characters."""
    client.registry = own
    async with working(registry=own, max_lost=1):
        few = await failure(client, (await client.submit(logs_and_dies.job(7, 1))).job_id)
        long = await failure(client, (await client.submit(logs_and_dies.job(7, 500))).job_id)

    assert str(few).splitlines()[1:] == [f"warning own: line {line} x" for line in range(2, 7)]
    assert str(long).endswith("\nwarning own: line 6 " + "x" * 500)
    assert len(str(long)) < 1024 + 100


async def test_a_cancel_kills(client: Client, working: Running, trace_file: Path) -> None:
    """Within two seconds, even of a loop that never gives way, while another child's job goes on."""
    async with working(lease=15.0):
        other = await client.submit(tasks.sleeps_in_process.job(2.0))
        job = await client.submit(tasks.spins.job())
        await begun(trace_file, 2)
        before = time.monotonic()
        await job.cancel("enough")
        with pytest.raises(JobCancelled, match="enough"):
            await job.result(5)
        assert time.monotonic() - before < 2
        assert await other.result(5) == "slept"
    assert (await job.get()).lost == 0


async def test_two_jobs_run_at_the_same_time(client: Client, working: Running, trace_file: Path) -> None:
    """Each in a child of its own, a session of its own, without what opens the queue in its environment."""
    async with working():
        both = await client.submit_many(tasks.sleeps_in_process.job(1.0) for _ in range(2))
        await asyncio.gather(*(job.result(10) for job in both))
        seen: Any = await (await client.submit(tasks.surroundings.job())).result(5)
        assert {child.pid for child in children()} >= {seen["pid"]}

    words = [line.split()[0] for line in trace_file.read_text().splitlines()]
    assert words == ["began", "began", "ended", "ended"]
    assert (seen["session"], seen["secrets"]) == (seen["pid"], [])


async def test_children_are_reused_and_leave_when_idle(
    client: Client, working: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after another is one child; without work it ends."""
    monkeypatch.setattr(processes, "IDLE", 0.3)
    async with working():
        seen = [await (await client.submit(tasks.surroundings.job())).result(5) for _ in range(3)]
        assert len(children()) == 1
        await asyncio.to_thread(eventually, lambda: not children(), 2)

    assert len({one["pid"] for one in seen}) == 1


async def test_a_child_that_died_while_idle_costs_nothing(client: Client, working: Running) -> None:
    """The next job gets another."""
    async with working():
        seen: Any = await (await client.submit(tasks.surroundings.job())).result(5)
        os.kill(seen["pid"], signal.SIGKILL)
        assert await (await client.submit(tasks.in_process.job("x"), max_retries=0)).result(5) == "x"


async def test_a_task_of_the_program_itself_is_refused(client: Client, working: Running) -> None:
    """What `__main__` holds cannot be imported by a child: the job fails at once and says why."""
    registry = Registry()

    def mine() -> None: ...

    mine.__module__, mine.__qualname__ = "__main__", "mine"
    client.registry = registry
    async with working(registry=registry):
        job = await client.submit(registry.task(process=True)(mine).job())
        error = await failure(client, job.job_id)

    assert (error.type, error.reason) == ("NotImportable", "invalid")


@pytest.fixture
def env(valkey: Valkey, trace_file: Path) -> dict[str, str]:
    return {
        "JOBQ_REDIS_URL": valkey.url,
        "JOBQ_API_KEY": "nobody-may-see-this",
        "TRACE": str(trace_file),
        "JOBQ_LEASE": "2",
        "JOBQ_RETRY_BACKOFF": "0",
    }


@pytest.fixture
def workers(env: dict[str, str]) -> Iterator[list[Process]]:
    """Add worker processes to this; they end with the test."""
    started: list[Process] = []
    yield started
    stop_all(started)


async def test_children_die_with_their_worker(
    client: Client, env: dict[str, str], workers: list[Process], trace_file: Path
) -> None:
    """`kill -9` of a worker: within two seconds no child is left, busy or idle."""
    workers.append(worker(env))
    seen: Any = await (await client.submit(tasks.surroundings.job())).result(5)
    await client.submit_many([tasks.spins.job(), tasks.spins.job()])
    await begun(trace_file, 2)
    alive = children(workers[0].popen.pid)
    workers[0].signal(signal.SIGKILL)

    assert len(alive) == 2
    assert (seen["secrets"], "printed by the task" in workers[0].output) == ([], True)
    await asyncio.to_thread(eventually, lambda: all(map(dead, alive)), 2)


async def test_sigterm_gives_a_killed_job_back(
    client: Client, env: dict[str, str], workers: list[Process], trace_file: Path
) -> None:
    """At the drain limit the child is killed and the job given back; SIGINT of the terminal never reaches it."""
    workers.append(worker(env, "--drain-timeout", "0.5"))
    job = await client.submit(tasks.sleeps_in_process.job(30))
    await begun(trace_file)
    alive = children(workers[0].popen.pid)
    os.killpg(workers[0].popen.pid, signal.SIGINT)

    assert workers[0].wait(0.5 + 2) == 0
    assert psutil.wait_procs(alive, timeout=0)[1] == []
    stored = await job.get()
    assert (stored.status, stored.lost, stored.retries) == (Status.PENDING, 0, 0)


@pytest.mark.parametrize(
    ("code", "limits", "peak", "expected"),
    [
        (3, Defaults(), 0, "its process ended with exit code 3"),
        (-11, Defaults(), 1025, "its process was ended by SIGSEGV; it had at most 2 MiB of memory"),
        (-9, Defaults(), 0, "its process was ended by SIGKILL, as the system does when memory is short"),
        (-24, Defaults(), 0, "its process was ended by SIGXCPU"),
        (-70, Defaults(), 0, "its process was ended by signal 70"),
    ],
)
def test_causes_of_death(code: int, limits: Defaults, peak: int, expected: str) -> None:
    """Exit code or signal, and how much memory it had, if that is known; a limit that is not the task's is a loss."""
    assert Lost(JobError("ProcessDied", expected, "lost")) == death(code, limits, peak, [])


async def test_a_child_that_its_worker_kills_at_the_end_is_no_loss() -> None:
    """Who closes all children has given their jobs up already."""
    processes_ = Processes()
    run: Any = SimpleNamespace(task=tasks.sleeps_in_process, payload=b"", context=_context, log=Entries())
    attempt = asyncio.create_task(processes_.attempt(run))
    while not any(child.began for child in processes_._busy):
        await asyncio.sleep(0.01)
    await processes_.close()

    assert Released() == await attempt


def _context() -> Context:
    return Context("0190a7b4-5c2e-7d31-9f00-0123456789ab", "sleeps_in_process", "default", 1, 0)
