"""Pages and actions of the dashboard. A new page is a route, a template, and an entry in `page.PAGES`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response

from jobq import telemetry
from jobq.client import Client, JobDetails
from jobq.dashboard import files, guard
from jobq.dashboard.guard import FormDep
from jobq.dashboard.page import HEADERS, PageRoute, go, render
from jobq.dashboard.shared import Shared, slots
from jobq.dashboard.show import log_lines, progress, query, steps
from jobq.errors import BadRequest, JobNotFound
from jobq.http import auth, cursor
from jobq.http.deps import ClientDep, JobId, QueueName, WorkerId
from jobq.http.errors import WorkerNotFound
from jobq.http.timeline import error_view, timeline
from jobq.job import Status
from jobq.policy import Rules
from jobq.settings import NAME
from jobq.store.pages import Filter, Place

SCHEDULED = "scheduled"
"""Not a status, but what people look for as if it were one: pending, and due later."""

router = APIRouter(include_in_schema=False)
_open = APIRouter(prefix="/dashboard", route_class=PageRoute, dependencies=[Depends(guard.same_origin)])
_pages = APIRouter(
    prefix="/dashboard", route_class=PageRoute, dependencies=[Depends(guard.same_origin), Depends(guard.signed_in)]
)


async def get_shared(request: Request, client: ClientDep) -> Shared:
    """One for each client, beside it."""
    shared = getattr(request.app.state, "jobq_dashboard", None)
    if not isinstance(shared, Shared) or shared.client is not client:
        shared = request.app.state.jobq_dashboard = Shared(client)
    return shared


SharedDep = Annotated[Shared, Depends(get_shared)]


@_pages.get("")
@_pages.get("/")
async def overview(request: Request, shared: SharedDep) -> Response:
    return render(
        request, "overview", title="Overview", now=await shared.snapshot(), failures=(await shared.failures()).jobs
    )


@_pages.get("/queues")
async def queues(request: Request, shared: SharedDep) -> Response:
    return render(request, "queues", title="Queues", now=await shared.snapshot())


@_pages.post("/queues/{queue}/pause")
async def pause(queue: QueueName, client: ClientDep, shared: SharedDep) -> Response:
    await client.pause(queue)
    shared.forget()
    return go("../../queues?said=paused")


@_pages.post("/queues/{queue}/resume")
async def resume(queue: QueueName, client: ClientDep, shared: SharedDep) -> Response:
    await client.resume(queue)
    shared.forget()
    return go("../../queues?said=resumed")


@_pages.post("/queues/{queue}/purge")
async def purge(queue: QueueName, form: FormDep, client: ClientDep, shared: SharedDep) -> Response:
    if form.get("confirm", "").strip() != queue:
        raise BadRequest(f"to purge this queue, type its name: {queue}")
    await client.purge(queue)
    shared.forget()
    return go("../../queues?said=purged")


@_pages.get("/jobs")
async def jobs(
    request: Request, shared: SharedDep, status: str = "", task: str = "", queue: str = "", after: str = ""
) -> Response:
    wanted = _filter(status, task.strip(), queue.strip())
    place = cursor.read(after, Place, wanted) if after else Place()
    snapshot, page = await shared.snapshot(), await shared.jobs(wanted, place)
    chosen = {"status": status or None, "task": wanted.task, "queue": wanted.queue}
    following = f"jobs{query(**chosen, after=cursor.write(page.next, wanted))}" if page.next else ""
    return render(
        request, "jobs", title="Jobs", now=snapshot, page=page, chosen=chosen, after=after, following=following,
        itself=f"jobs{query(**chosen, after=after)}", tasks=shared.known_tasks(),
    )  # fmt: skip


@_pages.get("/jobs/{job_id}")
async def job(request: Request, job_id: JobId, client: ClientDep) -> Response:
    details = await client.details(job_id)
    return render(request, "job", title=f"{details.job.task} {job_id[:8]}", **await _job(client, details))


@_pages.get("/jobs/{job_id}/payload")
async def payload(job_id: JobId, client: ClientDep) -> Response:
    return _file((await client.details(job_id)).payload, f"{job_id}-payload.json")


@_pages.get("/jobs/{job_id}/result")
async def result(job_id: JobId, client: ClientDep) -> Response:
    return _file((await client.details(job_id)).result, f"{job_id}-result.json")


@_pages.post("/jobs/{job_id}/retry")
async def retry(job_id: JobId, client: ClientDep, shared: SharedDep) -> Response:
    await client.retry(job_id)
    shared.forget()
    return go(f"../{job_id}?said=retried")


@_pages.post("/jobs/{job_id}/cancel")
async def cancel(job_id: JobId, form: FormDep, client: ClientDep, shared: SharedDep) -> Response:
    status = await client.cancel(job_id, form.get("reason", "").strip())
    shared.forget()
    return go(f"../{job_id}?said={'cancelled' if status is Status.CANCELLED else 'asked'}")


@_pages.post("/jobs/{job_id}/delete")
async def delete(job_id: JobId, client: ClientDep, shared: SharedDep) -> Response:
    await client.delete(job_id)
    shared.forget()
    return go("../../jobs?said=deleted")


@_pages.get("/workers")
async def workers(request: Request, shared: SharedDep) -> Response:
    return render(request, "workers", title="Workers", now=await shared.snapshot(), slots=slots)


@_pages.post("/workers/{worker}/{order}")
async def order(
    worker: WorkerId, order: Annotated[str, Path(pattern="^(quiet|resume|stop)$")], client: ClientDep, shared: SharedDep
) -> Response:
    if not await client.inspect.order(worker, order):
        raise WorkerNotFound("this worker is gone")
    shared.forget()
    return go("../../workers?said=ordered")


@_open.post("/login")
async def login(request: Request, form: FormDep, client: ClientDep) -> Response:
    key, following = guard.api_key(client), form.get("next", "")
    if key is not None and not auth.is_key(client.settings, form.get("key", "")):
        telemetry.logger().warning("dashboard: wrong API key")
        return render(request, "login", 401, title="Sign in", next=following, wrong=True)
    response = go(f"./{following}")  # below the dashboard, whatever it says
    if key is not None:
        guard.sign_in(request, response, key)
    return response


@_open.post("/logout")
async def logout(request: Request) -> Response:
    response = go("./")
    guard.sign_out(request, response)
    return response


router.include_router(_pages)
router.include_router(_open)
router.include_router(files.router)


def _filter(status: str, task: str, queue: str) -> Filter:
    if status and status not in {*Status, SCHEDULED}:
        raise BadRequest(f"status: one of {', '.join((*Status, SCHEDULED))}")
    for name, value in (("task", task), ("queue", queue)):
        if value and not NAME.fullmatch(value):
            raise BadRequest(f"{name}: must match {NAME.pattern}")
    scheduled = status == SCHEDULED
    return Filter("pending" if scheduled else status or None, task or None, queue or None, scheduled=scheduled)


async def _job(client: Client, details: JobDetails) -> dict[str, Any]:
    job = details.job
    task = client.registry.get(job.task) if client.registry else None
    emitted = await client.inspect.emitted(job.job_id)
    told, cancelling = await client.inspect.running(job.job_id)
    return {
        "job": job,
        "now_ms": await client.inspect.now(),
        "max_retries": Rules.of(job.stated(), task, client.settings).max_retries,
        "details": details,
        "error": error_view(job.error),
        "attempts": [{**line, "error": error_view(line.get("error"))} for line in reversed(details.attempts)],
        "steps": steps(timeline(job, details.attempts)),
        "progress": progress(told) if job.status is Status.PROCESSING else None,
        "cancelling": cancelling if job.status is Status.PROCESSING else None,
        "lines": log_lines(emitted),
    }


def _file(text: bytes | None, name: str) -> Response:
    if text is None:
        raise JobNotFound("nothing of it is kept")
    headers = {**HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, headers=headers, media_type="application/json")
