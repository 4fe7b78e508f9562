"""Tasks: what the service can do, and who does it. For the prefix `/v1`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends

from jobq.client import Client
from jobq.errors import BadRequest, StoreUnavailable, UnknownTask
from jobq.http.auth import bearer
from jobq.http.deps import ClientDep, TaskName
from jobq.http.errors import TaskNotFound, Unauthorized
from jobq.http.problems import responses
from jobq.http.route import JobRoute
from jobq.http.views import TaskInfo, TaskList
from jobq.job import Stated
from jobq.policy import Rules
from jobq.task import Registry, Task

router = APIRouter(prefix="/tasks", tags=["tasks"], route_class=JobRoute, dependencies=[Depends(bearer)])


@router.get("", summary="List tasks", responses=responses(Unauthorized, BadRequest, StoreUnavailable))
async def list_tasks(client: ClientDep) -> TaskList:
    """All tasks by name, with what holds for their jobs and the workers that serve them."""
    registry = client.registry or Registry()
    return TaskList(tasks=await _shown(client, [registry.require(name) for name in registry.names()]))


@router.get(
    "/{task}", summary="Read a task", responses=responses(Unauthorized, TaskNotFound, BadRequest, StoreUnavailable)
)
async def get_task(task: TaskName, client: ClientDep) -> TaskInfo:
    """What it does, the JSON Schema of its payload, what holds for its jobs, and the workers that serve it."""
    try:
        known = (client.registry or Registry()).require(task)
    except UnknownTask as error:
        raise TaskNotFound(str(error)) from None
    [info] = await _shown(client, [known])
    return info


async def _shown(client: Client, tasks: list[Task[..., Any]]) -> list[TaskInfo]:
    workers = await client.inspect.workers()
    return [TaskInfo.of(task, Rules.of(Stated(), task, client.settings), workers) for task in tasks]
