"""The verbs for queues and workers."""

from __future__ import annotations

from jobq import Client
from jobq.cli.session import confirm, run
from jobq.cli.show import age, model, nearest, notice, rows
from jobq.errors import JobNotFound
from jobq.http.views import QueueInfo, QueueList, WorkerInfo, WorkerList
from jobq.store.inspect import QueueView

__all__ = ["pause", "purge", "queues", "require_queue", "resume", "run", "workers"]


class QueueNotFound(JobNotFound):
    """No queue of this name has ever had a job, and no worker serves one."""


async def require_queue(client: Client, queue: str) -> QueueView:
    """The queue. Raises QueueNotFound, which names the nearest."""
    views = {view.name: view for view in await _views(client)}
    if queue not in views:
        raise QueueNotFound(f"no queue {queue}{nearest(queue, views)}")
    return views[queue]


async def queues(client: Client, as_json: bool) -> int:
    views = await _views(client)
    if as_json:
        model(QueueList(queues=[QueueInfo.of(view) for view in views]))
        return 0
    rows(
        ("queue", "ready", "oldest", "in/s", "completed/s", "failed/s", "workers", "state"),
        [
            (
                view.name,
                view.depth,
                age(view.oldest_seconds),
                *(f"{view.rates.get(name, 0.0):.1f}" for name in ("in", "completed", "failed")),
                view.workers,
                "paused" if view.paused else "running",
            )
            for view in views
        ],
    )
    return 0


async def pause(client: Client, queue: str) -> int:
    await require_queue(client, queue)
    await client.pause(queue)
    notice(f"{queue} is paused; `jobq queues resume {queue}` goes on")
    return 0


async def resume(client: Client, queue: str) -> int:
    await require_queue(client, queue)
    await client.resume(queue)
    notice(f"{queue} goes on")
    return 0


async def purge(client: Client, queue: str, yes: bool) -> int:
    view = await require_queue(client, queue)
    if view.depth == 0:
        notice(f"nothing waits in {queue}")
        return 0
    confirm(f"{view.depth} job{'s' if view.depth > 1 else ''} of {queue} will be forgotten.", yes)
    notice(f"{await client.purge(queue)} forgotten")
    return 0


async def workers(client: Client, as_json: bool) -> int:
    views = await client.inspect.workers()
    if as_json:
        model(WorkerList(workers=[WorkerInfo.of(view) for view in views]))
        return 0
    rows(
        ("worker", "host", "pid", "state", "running", "concurrency", "seen", "queues"),
        [
            (
                info.worker, info.host, info.pid, info.state, len(info.running), info.concurrency,
                age(info.seen_seconds), ",".join(info.queues),
            )
            for info in map(WorkerInfo.of, views)
        ],
    )  # fmt: skip
    if not views:
        notice("no worker is running: start one with `jobq worker`")
    return 0


async def _views(client: Client) -> list[QueueView]:
    served = {name for worker in await client.inspect.workers() for name in worker.queues}
    return await client.inspect.queues(served)
