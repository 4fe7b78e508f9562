"""A client of the dashboard's tasks over a real server, and the pages over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from jobq import Client, Settings
from tests.dashboard.support import make_app, registry


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with Client(settings=settings, registry=registry) as client:
        yield client


@pytest.fixture
def app(client: Client) -> FastAPI:
    return make_app(client)


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A browser without JavaScript, as far as its headers go."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://service", headers={"Sec-Fetch-Site": "same-origin"}
    ) as http:
        yield http
