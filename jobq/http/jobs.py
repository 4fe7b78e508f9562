"""Jobs with all that is known of them: submit, read, cancel, retry. For the prefix `/v1`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Request, Response

from jobq.client import Client, JobDetails, outcome
from jobq.errors import (
    BadRequest,
    Conflict,
    CorruptRecord,
    InvalidPayload,
    JobCancelled,
    JobFailed,
    JobNotFound,
    PayloadTooLarge,
    ResultExpired,
    StoreFull,
    StoreUnavailable,
    UnknownTask,
)
from jobq.http.deps import ClientDep, JobId, PayloadDep
from jobq.http.errors import BodyTooLarge, NotJson, WrongMediaType
from jobq.http.problems import responses
from jobq.http.request import here
from jobq.http.route import JobRoute
from jobq.http.schemas import CancelJob, JobView, NewJob
from jobq.job import Status
from jobq.policy import Rules

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=JobRoute)

Reason = Annotated[CancelJob | None, Body(openapi_examples={"a reason": {"value": {"reason": "no longer needed"}}})]

SOON = {"Retry-After": "1"}


@router.post(
    "",
    status_code=202,
    summary="Submit a job, and see it whole",
    response_model=JobView,
    response_description="The job is stored. `Location` is where to read it.",
    responses={
        200: {"model": JobView, "description": "A job of that `job_id` existed: this one."},
        **responses(
            NotJson, BodyTooLarge, PayloadTooLarge, WrongMediaType, BadRequest, UnknownTask, InvalidPayload,
            StoreUnavailable, StoreFull,
        ),
    },
)  # fmt: skip
async def create_job(job: NewJob, payload: PayloadDep, client: ClientDep, request: Request) -> Response:
    """Store a job that runs `task` as soon as a worker is free, or when it says."""
    spec = client.spec(job.task, payload).with_options(**job.options())
    handle = await client.submit(spec)
    details = await client.details(handle.job_id)
    return _view(client, details, 202 if handle.created else 200, Location=f"{here(request)}/{handle.job_id}")


@router.get(
    "/{job_id}",
    summary="Read a job",
    response_model=JobView,
    responses=responses(JobNotFound, CorruptRecord, BadRequest, StoreUnavailable),
)
async def get_job(job_id: JobId, client: ClientDep) -> Response:
    """A job with its payload, its result or error, and its timeline."""
    return _view(client, await client.details(job_id))


@router.get(
    "/{job_id}/result",
    summary="Read a job's result",
    response_class=Response,
    responses={
        200: {"content": {"application/json": {"schema": {}}}, "description": "What the task returned."},
        202: {"model": JobView, "description": "Not over yet: the job as it is now."},
        **responses(JobNotFound, ResultExpired, JobFailed, JobCancelled, CorruptRecord, BadRequest, StoreUnavailable),
    },
)
async def get_job_result(job_id: JobId, client: ClientDep) -> Response:
    """What the task returned, byte for byte as it is stored."""
    details = await client.details(job_id)
    if not details.job.status.over:
        return _view(client, details, 202, **SOON)
    return Response(outcome(details) or b"null", media_type="application/json")


@router.post(
    "/{job_id}/cancel",
    summary="Cancel a job",
    response_model=JobView,
    response_description="It was cancelled, and will not run.",
    responses={
        202: {"model": JobView, "description": "It runs: its worker has been asked to stop it."},
        **responses(
            NotJson, JobNotFound, Conflict, CorruptRecord, BodyTooLarge, WrongMediaType, BadRequest, StoreUnavailable
        ),
    },
)
async def cancel_job(job_id: JobId, client: ClientDep, body: Reason = None) -> Response:
    """Cancel a job that is not over."""
    status = await client.cancel(job_id, body.reason if body else "")
    details = await client.details(job_id)
    return _view(client, details) if status is Status.CANCELLED else _view(client, details, 202, **SOON)


@router.post(
    "/{job_id}/retry",
    status_code=202,
    summary="Retry a job that failed or was cancelled",
    response_model=JobView,
    response_description="It is in its queue again, with all its retries.",
    responses=responses(JobNotFound, Conflict, CorruptRecord, BadRequest, StoreUnavailable),
)
async def retry_job(job_id: JobId, client: ClientDep, request: Request) -> Response:
    """Put the job back into its queue with a fresh retry budget."""
    await client.retry(job_id)
    details = await client.details(job_id)
    return _view(client, details, 202, Location=here(request).removesuffix("/retry"))


def _view(client: Client, details: JobDetails, status: int = 200, **headers: str) -> Response:
    task = client.registry.get(details.job.task) if client.registry else None
    view = JobView.of(details, Rules.of(details.job.stated(), task, client.settings))
    return Response(view.text(details.payload, details.result), status, headers, media_type="application/json")
