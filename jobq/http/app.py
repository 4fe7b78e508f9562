"""The whole HTTP side for any registry: what `python -m jobq api` serves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from fastapi.routing import APIRoute

from jobq.client import Client
from jobq.dashboard import routes as dashboard
from jobq.http import batch, contract, docs, health, jobs, logs, problems, queues, tasks, workers
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
        generate_unique_id_function=operation_id,
    )
    install_problems(app)
    include(app)
    app.include_router(docs.router)
    describe(app, registry)
    return app


def include(app: FastAPI, prefix: str = "") -> None:
    """Add all routes of the API to an application."""
    app.include_router(contract.router, prefix=prefix, generate_unique_id_function=operation_id)
    for area in (jobs, batch, logs, queues, workers, tasks):
        app.include_router(area.router, prefix=f"{prefix}/v1", generate_unique_id_function=operation_id)
    app.include_router(health.router, prefix=prefix, generate_unique_id_function=operation_id)
    app.include_router(dashboard.router, prefix=prefix)


def install(app: FastAPI, client: Client, prefix: str = "") -> None:
    """See `jobq.http.install`."""
    app.state.jobq = client
    include(app, prefix)
    app.include_router(problems.router, prefix=prefix)
    describe(app, client.registry or Registry(), prefix)


def operation_id(route: APIRoute) -> str:
    """Such as `submit_job`: what a method of a generated client is called."""
    return route.name


def lifespan(settings: Settings, registry: Registry) -> Lifespan:
    """Keeps a client open in `app.state.jobq` while the application runs."""

    @asynccontextmanager
    async def opened(app: FastAPI) -> AsyncIterator[None]:
        async with Client(settings=settings, registry=registry) as client:
            app.state.jobq = client
            yield

    return opened
