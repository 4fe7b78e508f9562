"""The whole HTTP side for any registry: what `python -m jobq api` serves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from jobq.client import Client
from jobq.http import contract, docs, health, jobs
from jobq.http.frame import install_problems
from jobq.http.openapi import describe
from jobq.settings import Settings
from jobq.task import Registry

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(settings: Settings, registry: Registry) -> FastAPI:
    """An application that submits and shows jobs of these tasks. It opens nothing before it is started."""
    app = FastAPI(
        title="jobq",
        lifespan=lifespan(settings, registry),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    install_problems(app)
    app.include_router(contract.router)
    app.include_router(jobs.router, prefix="/v1")
    app.include_router(health.router)
    app.include_router(docs.router)
    describe(app, registry)
    return app


def lifespan(settings: Settings, registry: Registry) -> Lifespan:
    """Keeps a client open in `app.state.jobq` while the application runs."""

    @asynccontextmanager
    async def opened(app: FastAPI) -> AsyncIterator[None]:
        async with Client(settings=settings, registry=registry) as client:
            app.state.jobq = client
            yield

    return opened
