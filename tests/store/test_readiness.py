"""Readiness: one answer for all who ask, and what changes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from jobq import Settings
from jobq.errors import StoreUnavailable, StoreUnfit
from jobq.store.connect import Server
from jobq.store.readiness import ALARM, FRESH, Readiness
from jobq.store.store import Store
from tests.store.conftest import Memory
from tests.support.servers import Valkey


class Watched(Readiness):
    """With a clock of the test's own."""

    def __init__(self, store: Store) -> None:
        self.time = 0.0
        self.alarms: list[str] = []
        super().__init__(store, Settings(), self.alarms.append, lambda: self.time)

    async def verdict(self) -> str:
        """What is wrong once the last answer is believed no longer."""
        self.time += FRESH
        try:
            await self.check()
        except StoreUnavailable as error:
            return type(error).__name__
        return ""


@pytest.fixture
async def watched(store: Store) -> Watched:
    return Watched(store)


@pytest.fixture
async def policy(redis: Redis) -> AsyncIterator[Redis]:
    """The right one again after the test."""
    yield redis
    await redis.config_set("maxmemory-policy", "noeviction")


async def test_a_policy_that_is_changed_meanwhile(watched: Watched, policy: Redis) -> None:
    """A server that begins to evict makes us unready, is told once, and is taken again when it is right."""
    assert "" == await watched.verdict()
    await policy.config_set("maxmemory-policy", "allkeys-lru")
    assert ["StoreUnfit", "StoreUnfit"] == [await watched.verdict(), await watched.verdict()]
    assert ["eviction"] == [alarm.partition(":")[0] for alarm in watched.alarms]
    await policy.config_set("maxmemory-policy", "noeviction")
    assert "" == await watched.verdict()


async def test_data_that_is_gone(watched: Watched, redis: Redis) -> None:
    """A flush by accident is told, keeps us unready for a minute, and then what there is now is what there is."""
    assert "" == await watched.verdict()
    other = Watched(watched._store)
    assert "" == await other.verdict()
    await redis.flushall()
    for process in (watched, other):  # each finds it by itself, whoever writes the new name
        assert "StoreUnfit" == await process.verdict()
        assert ["the server has lost all that it held"] == [alarm.partition(":")[0] for alarm in process.alarms]
        process.time += ALARM
        assert "" == await process.verdict()


async def test_a_restart_with_its_data(own_valkey: Valkey) -> None:
    """A server that comes back with what it had has lost nothing."""
    store = Server(own_valkey.url, "").store()
    watched = Watched(store)
    assert "" == await watched.verdict()
    with own_valkey.client() as client:
        client.config_set("appendfsync", "always")
    await watched.verdict()
    own_valkey.kill()
    assert "StoreUnavailable" == await watched.verdict()
    assert [] == watched.alarms
    own_valkey.start()
    await asyncio.sleep(0.6)  # the breaker
    assert "" == await watched.verdict()
    await store.close()


async def test_full_memory(watched: Watched, memory: Memory) -> None:
    """A full server takes no submit: that alone is the reason, and no alarm."""
    await memory.fill()
    assert ("StoreFull", []) == (await watched.verdict(), watched.alarms)
    await memory.free()
    assert "" == await watched.verdict()


async def test_all_who_ask_share_one_call(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred who ask within two seconds are one question; a no is asked again sooner."""
    asked = 0

    async def ask() -> StoreUnavailable | None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return StoreUnfit("x") if asked == 2 else None

    monkeypatch.setattr(watched, "ask", ask)
    await asyncio.gather(*(watched.check() for _ in range(100)))
    assert 1 == asked
    watched.time += FRESH
    told = await asyncio.gather(*(watched.check() for _ in range(100)), return_exceptions=True)
    assert (2, {StoreUnfit}) == (asked, {type(error) for error in told})
    watched.time += 0.25
    await watched.check()
