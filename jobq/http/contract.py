"""The given contract: submit a job, and ask for its status. Exactly these keys, and none more."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from jobq.errors import (
    BadRequest,
    CorruptRecord,
    IdempotencyMismatch,
    InvalidPayload,
    JobNotFound,
    PayloadTooLarge,
    QueueFull,
    StoreFull,
    StoreUnavailable,
    UnknownTask,
)
from jobq.http.auth import bearer
from jobq.http.deps import ClientDep, IdempotencyKey, JobId, PayloadDep
from jobq.http.errors import BadIdempotencyKey, BodyTooLarge, BodyTooSlow, NotJson, Unauthorized, WrongMediaType
from jobq.http.problems import responses
from jobq.http.request import here, replayed
from jobq.http.route import JobRoute
from jobq.http.schemas import JobAccepted, JobStatus, SubmitJob

router = APIRouter(tags=["jobs"], route_class=JobRoute, dependencies=[Depends(bearer)])


@router.post(
    "/submit-job",
    summary="Submit a job",
    response_description="The job is stored. `Location` is where to ask for its status.",
    responses=responses(
        NotJson, BadIdempotencyKey, Unauthorized, BodyTooLarge, BodyTooSlow, PayloadTooLarge, WrongMediaType,
        BadRequest, UnknownTask, InvalidPayload, IdempotencyMismatch, StoreUnavailable, StoreFull,
        QueueFull,
    ),
)  # fmt: skip
async def submit_job(
    job: SubmitJob, payload: PayloadDep, key: IdempotencyKey, client: ClientDep, request: Request, response: Response
) -> JobAccepted:
    """Store a job that runs `task` as soon as a worker is free, or when it says."""
    spec = client.spec(job.task, payload).with_options(**job.options(key))
    handle = await client.submit(spec)
    response.headers["Location"] = f"{here(request).removesuffix('submit-job')}job-status/{handle.job_id}"
    response.headers.update(replayed(handle))
    return JobAccepted(job_id=handle.job_id)


@router.get(
    "/job-status/{job_id}",
    summary="Ask for a job's status",
    responses=responses(Unauthorized, JobNotFound, CorruptRecord, BadRequest, StoreUnavailable),
)
async def get_job_status(job_id: JobId, client: ClientDep) -> JobStatus:
    """A job in four words: one that was cancelled reads `failed` here."""
    return JobStatus.of(await client.get(job_id))
