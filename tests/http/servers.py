"""Applications for a server process of a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from jobq import Client, Settings
from jobq.http import install
from jobq.http.app import create_app
from tests.http.support import registry


def own() -> FastAPI:
    """Ours."""
    return create_app(Settings.load(), registry)


def host() -> FastAPI:
    """Somebody else's, with ours installed."""
    client = Client(registry=registry)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    app = FastAPI(lifespan=lifespan)
    install(app, client, prefix="/jobs")
    return app
