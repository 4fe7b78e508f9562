"""Breaker: calls to a server that is away fail at once, and it is noticed soon when it is back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest

from jobq.errors import StoreUnavailable
from jobq.store import connect
from jobq.store.breaker import Breaker
from jobq.store.connect import Server
from jobq.store.store import Store
from tests.store.conftest import Memory
from tests.store.support import submission
from tests.support.servers import Valkey


def test_one_tries_twice_a_second() -> None:
    """After a failure one call each half second is let through, until one is answered."""
    now = 0.0
    breaker = Breaker(clock=lambda: now)
    assert breaker.admits()
    breaker.failed()
    assert [False, False] == [breaker.admits(), breaker.admits()]
    now = 0.5
    assert [True, False] == [breaker.admits(), breaker.admits()]
    now = 1.0
    assert breaker.admits()
    breaker.answered()
    assert [True, True] == [breaker.admits(), breaker.admits()]


@pytest.fixture
async def away(own_valkey: Valkey) -> AsyncIterator[Store]:
    store = Server(own_valkey.url, "").store()
    await store.submit([submission()])
    yield store
    await store.close()


async def took(store: Store) -> float:
    """Seconds until a submit was refused for want of a server."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await store.submit([submission()])
    return time.monotonic() - began


async def until_back(store: Store) -> float:
    """Seconds until a submit is taken."""
    began = time.monotonic()
    while True:
        try:
            await store.submit([submission()])
            return time.monotonic() - began
        except StoreUnavailable:
            await asyncio.sleep(0.01)


async def test_a_server_that_refuses(own_valkey: Valkey, away: Store) -> None:
    """Only the first calls take the time of their tries; the others fail at once, and it is back within a second."""
    own_valkey.kill()
    await asyncio.gather(*(took(away) for _ in range(50)))
    assert 0.2 > max([await took(away) for _ in range(50)])
    own_valkey.start()
    assert 1.5 > await until_back(away)


async def test_a_server_that_hangs(own_valkey: Valkey, away: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a call has timed out the others do not wait for theirs, while one tries."""
    monkeypatch.setattr(connect, "COMMAND_TIMEOUT", 0.5)
    store = Server(own_valkey.url, "").store()
    await store.submit([submission()])
    assert own_valkey.process is not None
    os.kill(own_valkey.process.pid, signal.SIGSTOP)
    try:
        first = asyncio.create_task(took(store))
        await asyncio.sleep(0.7)
        assert 0.2 > max([await took(store) for _ in range(20)])
        await first
    finally:
        os.kill(own_valkey.process.pid, signal.SIGCONT)
    assert 1.5 > await until_back(store)
    await store.close()


async def test_a_refusal_is_an_answer(store: Store, memory: Memory) -> None:
    """A server that says no is not away: the next call is made."""
    await memory.fill()
    with pytest.raises(StoreUnavailable):
        await store.submit([submission()])
    await memory.free()
    assert ["ok"] == await store.submit([submission()])
