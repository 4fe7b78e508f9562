"""The pump's parts: the order of queues, the server's clock, and its end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from redis.asyncio import Redis

from jobq import Settings
from jobq.store.connect import Server
from jobq.worker.pump import Pump, Queues, ServerClock
from tests.support.servers import Valkey


class TestQueues:
    """Strict, or by weight."""

    def test_strict(self) -> None:
        """Without weights the order is the given one, every time."""
        queues = Queues(["mail", "default", "a.b"])

        assert ["mail", "default", "a.b"] == queues.names
        assert {"mail,default,a.b"} == {queues.order() for _ in range(20)}

    def test_one(self) -> None:
        """A single queue is itself, with a weight too."""
        assert "mail" == Queues(["mail"]).order() == Queues(["mail:3"]).order()

    @pytest.mark.parametrize(("weights", "share"), [((3, 1), 0.75), ((1, 1), 0.5), ((9, 1), 0.9)])
    def test_weighted(self, weights: tuple[int, int], share: float) -> None:
        """A queue comes first in proportion to its weight; the other follows, so that no slot stays empty."""
        queues = Queues([f"mail:{weights[0]}", f"default:{weights[1]}"])
        orders = Counter(queues.order() for _ in range(4000))

        assert {"mail,default", "default,mail"} == set(orders)
        # Five standard deviations: once in two million runs by chance.
        assert abs(orders["mail,default"] / 4000 - share) < 5 * (share * (1 - share) / 4000) ** 0.5

    def test_three_weights(self) -> None:
        """The second place is drawn by weight among those left."""
        queues = Queues(["a:6", "b:3", "c:1"])
        orders = Counter(queues.order() for _ in range(6000))

        expected = 0.6 * 3 / 4
        assert 6 == len(orders)
        assert abs(orders["a,b,c"] / 6000 - expected) < 5 * (expected * (1 - expected) / 6000) ** 0.5


class TestServerClock:
    """The server's time, carried on by our monotonic clock."""

    def test_goes_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As many ms pass as on the monotonic clock."""
        now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: now)
        clock = ServerClock.read(1_795_488_299_123)
        assert 1_795_488_299_123 == clock.now()
        now = 101.2345

        assert 1_795_488_300_357 == clock.now()  # 1.2345 s later, to the ms
        assert isinstance(clock.now(), int)

    def test_our_own_wall_clock_does_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A wall clock that is a day wrong changes nothing."""
        clock = ServerClock.read(5_000)
        monkeypatch.setattr(time, "time", lambda: 0.0)

        assert 5_000 <= clock.now() < 6_000


class TestEnd:
    """A drained pump ends."""

    async def test_whatever_the_marks_do(self, valkey: Valkey, settings: Settings, redis: Redis) -> None:
        """It ends at once also when marks come so fast that the cancelling of their reader gets lost."""
        over = asyncio.Event()

        async def mark() -> None:
            while not over.is_set():
                await redis.zadd("job_wake:default", {"1": 0})

        marking = asyncio.create_task(mark())
        ended = []
        for n in range(10):
            pump = Pump(
                Server(valkey.url, ""), f"w{n}", settings, Queues(["default"]), lambda *_: None, lambda *_: None
            )
            running = asyncio.create_task(pump.run())
            await asyncio.sleep(0.02)
            pump.drain()
            await asyncio.wait({running}, timeout=2.0)
            ended.append(running.done())
            if not running.done():
                break
        over.set()
        await marking

        assert [True] * 10 == ended
