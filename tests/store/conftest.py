"""Fixtures for the tests of single transitions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from jobq.store.connect import Server
from jobq.store.inspect import Inspector
from jobq.store.store import Heart, Store
from tests.store.support import Lane
from tests.support.servers import Valkey


@pytest.fixture
def lane(store: Store) -> Lane:
    return Lane(store)


@pytest.fixture
def heart(valkey: Valkey) -> Iterator[Heart]:
    heart = Server(valkey.url, "").heart(timeout=2.0)
    yield heart
    heart.close()


@pytest.fixture
async def inspector(valkey: Valkey) -> AsyncIterator[Inspector]:
    inspector = Server(valkey.url, "").inspector()
    yield inspector
    await inspector.close()


class Memory:
    """Fills and frees the server's memory."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def fill(self) -> None:
        await self._redis.config_set("maxmemory", 1)

    async def free(self) -> None:
        await self._redis.config_set("maxmemory", 0)


@pytest.fixture
async def memory(redis: Redis) -> AsyncIterator[Memory]:
    """Free again after the test."""
    memory = Memory(redis)
    yield memory
    await memory.free()
