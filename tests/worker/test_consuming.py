"""What a worker tells of itself: not only that it is there, but that the server answers it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from jobq import Client
from jobq.store import inspect
from jobq.store.inspect import WorkerView, consuming
from jobq.store.store import Store
from tests.worker.conftest import Running


async def until(client: Client, true: Callable[[WorkerView], bool]) -> WorkerView:
    """The one worker, once this is so of it."""
    async with asyncio.timeout(10):
        while True:
            for view in await client.inspect.workers():
                if true(view):
                    return view
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("about", "seen", "expected"),
    [
        ({}, 0.0, True),
        ({"state": "running", "pumped_ms": 500, "beat_ms": 1000}, 2.0, True),
        ({"pumped_ms": 8_000}, 1.9, True),
        ({"pumped_ms": 8_000}, 2.1, False),
        ({"pumped_ms": 0, "beat_ms": 11_000}, 0.0, False),
        ({"pumped_ms": 0, "beat_ms": 0}, 10.1, False),
        ({"state": "quiet"}, 0.0, False),
        ({"state": "stopping"}, 0.0, False),
        ({"pumped_ms": "soon", "beat_ms": None}, 0.0, True),
    ],
)
def test_consuming(about: dict[str, Any], seen: float, expected: bool) -> None:
    """It counts when the server last answered, also since it was last heard of; who does not tell is believed."""
    assert expected == consuming(about, seen)


async def test_idle_and_busy(client: Client, working: Running) -> None:
    """A worker without work consumes, and so does one whose slots are all taken for long, which asks for nothing."""
    async with working(concurrency=1):
        assert (await until(client, lambda _: True)).consuming
        await client.submit("sleeps", {"seconds": 4})
        busy = await until(client, lambda view: bool(view.running))
        await asyncio.sleep(2.5)  # past the next presence
        busy = await until(client, lambda view: bool(view.running))
        assert busy.about["pumped_ms"] < 1500
        assert busy.about["beat_ms"] < 1500
        assert busy.consuming


async def test_a_pump_that_is_not_answered(client: Client, working: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is there, but whose claims fail, does not consume; when they are answered again, it does."""
    monkeypatch.setattr(inspect, "LONGEST_SILENCE", 3.5)
    pump = Store.pump

    async def fails(*args: Any, **limits: Any) -> Any:
        raise OSError("no way")

    async with working():
        await until(client, lambda view: view.consuming)
        monkeypatch.setattr(Store, "pump", fails)
        silent = await until(client, lambda view: not view.consuming)
        assert silent.seen_seconds < 3.5
        monkeypatch.setattr(Store, "pump", pump)
        await until(client, lambda view: view.consuming)


async def test_a_flush_is_told(
    client: Client, redis: Redis, working: Running, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker says loudly that the server has lost its data, and works on with what comes."""
    monkeypatch.setattr("jobq.worker.worker.FITNESS", 0.2)
    async with working():
        async with asyncio.timeout(5):
            while not await redis.exists("job_epoch"):
                await asyncio.sleep(0.05)
        await redis.flushall()
        async with asyncio.timeout(10):
            while "lost all that it held" not in capfd.readouterr().out:
                await asyncio.sleep(0.1)
        job = await client.submit("sleeps", {"seconds": 0})
        await job.result(5)
