"""A FastAPI application of your own with the whole API of jobq below /jobs.

In this folder:

    uvicorn mounted_fastapi:app
    python -m jobq worker --app mounted_fastapi:registry
    curl -d '{"item": "book"}' -H 'Content-Type: application/json' http://127.0.0.1:8000/orders
    curl http://127.0.0.1:8000/jobs/job-status/<job_id>
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import BaseModel

from jobq import Client, Registry
from jobq.http import install

registry = Registry()
client = Client(registry=registry)


class Order(BaseModel):
    item: str


@registry.task
async def ship(order: Order) -> str:
    return f"{order.item} is on its way"


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with client:
        yield


app = FastAPI(title="A shop", lifespan=lifespan)
install(app, client, prefix="/jobs")


@app.post("/orders", status_code=202)
async def take(order: Order) -> dict[str, str]:
    job = await client.submit(ship.job(order), priority=5)
    return {"job_id": job.job_id}
