"""Workers: who is alive, what each runs; quiet, stop. For the prefix `/v1`."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Depends

from jobq.client import Client
from jobq.errors import BadRequest, StoreUnavailable
from jobq.http.auth import bearer
from jobq.http.deps import ClientDep, WorkerId
from jobq.http.errors import Unauthorized, WorkerNotFound
from jobq.http.problems import responses
from jobq.http.route import JobRoute
from jobq.http.views import WorkerInfo, WorkerList, WorkerOrder

router = APIRouter(prefix="/workers", tags=["workers"], route_class=JobRoute, dependencies=[Depends(bearer)])


@router.get("", summary="List workers", responses=responses(Unauthorized, BadRequest, StoreUnavailable))
async def list_workers(client: ClientDep) -> WorkerList:
    """The workers that were heard of within the last ten seconds, and what each of them runs."""
    views = await client.inspect.workers()
    return WorkerList(workers=[WorkerInfo.of(view) for view in views])


@router.post(
    "/{worker}/quiet",
    status_code=202,
    summary="Have a worker claim no more",
    responses=responses(Unauthorized, WorkerNotFound, BadRequest, StoreUnavailable),
)
async def quiet_worker(worker: WorkerId, client: ClientDep) -> WorkerOrder:
    """It finishes what it runs, and stays."""
    return await _order(client, worker, "quiet")


@router.post(
    "/{worker}/stop",
    status_code=202,
    summary="Stop a worker",
    responses=responses(Unauthorized, WorkerNotFound, BadRequest, StoreUnavailable),
)
async def stop_worker(worker: WorkerId, client: ClientDep) -> WorkerOrder:
    """It finishes what it runs within its drain limit, gives back the rest, and ends."""
    return await _order(client, worker, "stop")


async def _order(client: Client, worker: str, order: Literal["quiet", "stop"]) -> WorkerOrder:
    if not await client.inspect.order(worker, order):
        raise WorkerNotFound("no worker of this id is there; GET /v1/workers lists those there are")
    return WorkerOrder(worker=worker, order=order)
