"""What jobs tell while they run: in order, complete, and never at the cost of the job."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from jobq import Client, Context, JobCancelled, Registry, Status, current
from jobq.errors import StoreUnavailable
from jobq.job import Job
from jobq.worker import emitter as emitter_module
from jobq.worker.capture import LEFT_OUT, MAX_BYTES, MAX_LINES, Entries, capturing, line
from jobq.worker.emitter import Emitter
from tests.support import tasks
from tests.support.tasks import traced
from tests.worker.conftest import Running


@pytest.fixture(autouse=True)
def _info() -> Iterator[None]:
    """As in a worker's own process."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.INFO)
    yield
    root.setLevel(before)


async def told(redis: Redis, job_id: str) -> list[tuple[str, str, Any]]:
    """Id, kind and data of the entries."""
    entries = await redis.xrange(f"job:{job_id}:events")
    return [(entry_id, fields["kind"], json.loads(fields["data"])) for entry_id, fields in entries]


@pytest.mark.parametrize("task", ["tells", "tells_in_thread", "tells_in_process"])
async def test_progress_and_log_of_all_kinds_of_task(client: Client, working: Running, redis: Redis, task: str) -> None:
    """All entries are there, in order and numbered, as soon as the job is over; debug lines are not kept."""
    async with working():
        job = await client.submit(task, {"steps": 3})
        await job.result(10)
        entries = await told(redis, job.job_id)

    assert [entry_id for entry_id, _, _ in entries] == [f"1-{n}" for n in range(1, 7)]
    expected: list[tuple[str, Any]] = []
    for step, fraction in enumerate((0.3333, 0.6667, 1.0), 1):
        expected.append(("log", {"level": "info", "logger": "told", "message": f"step {step}"}))
        expected.append(("progress", {"fraction": fraction, "message": f"{step} of 3"}))
    assert expected == [(kind, data) for _, kind, data in entries]
    assert await redis.hlen("job_progress") == 0


async def test_entries_are_seen_while_the_job_runs(client: Client, working: Running, redis: Redis) -> None:
    """The first at once, later ones within 0.2 seconds, the newest progress alone of many."""
    registry = Registry()

    @registry.task
    async def slow() -> None:
        for step in range(1000):
            current().progress(step / 1000)
        await asyncio.sleep(0.5)
        current().progress(1.0)
        await asyncio.sleep(30)

    client.registry = registry
    async with working(registry=registry):
        job = await client.submit(slow.job())
        while not (early := await told(redis, job.job_id)):
            await asyncio.sleep(0.05)
        while len(late := await told(redis, job.job_id)) < 2:
            await asyncio.sleep(0.05)
        assert Status.PROCESSING is await job.status()

    assert [data["fraction"] for _, _, data in early] == [0.999]
    assert [data["fraction"] for _, _, data in late] == [0.999, 1.0]


async def test_a_log_has_a_limit(client: Client, working: Running, redis: Redis) -> None:
    """Of 3,000 lines the first thousand and one that says that more was left out."""
    async with working():
        for task in ("tells", "tells_in_process"):
            job = await client.submit(task, {"steps": 3000})
            await job.result(10)
            logged = [data["message"] for _, kind, data in await told(redis, job.job_id) if kind == "log"]
            assert logged[-1] == json.loads(LEFT_OUT)["message"]
            assert f"step {MAX_LINES}" in logged[-3:]


def test_entries_are_bounded() -> None:
    """By bytes too; after the limit nothing more is let in, however small; progress still is."""
    entries = Entries()
    for _ in range(100):
        entries.add("log", "x" * 8000)
    entries.add("log", "small")
    entries.add("progress", "p")
    entries.add("progress", "q")

    taken = entries.take()
    kept = MAX_BYTES // 8000
    assert [("log", "x" * 8000)] * kept + [("log", LEFT_OUT), ("progress", "q")] == taken
    assert entries.take() == []


def test_messages_are_clipped() -> None:
    """To 8 KiB, and to what UTF-8 can hold."""
    assert json.loads(line("info", "x", "ü" * 10_000))["message"] == "ü" * 4096
    assert json.loads(line("info", "x", "caf\udce9"))["message"] == "caf\\udce9"


