"""The same store for code without an event loop: the coroutines are those of `Store`, the client below them blocks.

A coroutine over such a client has nothing to wait for and never suspends, so `drive` runs it to its end in one step.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

import redis
from redis import BlockingConnectionPool
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobq.settings import Settings
from jobq.store.breaker import Breaker
from jobq.store.connect import COMMAND_TIMEOUT, CONNECT_TIMEOUT, Server
from jobq.store.embedded import Embedded
from jobq.store.store import Store, Stored, found_or_told

T = TypeVar("T")

CONNECTIONS = 100
"""Per kind of client and process. A thread that finds all of them in use waits for one, up to COMMAND_TIMEOUT."""


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """The value of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} waited for an event loop, and here is none: a bug in jobq")


class Blocking:
    """redis-py's blocking client with the face of its async one: every command is awaited, and is done by then.

    A forked process gets a client of its own at its first command. Not even redis-py's own care for forks is relied on:
    it takes locks that another thread of the parent may have held at that moment, and that nobody will ever release.
    """

    def __init__(self, make: Callable[[], redis.Redis]) -> None:
        self._make = make
        self._client, self._pid = make(), os.getpid()

    async def evalsha(self, *args: Any) -> Any:
        return self._mine().evalsha(*args)

    def pipeline(self, *, transaction: bool) -> BlockingPipeline:
        return BlockingPipeline(self._mine().pipeline(transaction=transaction))

    async def aclose(self) -> None:
        self._mine().close()

    async def drop_idle(self) -> None:
        self._mine().connection_pool.disconnect(inuse_connections=False)

    async def __aenter__(self) -> Blocking:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __getattr__(self, command: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(self._mine(), command)(*args, **kwargs)

        return call

    def _mine(self) -> redis.Redis:
        if self._pid != os.getpid():
            # In this order: another thread that sees our pid finds our client.
            self._client = self._make()
            self._pid = os.getpid()
        return self._client


class BlockingPipeline:
    """Commands are collected as ever, and `execute` is awaited."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        return cast("list[Any]", self._pipeline.execute(raise_on_error))

    def __getattr__(self, command: str) -> Any:
        return getattr(self._pipeline, command)


class BlockingStore(Store):
    """The same transitions, in the thread that asks. There is nobody to shield a call from."""

    def __init__(self, store: Store) -> None:
        """`store` is over a `Blocking` client."""
        super().__init__(store._client, store._scripts, store._revive)
        # A thread that waits keeps nobody else waiting, and whoever started the server again need not be told to wait.
        self._breaker = Breaker(pause=0.0)

    async def stored(self, job_id: str) -> Stored | None:
        (found,) = await self.stored_many([job_id])
        return found_or_told(found)

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        return await self._told(call)

    async def _start_again(self, revive: Callable[[], None]) -> None:
        revive()

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251

    async def _drop_idle(self) -> None:
        await cast("Blocking", self._client).drop_idle()


class BlockingServer(Server):
    """A server that answered, and the clients for it. Threads may share them."""

    def store(self) -> BlockingStore:
        return BlockingStore(super().store())

    def _client(self, timeout: float, retries: int, max_connections: int) -> Any:
        """`max_connections` is meant for one event loop; here each thread in a call holds one."""

        def make() -> redis.Redis:
            pool = BlockingConnectionPool.from_url(
                self.url,
                socket_timeout=timeout,
                socket_connect_timeout=CONNECT_TIMEOUT,
                retry=Retry(NoBackoff(), retries),
                max_connections=CONNECTIONS,
                timeout=COMMAND_TIMEOUT,
            )
            return redis.Redis.from_pool(pool)

        return Blocking(make)


def connect(settings: Settings) -> BlockingServer:
    """As `jobq.store.connect.connect`, in this thread."""
    if settings.redis_url is None:
        return BlockingServer.of(Embedded.open(settings.data_dir, settings.durability))
    return drive(BlockingServer.at(settings.redis_url).checked(settings))


def empty(url: str) -> None:
    """Forget everything that this server holds, jobq's or not. For tests."""
    with redis.Redis.from_url(url, socket_timeout=COMMAND_TIMEOUT) as client:
        client.flushall()
