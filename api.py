"""The HTTP side of this service: `uvicorn api:app`, then http://127.0.0.1:8000/docs.

With `--http jobq.http.server:Protocol`, as `jobq up` starts it, the head of a request has a deadline, too.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from config import settings
from jobq import Client, telemetry
from jobq.dashboard import routes as dashboard
from jobq.http import batch, contract, docs, health, jobs, logs, queues, tasks, workers
from jobq.http.frame import install_problems
from jobq.http.openapi import describe
from tasks import registry


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    telemetry.configure(settings)
    async with Client(settings=settings, registry=registry) as client:
        app.state.jobq = client
        yield


app = FastAPI(
    title="jobq",
    lifespan=lifespan,
    docs_url=None,  # ours are in docs.router: they work without internet
    redoc_url=None,
    redirect_slashes=False,  # a redirected POST loses its body
    generate_unique_id_function=lambda route: route.name,  # operation ids such as submit_job
)
install_problems(app)
app.include_router(contract.router)
app.include_router(jobs.router, prefix="/v1")
app.include_router(batch.router, prefix="/v1")
app.include_router(logs.router, prefix="/v1")
app.include_router(queues.router, prefix="/v1")
app.include_router(workers.router, prefix="/v1")
app.include_router(tasks.router, prefix="/v1")
app.include_router(health.router)
app.include_router(docs.router)
app.include_router(dashboard.router)
describe(app, registry)
