"""Jobs with all that is known of them: submit, list, read, cancel, retry, delete. For the prefix `/v1`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query, Request, Response

from jobq.client import Client, JobDetails, outcome
from jobq.errors import (
    BadRequest,
    Conflict,
    CorruptRecord,
    IdempotencyMismatch,
    InvalidPayload,
    JobCancelled,
    JobFailed,
    JobNotFound,
    PayloadTooLarge,
    QueueFull,
    ResultExpired,
    StoreFull,
    StoreUnavailable,
    UnknownTask,
)
from jobq.http import cursor
from jobq.http.auth import bearer
from jobq.http.deps import ClientDep, IdempotencyKey, JobId, PayloadDep, Wait
from jobq.http.errors import (
    BadCursor,
    BadIdempotencyKey,
    BodyTooLarge,
    BodyTooSlow,
    NotJson,
    Unauthorized,
    WrongMediaType,
)
from jobq.http.problems import responses
from jobq.http.request import here, next_page, replayed
from jobq.http.route import JobRoute
from jobq.http.schemas import CancelJob, JobList, JobsQuery, JobSummary, JobView, NewJob
from jobq.http.waiting import settled
from jobq.job import Job, Status
from jobq.policy import Rules
from jobq.store.pages import Place

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=JobRoute, dependencies=[Depends(bearer)])

Reason = Annotated[CancelJob | None, Body(openapi_examples={"a reason": {"value": {"reason": "no longer needed"}}})]

SOON = {"Retry-After": "1"}


@router.post(
    "",
    status_code=202,
    summary="Submit a job, and see it whole",
    response_model=JobView,
    response_description="The job is stored. `Location` is where to read it.",
    responses={
        200: {
            "model": JobView,
            "description": "A job of that `job_id` or Idempotency-Key existed: this one. Or it was over within `wait`.",
        },
        **responses(
            NotJson, BadIdempotencyKey, Unauthorized, JobNotFound, BodyTooLarge, BodyTooSlow, PayloadTooLarge,
            WrongMediaType, BadRequest, UnknownTask, InvalidPayload, IdempotencyMismatch, StoreUnavailable, StoreFull,
            QueueFull,
        ),
    },
)  # fmt: skip
async def create_job(
    job: NewJob, payload: PayloadDep, key: IdempotencyKey, client: ClientDep, request: Request, wait: Wait = 0
) -> Response:
    """Store a job that runs `task` as soon as a worker is free, or when it says."""
    spec = client.spec(job.task, payload).with_options(**job.options(key))
    handle = await client.submit(spec)
    details = await settled(request, client, handle.job_id, wait)
    done = not handle.created or (wait and details.job.status.over)
    where = f"{here(request)}/{handle.job_id}"
    return await _view(client, details, 200 if done else 202, Location=where, **replayed(handle))


@router.get(
    "",
    summary="List jobs",
    response_description="A page of them. `Link` leads to the next one.",
    responses=responses(BadCursor, Unauthorized, BadRequest, StoreUnavailable),
)
async def list_jobs(
    query: Annotated[JobsQuery, Query()], client: ClientDep, request: Request, response: Response
) -> JobList:
    """Running jobs, waiting ones in their order, then those that are over, newest first."""
    wanted = query.filter()
    place = cursor.read(query.cursor, Place, wanted) if query.cursor else Place()
    queues = client.registry.queues() if client.registry else ()
    page = await client.inspect.jobs(wanted, place, query.limit, queues)
    following = cursor.write(page.next, wanted) if page.next else None
    response.headers.update(next_page(request, following))
    jobs = [JobSummary.of(job, _rules(client, job)) for job in page.jobs]
    return JobList(jobs=jobs, next_cursor=following, capped=page.capped)


@router.get(
    "/{job_id}",
    summary="Read a job",
    response_model=JobView,
    responses=responses(Unauthorized, JobNotFound, CorruptRecord, BadRequest, StoreUnavailable),
)
async def get_job(job_id: JobId, client: ClientDep, request: Request, wait: Wait = 0) -> Response:
    """A job with its payload, its result or error, and its timeline."""
    return await _view(client, await settled(request, client, job_id, wait))


@router.get(
    "/{job_id}/result",
    summary="Read a job's result",
    response_class=Response,
    responses={
        200: {"content": {"application/json": {"schema": {}}}, "description": "What the task returned."},
        202: {"model": JobView, "description": "Not over yet: the job as it is now."},
        **responses(
            Unauthorized, JobNotFound, ResultExpired, JobFailed, JobCancelled, CorruptRecord, BadRequest,
            StoreUnavailable,
        ),
    },
)  # fmt: skip
async def get_job_result(job_id: JobId, client: ClientDep, request: Request, wait: Wait = 0) -> Response:
    """What the task returned, byte for byte as it is stored."""
    details = await settled(request, client, job_id, wait)
    if not details.job.status.over:
        return await _view(client, details, 202, **SOON)
    return Response(outcome(details) or b"null", media_type="application/json")


@router.post(
    "/{job_id}/cancel",
    summary="Cancel a job",
    response_model=JobView,
    response_description="It was cancelled, and will not run.",
    responses={
        202: {"model": JobView, "description": "It runs: its worker has been asked to stop it."},
        **responses(
            NotJson, Unauthorized, JobNotFound, Conflict, CorruptRecord, BodyTooLarge, BodyTooSlow, WrongMediaType,
            BadRequest, StoreUnavailable,
        ),
    },
)  # fmt: skip
async def cancel_job(job_id: JobId, client: ClientDep, body: Reason = None) -> Response:
    """Cancel a job that is not over."""
    status = await client.cancel(job_id, body.reason if body else "")
    details = await client.details(job_id)
    return await (_view(client, details) if status is Status.CANCELLED else _view(client, details, 202, **SOON))


@router.post(
    "/{job_id}/retry",
    status_code=202,
    summary="Retry a job that failed or was cancelled",
    response_model=JobView,
    response_description="It is in its queue again, with all its retries.",
    responses=responses(Unauthorized, JobNotFound, Conflict, CorruptRecord, BadRequest, StoreUnavailable),
)
async def retry_job(job_id: JobId, client: ClientDep, request: Request) -> Response:
    """Put the job back into its queue with a fresh retry budget."""
    await client.retry(job_id)
    details = await client.details(job_id)
    return await _view(client, details, 202, Location=here(request).removesuffix("/retry"))


@router.delete(
    "/{job_id}",
    status_code=204,
    summary="Delete a job",
    response_description="Record, payload and result are erased.",
    responses=responses(Unauthorized, JobNotFound, Conflict, CorruptRecord, BadRequest, StoreUnavailable),
)
async def delete_job(job_id: JobId, client: ClientDep) -> None:
    """Erase a job that does not run. Deleting it again changes nothing."""
    await client.delete(job_id)


async def _view(client: Client, details: JobDetails, status: int = 200, **headers: str) -> Response:
    job = details.job
    view = JobView.whole(details, _rules(client, job))
    if job.status is Status.PROCESSING:
        view.runs(*await client.inspect.running(job.job_id))
    return Response(view.text(details.payload, details.result), status, headers, media_type="application/json")


def _rules(client: Client, job: Job) -> Rules:
    task = client.registry.get(job.task) if client.registry else None
    return Rules.of(job.stated(), task, client.settings)