async def test_only_records_of_jobs_are_taken(
    client: Client, working: Running, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Code outside of a job logs as before, and after the worker the root logger is as it was."""
    handlers = list(logging.getLogger().handlers)
    async with working():
        logging.getLogger("outside").warning("not of a job")
        job = await client.submit(tasks.tells.job(1))
        await job.result(5)
        entries = await told(redis, job.job_id)

    assert handlers == logging.getLogger().handlers
    assert [data["message"] for _, _, data in entries] == ["step 1", "1 of 1"]
    assert [record.message for record in caplog.records if record.name in ("outside", "told")] == [
        "not of a job",
        "step 1",
    ]


def test_what_logging_would_have_printed_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody has set up `logging`, warnings go to stderr also while our handler is there."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with capturing():
        logging.getLogger("some").warning("look out")
        logging.getLogger("some").info("never mind")

    assert capsys.readouterr().err == "look out\n"


async def test_a_line_that_cannot_be_formatted_costs_nothing(
    client: Client, working: Running, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments that do not fit are told on stderr, as `logging` does; the job goes on."""
    registry = Registry()

    @registry.task
    def clumsy() -> str:
        logging.getLogger("clumsy").info("%d", "x")
        logging.getLogger("clumsy").info("the next line")
        return "done"

    monkeypatch.setattr(logging, "raiseExceptions", False)  # pytest's own handlers would raise
    client.registry = registry
    async with working(registry=registry):
        job = await client.submit(clumsy.job())
        assert await job.result(5) == "done"
    assert [data["message"] for _, _, data in await told(redis, job.job_id)] == ["the next line"]


def test_a_line_that_utf8_cannot_hold() -> None:
    """What UTF-8 cannot hold is kept with escapes."""
    assert json.loads(line("info", "names", "caf\udce9"))["message"] == "caf\\udce9"


async def test_a_log_that_cannot_be_written_costs_nothing(
    client: Client, working: Running, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server refuses the entries: the job completes all the same."""

    async with working() as worker:
        job = await client.submit(tasks.tells.job(1), delay=0.3)
        await redis.set(f"job:{job.job_id}:events", "taken")
        before = time.monotonic()
        await job.result(5)

    assert time.monotonic() - before < 2
    assert worker.exit_code == 0


@pytest.mark.parametrize("away", [True, False])
async def test_a_store_that_is_away_or_slow_holds_no_job_up(away: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be sent in time is dropped, and not told again."""

    class Troubled:
        calls = 0

        async def emit(self, *_: object) -> str:
            self.calls += 1
            if away:
                raise StoreUnavailable("away")
            await asyncio.sleep(30)
            return "ok"

    monkeypatch.setattr(emitter_module, "LONGEST_FINISH", 0.1)
    store: Any = Troubled()
    emitter = Emitter(store)
    log, silent = emitter.open(Job("id", "task"), "token"), emitter.open(Job("id", "task"), "token")
    log.add("progress", "{}")
    before = time.monotonic()
    await asyncio.gather(emitter.finish(log), emitter.finish(silent))
    log.add("progress", "{}")

    assert time.monotonic() - before < 1
    assert (store.calls, log.take()) == (1, [])


async def test_a_thread_cannot_be_cancelled(
    client: Client, working: Running, trace_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes on; the worker says so once; what completes stays completed, what fails then is cancelled."""
    registry = Registry()

    @registry.task
    def fails_late() -> None:
        tasks.trace("began")
        time.sleep(1.5)
        raise ValueError("late")

    registry.include(tasks.registry)
    client.registry = registry
    async with working(registry=registry):
        completes = await client.submit(tasks.sleeps_in_thread.job(1.5))
        fails = await client.submit(fails_late.job())
        while len(traced(trace_file, "began")) < 2:
            await asyncio.sleep(0.01)
        await completes.cancel("too late")
        await fails.cancel("too late")
        assert await completes.result(5) == "slept"
        with pytest.raises(JobCancelled):
            await fails.result(5)

    assert capsys.readouterr().out.count("cancel cannot end a thread") == 2


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_progress_is_a_number_from_0_to_1(fraction: float) -> None:
    """Any other is the task's mistake."""
    with pytest.raises(ValueError, match="from 0 to 1"):
        Context("id", "task", "default", 1, 0).progress(fraction)
