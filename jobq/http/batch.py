"""Many jobs in one request. For the prefix `/v1`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request
from pydantic import ValidationError

from jobq.client import Client
from jobq.errors import BadRequest, JobqError, QueueFull, StoreFull, StoreUnavailable
from jobq.http.auth import bearer
from jobq.http.deps import ClientDep, payload_of
from jobq.http.errors import BodyTooLarge, BodyTooSlow, Misfit, NotJson, Unauthorized, WrongMediaType, problem_of, told
from jobq.http.problems import responses
from jobq.http.route import JobRequest, JobRoute
from jobq.http.schemas import BatchAccepted, BatchSubmit, NewJob, Problem, Rejection
from jobq.store.store import SUBMIT_BATCH
from jobq.task import JobSpec

MAX_BODY = 16 * 1024 * 1024


class BatchRequest(JobRequest):
    """A request with as much room as a batch needs, and as much depth for each of its jobs as one alone has."""

    max_body = MAX_BODY
    max_depth = JobRequest.max_depth + 2


class BatchRoute(JobRoute):
    """A route for batches."""

    request_class = BatchRequest


router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=BatchRoute, dependencies=[Depends(bearer)])


@router.post(
    "/batch",
    status_code=202,
    summary="Submit many jobs",
    response_model_exclude_unset=True,
    response_description="Those that could be are stored, and for each of the others it says why it is not.",
    responses=responses(
        NotJson, Unauthorized, BodyTooLarge, BodyTooSlow, WrongMediaType, BadRequest, StoreUnavailable, StoreFull,
        QueueFull,
    ),
)  # fmt: skip
async def submit_batch(
    batch: Annotated[BatchSubmit, Body()],
    client: ClientDep,
    request: Request,
    atomic: Annotated[bool, Query(description=f"All or nothing; at most {SUBMIT_BATCH} jobs.")] = False,
) -> BatchAccepted:
    """Store up to 10,000 jobs. One that cannot be stored does not hold up the others, unless `atomic` says so."""
    payloads = [payload_of(job, text) for job, text in zip(batch.jobs, _items(await request.body()), strict=True)]
    if not atomic:
        return await _store_lots(client, request, batch.jobs, payloads)
    handles = await client.submit_many(_all_specs(client, batch.jobs, payloads), atomic=True)
    return BatchAccepted(accepted=[handle.job_id for handle in handles], rejected=[])


async def _store_lots(client: Client, request: Request, jobs: list[Any], payloads: list[bytes]) -> BatchAccepted:
    """In lots, so that other requests have their turn in between."""
    stored, failed = BatchAccepted(accepted=[], rejected=[]), None
    for start in range(0, len(jobs), SUBMIT_BATCH):
        stop = min(start + SUBMIT_BATCH, len(jobs))
        specs: dict[int, JobSpec[Any]] = {}
        for index in range(start, stop):
            try:
                specs[index] = _spec(client, jobs[index], payloads[index])
            except JobqError as error:
                stored.rejected.append(_rejection(request, index, error))
        try:
            handles = await client.submit_many(specs.values())
        except StoreUnavailable as error:
            failed, handles = error, list(error.stored)
            refused = [list(specs)[place] for place in error.refused or range(len(specs))]
            if not isinstance(error, QueueFull):
                refused += range(stop, len(jobs))
            stored.rejected += [_rejection(request, index, error) for index in refused]
        stored.accepted += [handle.job_id for handle in handles]
        if failed and not isinstance(failed, QueueFull):
            break
    if failed and not stored.accepted:
        raise failed
    return stored


def _all_specs(client: Client, jobs: list[Any], payloads: list[bytes]) -> list[JobSpec[Any]]:
    """Raises Misfit with all that is wrong."""
    if len(jobs) > SUBMIT_BATCH:
        raise Misfit([(("body", "jobs"), f"at most {SUBMIT_BATCH} jobs can be stored all or nothing")])
    specs, errors = [], []
    for index, (job, payload) in enumerate(zip(jobs, payloads, strict=True)):
        try:
            specs.append(_spec(client, job, payload))
        except JobqError as error:
            problem = told(error)
            for wrong in problem.get("errors") or [{"loc": ["body"], "msg": problem["detail"]}]:
                errors.append((("body", "jobs", index, *wrong["loc"][1:]), wrong["msg"]))
    if errors:
        raise Misfit(errors)
    return specs


def _spec(client: Client, job: Any, payload: bytes) -> JobSpec[Any]:
    """As a submit of this job alone would make it. Raises what that would be answered with."""
    try:
        asked = NewJob.model_validate(job, from_attributes=True)
    except ValidationError as error:
        raise Misfit((("body", *e["loc"]), e["msg"]) for e in error.errors(include_url=False)) from None
    return client.spec(asked.task, payload).with_options(**asked.options())


def _rejection(request: Request, index: int, error: JobqError) -> Rejection:
    return Rejection(index=index, problem=Problem.model_validate(problem_of(request, error)))


def _items(body: bytes) -> Iterator[str]:
    """The jobs as text. The body is known to be an object with a list for its only member."""
    text = body.decode()
    at = _SPACE.match(text, text.index("[") + 1).end()  # type: ignore[union-attr]
    while text[at] != "]":
        end = _DECODER.raw_decode(text, at)[1]
        yield text[at:end]
        at = _COMMA.match(text, end).end()  # type: ignore[union-attr]


_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_COMMA = re.compile(r"[ \t\n\r]*,?[ \t\n\r]*")
