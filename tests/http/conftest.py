"""The HTTP side over a real client and a Redis in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from fastapi import FastAPI

from jobq import Client, Settings
from jobq.http.app import create_app
from jobq.store import scripts
from jobq.store.inspect import Inspector
from jobq.store.store import FinishedJobs, Store
from tests.http.support import Hand, registry


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
def redis() -> FakeAsyncRedis:
    return FakeAsyncRedis(server=FakeServer())


@pytest.fixture
def store(redis: FakeAsyncRedis) -> Store:
    return Store(redis, scripts.load(shebang=False))


@pytest.fixture
async def client(settings: Settings, store: Store, redis: FakeAsyncRedis) -> AsyncIterator[Client]:
    client = Client(settings=settings, registry=registry)
    client.attach(store, FinishedJobs(redis), Inspector(redis))
    yield client
    await client.close()


@pytest.fixture
def app(settings: Settings, client: Client) -> FastAPI:
    app = create_app(settings, registry)
    app.state.jobq = client
    return app


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http:
        yield http


@pytest.fixture
def hand(store: Store, settings: Settings) -> Hand:
    return Hand(store, settings)
