"""Fixtures for all tests: a real Valkey that is empty for each test, and clients for it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog
from redis.asyncio import Redis

from jobq import Client, Settings
from jobq.store.connect import Server
from jobq.store.store import Store
from tests.support.servers import Valkey
from tests.support.tasks import registry

# A busy machine is no failure.
hypothesis.settings.register_profile("jobq", deadline=None)
hypothesis.settings.load_profile("jobq")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Browser tests import what only requirements-dev.txt brings; they are all marked `system`."""
    wanted = config.option.markexpr not in ("not system and not chaos", "chaos")
    return True if collection_path.name.endswith("_browser.py") and not wanted else None


@pytest.fixture(autouse=True)
def _no_settings_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JOBQ_REDIS_URL", "REDIS_URL", "JOBQ_APP", "JOBQ_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _logging_as_of_a_library() -> None:
    """Some tests run what configures the logging of its process."""
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def session_valkey() -> Iterator[Valkey]:
    server = Valkey().start()
    yield server
    server.kill()
    shutil.rmtree(server.dir)


@pytest.fixture
def valkey(session_valkey: Valkey) -> Valkey:
    """A real server without any key."""
    session_valkey.flush()
    return session_valkey


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A real server of the test's own, to be killed and started again."""
    server = Valkey().start()
    yield server
    server.kill()
    shutil.rmtree(server.dir)


@pytest.fixture
async def redis(valkey: Valkey) -> AsyncIterator[Redis]:
    async with Redis.from_url(valkey.url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def store(valkey: Valkey) -> AsyncIterator[Store]:
    store = Server(valkey.url, "").store()
    yield store
    await store.close()


@pytest.fixture
def settings(valkey: Valkey) -> Settings:
    """Short times, so that tests are quick."""
    return Settings(redis_url=valkey.url, lease=2.0, retry_backoff=0.0, drain_timeout=2.0)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with Client(settings=settings, registry=registry) as client:
        yield client


@pytest.fixture
def trace_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tasks of `tests.support.tasks` leave a line for each execution in this process and its children."""
    path = tmp_path / "trace"
    monkeypatch.setenv("TRACE", str(path))
    return path
