"""The pytest plugin: a real, empty queue for each test.

    async def test_signup(jobq_client, jobq_registry):
        await signup(jobq_client, "ada@example.com")
        [job] = await run_all(jobq_client, jobq_registry)
        assert job.status == "completed"

Override the fixture `jobq_registry` with your own registry. pytest loads this module in every run on a machine where
jobq is installed, so each fixture imports what it needs, and nothing is started before a test asks for it.
"""

# ruff: noqa: PLC0415  # imports inside of functions, for the reason above

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

try:
    from pytest_asyncio import fixture as async_fixture
except ImportError:  # another plugin may run async tests, and takes plain fixtures
    async_fixture = pytest.fixture  # type: ignore[assignment]

if TYPE_CHECKING:
    from jobq import Client, Registry, Settings, SyncClient


@pytest.fixture(scope="session")
def jobq_server() -> Iterator[str]:
    """URL of an embedded server of this session's own. Override it where there can be none: all it holds is erased."""
    from jobq.settings import Durability
    from jobq.store.embedded import Embedded

    # Not pytest's own folder: the path of a socket is limited to about 100 bytes.
    folder = Path(tempfile.mkdtemp(prefix="jobq-test-"))
    try:
        with Embedded.open(folder, Durability.FAST) as embedded:
            yield embedded.endpoint.url
    finally:
        # It is the end of the server too, within a second. After a kill of pytest it ends by itself, in five.
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def jobq_registry() -> Registry:
    """The tasks that the clients know: none. Override it with yours."""
    from jobq import Registry

    return Registry()


@pytest.fixture
def jobq_settings(jobq_server: str) -> Settings:
    """Settings of an empty queue, for whatever the program under test opens by itself."""
    from jobq import Settings
    from jobq.store.blocking import empty

    empty(jobq_server)
    return Settings.load(redis_url=jobq_server)


@async_fixture
async def jobq_client(jobq_settings: Settings, jobq_registry: Registry) -> AsyncIterator[Client]:
    """A Client of an empty queue."""
    from jobq import Client

    async with Client(settings=jobq_settings, registry=jobq_registry) as client:
        yield client


@pytest.fixture
def jobq_sync_client(jobq_settings: Settings, jobq_registry: Registry) -> Iterator[SyncClient]:
    """A SyncClient of the same queue."""
    from jobq import SyncClient

    with SyncClient(settings=jobq_settings, registry=jobq_registry) as client:
        yield client
