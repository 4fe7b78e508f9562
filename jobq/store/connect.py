"""From settings to a server and its clients.

redis-py's defaults are wrong for a queue: it cuts blocking reads at 5 s and re-sends a write up to ten times. Each kind
of client here says what it wants.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import urlsplit

import redis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from jobq.errors import ConfigError
from jobq.settings import Settings
from jobq.store import checks
from jobq.store.checks import Finding
from jobq.store.embedded import Embedded
from jobq.store.facts import Facts, ask
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
    warnings: tuple[str, ...] = ()
    """What was wrong with it at the start, without being a reason to refuse it."""

    @classmethod
    def at(cls, url: str) -> Self:
        """An external server. Nothing is asked of it yet."""
        return cls(_redis_url(url), _cli(url))

    @classmethod
    def of(cls, embedded: Embedded) -> Self:
        return cls(embedded.endpoint.url, embedded.endpoint.cli, embedded)

    @property
    def shown_cli(self) -> str:
        """As `cli`, but never with a password."""
        return "redis-cli …" if self.embedded else self.cli

    async def facts(self) -> Facts:
        """What it says of itself. Raises ConfigError with one line when it does not answer."""
        try:
            async with self._client(COMMAND_TIMEOUT, retries=0, max_connections=1) as client:
                return await ask(client)
        except (RedisError, OSError, ValueError) as error:
            raise ConfigError(
                f"cannot use the Redis at {without_password(self.url)} ({error}):"
                " start it, correct JOBQ_REDIS_URL, or unset it to use the embedded server"
            ) from None

    async def findings(self, settings: Settings) -> list[Finding]:
        """All that can be told from its facts. Raises ConfigError."""
        return checks.examine(await self.facts(), settings, self.shown_cli, embedded=bool(self.embedded))

    async def checked(self, settings: Settings) -> Self:
        """This server, if it is one that keeps jobs. Raises ConfigError with one line that says what to do."""
        findings = await self.findings(settings)
        if wrong := checks.refused(findings, settings):
            raise ConfigError(f"refused the Redis at {without_password(self.url)}: {checks.refusal(wrong)}")
        return replace(self, warnings=tuple(checks.warnings(findings)))

    def store(self) -> Store:
        """For calls that may be repeated: a pool. The store repeats them itself, for it knows how others fared."""
        revive = self.embedded.ensure if self.embedded else None
        return Store(self._client(COMMAND_TIMEOUT, retries=0, max_connections=64), revive=revive)

    def lane(self, lease: float) -> Store:
        """For the pump: one call in flight, repeated by its owner with the same `seq` and never by the library.

        An answer that does not come is asked for again before the leases that it may tell of run out.
        """
        return Store(self._client(min(COMMAND_TIMEOUT, lease / 2), retries=0, max_connections=1))

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
        return Inspector(self._client(COMMAND_TIMEOUT, retries=1, max_connections=10))

    async def revive(self) -> None:
        """Start the embedded server again if it is gone; any other comes back by itself. Raises ConfigError."""
        if self.embedded:
            await asyncio.to_thread(self.embedded.ensure)

    def close(self) -> None:
        if self.embedded:
            self.embedded.close()

    def _blocking(self) -> Redis:
        return self._client(LONGEST_BLOCK + CONNECT_TIMEOUT, retries=0, max_connections=1)

    def _client(self, timeout: float, retries: int, max_connections: int) -> Redis:
        # The plain pool raises when all its connections are in use; whoever comes then shall wait instead.
        pool = BlockingConnectionPool.from_url(
            self.url,
            socket_timeout=timeout,
            socket_connect_timeout=CONNECT_TIMEOUT,
            retry=AsyncRetry(NoBackoff(), retries),
            max_connections=max_connections,
            timeout=POOL_TIMEOUT,
        )
        return Redis.from_pool(pool)


async def find(settings: Settings) -> Server:
    """The server these settings mean; the embedded one is started if they name none. Raises ConfigError."""
    if settings.redis_url is None:
        return Server.of(await asyncio.to_thread(Embedded.open, settings.data_dir, settings.durability))
    return Server.at(settings.redis_url)


async def connect(settings: Settings) -> Server:
    """As `find`, and see that it answers and keeps jobs. The embedded one is set up by ourselves.

    Raises ConfigError with one line that says what to do.
    """
    server = await find(settings)
    return server if server.embedded else await server.checked(settings)


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
