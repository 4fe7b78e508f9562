"""From settings to a server and its clients.

redis-py's defaults are wrong for a queue: it cuts blocking reads at 5 s and re-sends a write up to ten times. Each kind
of client here says what it wants.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import redis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from jobq.errors import ConfigError
from jobq.settings import Durability, Settings
from jobq.store.embedded import Embedded
from jobq.store.inspect import Inspector
from jobq.store.store import FinishedJobs, Heart, Marks, Store

CONNECT_TIMEOUT = 2.0
COMMAND_TIMEOUT = 5.0
"""Seconds an answer may take before the connection is given up."""
POOL_TIMEOUT = 10.0
"""Seconds a call may wait for a free connection."""
LONGEST_BLOCK = 2.0
"""Seconds a read may block on the server."""


@dataclass(frozen=True)
class Server:
    """A server that answered, and the clients for it."""

    url: str
    cli: str
    """How a person opens it."""
    embedded: Embedded | None = None

    def store(self) -> Store:
        """For calls that may be repeated: a pool, three more tries within about a second."""
        retry = AsyncRetry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 3)
        revive = self.embedded.ensure if self.embedded else None
        return Store(self._client(COMMAND_TIMEOUT, retry, max_connections=64), revive=revive)

    def lane(self) -> Store:
        """For the pump: one call in flight, repeated by its owner with the same `seq` and never by the library."""
        return Store(self._client(COMMAND_TIMEOUT, AsyncRetry(NoBackoff(), 0), max_connections=1))

    def marks(self) -> Marks:
        return Marks(self._blocking())

    def finished(self) -> FinishedJobs:
        return FinishedJobs(self._blocking())

    def heart(self, timeout: float) -> Heart:
        """For the heartbeat's own thread; `timeout` in seconds holds for connecting and for each answer."""
        client = redis.Redis.from_url(
            self.url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            max_connections=1,
        )
        return Heart(client)

    def inspector(self) -> Inspector:
        return Inspector(self._client(COMMAND_TIMEOUT, AsyncRetry(NoBackoff(), 1), max_connections=10))

    async def revive(self) -> None:
        """Start the embedded server again if it is gone; any other comes back by itself. Raises ConfigError."""
        if self.embedded:
            await asyncio.to_thread(self.embedded.ensure)

    def close(self) -> None:
        if self.embedded:
            self.embedded.close()

    def _blocking(self) -> Redis:
        return self._client(LONGEST_BLOCK + CONNECT_TIMEOUT, AsyncRetry(NoBackoff(), 0), max_connections=1)

    def _client(self, timeout: float, retry: AsyncRetry, max_connections: int) -> Redis:
        # The plain pool raises when all its connections are in use; whoever comes then shall wait instead.
        pool = BlockingConnectionPool.from_url(
            self.url,
            socket_timeout=timeout,
            socket_connect_timeout=CONNECT_TIMEOUT,
            retry=retry,
            max_connections=max_connections,
            timeout=POOL_TIMEOUT,
        )
        return Redis.from_pool(pool)


async def connect(settings: Settings) -> Server:
    """Find the server these settings mean, start the embedded one if they name none, and see that it answers.

    Raises ConfigError with one line that says what to do.
    """
    if settings.redis_url is None:
        embedded = await asyncio.to_thread(Embedded.open, settings.data_dir, settings.durability)
        return Server(embedded.endpoint.url, embedded.endpoint.cli, embedded)

    server = Server(_redis_url(settings.redis_url), _cli(settings.redis_url))
    await _check(server, settings.durability)
    return server


def without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return parts._replace(netloc=f"{parts.username or ''}:***@{parts.netloc.rpartition('@')[2]}").geturl()


def _redis_url(url: str) -> str:
    """redis-py knows only its own schemes."""
    return "redis" + url.removeprefix("valkey") if url.startswith("valkey") else url


def _cli(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"redis-cli -s {parts.path}"
    return f"redis-cli -u {without_password(_redis_url(url))}"


async def _check(server: Server, durability: Durability) -> None:
    shown = without_password(server.url)
    try:
        async with server._client(COMMAND_TIMEOUT, AsyncRetry(NoBackoff(), 0), max_connections=1) as client:
            await cast("Awaitable[Any]", client.ping())
            if durability is Durability.FSYNC and not await _fsyncs(client):
                raise ConfigError(
                    f"JOBQ_DURABILITY=fsync, but {shown} does not run with appendonly yes and appendfsync always:"
                    " set both there, or choose JOBQ_DURABILITY=fast"
                )
    except (RedisError, OSError, ValueError) as error:
        raise ConfigError(
            f"cannot use the Redis at {shown} ({error}):"
            " start it, correct JOBQ_REDIS_URL, or unset it to use the embedded server"
        ) from None


async def _fsyncs(client: Redis) -> bool:
    config = {**await client.config_get("appendonly"), **await client.config_get("appendfsync")}
    return (config.get("appendonly"), config.get("appendfsync")) == ("yes", "always")
