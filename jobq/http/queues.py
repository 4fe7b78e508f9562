"""Queues: what is in them; pause, resume, purge. For the prefix `/v1`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends

from jobq.client import Client
from jobq.errors import BadRequest, StoreUnavailable
from jobq.http.auth import bearer
from jobq.http.deps import ClientDep, QueueName
from jobq.http.errors import BodyTooLarge, BodyTooSlow, Misfit, NotJson, QueueNotFound, Unauthorized, WrongMediaType
from jobq.http.problems import responses
from jobq.http.route import JobRoute
from jobq.http.views import Purged, PurgeQueue, QueueInfo, QueueList

router = APIRouter(prefix="/queues", tags=["queues"], route_class=JobRoute, dependencies=[Depends(bearer)])

Confirmation = Annotated[PurgeQueue, Body(openapi_examples={"the default queue": {"value": {"confirm": "default"}}})]


@router.get("", summary="List queues", responses=responses(Unauthorized, BadRequest, StoreUnavailable))
async def list_queues(client: ClientDep) -> QueueList:
    """All queues that were ever used, and those that tasks name."""
    views = await client.inspect.queues(_named(client))
    return QueueList(queues=[QueueInfo.of(view) for view in views])


@router.get(
    "/{queue}", summary="Read a queue", responses=responses(Unauthorized, QueueNotFound, BadRequest, StoreUnavailable)
)
async def get_queue(queue: QueueName, client: ClientDep) -> QueueInfo:
    """How many jobs are ready, how long they wait, how many come and go, and how many workers serve it."""
    info = await _queue(client, queue)
    used = await client.inspect.queue_names(_named(client))
    if queue not in used and not (info.depth or info.paused or info.workers):
        raise QueueNotFound("nobody ever used a queue of this name; GET /v1/queues lists those there are")
    return info


@router.post("/{queue}/pause", summary="Pause a queue", responses=responses(Unauthorized, BadRequest, StoreUnavailable))
async def pause_queue(queue: QueueName, client: ClientDep) -> QueueInfo:
    """Have no worker claim from it any more. What runs goes on, and submits are still taken."""
    await client.pause(queue)
    return await _queue(client, queue)


@router.post(
    "/{queue}/resume", summary="Resume a queue", responses=responses(Unauthorized, BadRequest, StoreUnavailable)
)
async def resume_queue(queue: QueueName, client: ClientDep) -> QueueInfo:
    """Have workers claim from it again."""
    await client.resume(queue)
    return await _queue(client, queue)


@router.post(
    "/{queue}/purge",
    summary="Forget all jobs that are ready in a queue",
    responses=responses(NotJson, Unauthorized, BodyTooLarge, BodyTooSlow, WrongMediaType, BadRequest, StoreUnavailable),
)
async def purge_queue(queue: QueueName, body: Confirmation, client: ClientDep) -> Purged:
    """Erase them. What runs, or waits for its time, stays."""
    if body.confirm != queue:
        raise Misfit([(("body", "confirm"), "the name of the queue that is to be purged")])
    return Purged(purged=await client.purge(queue))


async def _queue(client: Client, queue: str) -> QueueInfo:
    views = await client.inspect.queues([queue])
    return next(QueueInfo.of(view) for view in views if view.name == queue)


def _named(client: Client) -> list[str]:
    return client.registry.queues() if client.registry else []
