"""The given contract: submit a job, and ask for its status. Exactly these keys, and none more."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from jobq.errors import (
    BadRequest,
    CorruptRecord,
    InvalidPayload,
    JobNotFound,
    PayloadTooLarge,
    StoreFull,
    StoreUnavailable,
    UnknownTask,
)
from jobq.http.deps import ClientDep, JobId, PayloadDep
from jobq.http.errors import BodyTooLarge, NotJson, WrongMediaType
from jobq.http.problems import responses
from jobq.http.request import here
from jobq.http.route import JobRoute
from jobq.http.schemas import JobAccepted, JobStatus, SubmitJob

router = APIRouter(tags=["jobs"], route_class=JobRoute)


@router.post(
    "/submit-job",
    summary="Submit a job",
    response_description="The job is stored. `Location` is where to ask for its status.",
    responses=responses(
        NotJson, BodyTooLarge, PayloadTooLarge, WrongMediaType, BadRequest, UnknownTask, InvalidPayload,
        StoreUnavailable, StoreFull,
    ),
)  # fmt: skip
async def submit_job(
    job: SubmitJob, payload: PayloadDep, client: ClientDep, request: Request, response: Response
) -> JobAccepted:
    """Store a job that runs `task` as soon as a worker is free, or when it says."""
    spec = client.spec(job.task, payload).with_options(**job.options())
    handle = await client.submit(spec)
    response.headers["Location"] = f"{here(request).removesuffix('submit-job')}job-status/{handle.job_id}"
    return JobAccepted(job_id=handle.job_id)


@router.get(
    "/job-status/{job_id}",
    summary="Ask for a job's status",
    responses=responses(JobNotFound, CorruptRecord, BadRequest, StoreUnavailable),
)
async def get_job_status(job_id: JobId, client: ClientDep) -> JobStatus:
    """A job in four words: one that was cancelled reads `failed` here."""
    return JobStatus.of(await client.get(job_id))
