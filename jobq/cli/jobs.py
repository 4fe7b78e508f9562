"""The verbs that look at jobs and change them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TextIO

from jobq import Client, Job, JobDetails, Status
from jobq.cli.follow import Seen, Show, follow, progress_text
from jobq.cli.frame import FAILED, clean, exit_code
from jobq.cli.queues import require_queue
from jobq.cli.session import confirm, run
from jobq.cli.show import Board, fields, model, moment, nearest, notice, on_terminal, raw, rows
from jobq.client import outcome
from jobq.errors import (
    BadRequest,
    Conflict,
    CorruptRecord,
    JobCancelled,
    JobFailed,
    JobNotFound,
    JobqError,
    UnknownTask,
)
from jobq.http.schemas import JobList, JobSummary, JobView
from jobq.http.timeline import error_view
from jobq.http.views import WorkerInfo
from jobq.policy import Rules
from jobq.store.inspect import WorkerView
from jobq.store.pages import Filter, Place

__all__ = ["cancel", "jobs", "place", "result", "retry", "retry_failed", "run", "status", "wanted", "watch"]

AT_ONCE = 50
PAGE = 1000


async def status(client: Client, job_id: str, as_json: bool) -> int:
    if as_json:
        raw(await _view(client, await client.details(job_id)))
    else:
        await print_job(client, job_id)
    return 0


async def print_job(client: Client, job_id: str) -> None:
    """Everything about a job, a line for each thing."""
    found = await client.details(job_id)
    job = found.job
    fields(
        [
            ("job_id", job.job_id),
            ("task", job.task),
            ("status", job.status.value),
            ("retries", f"{job.retries} of {_rules(client, job).max_retries}" if on_terminal() else job.retries),
            ("queue", job.queue),
            ("priority", job.priority),
            ("created", moment(job.created_at)),
            ("due", moment(job.run_at)),
            ("started", moment(job.started_at)),
            ("finished", moment(job.finished_at)),
            ("worker", job.worker),
            ("progress", None if job.status.over else progress_text(await client.inspect.progress(job_id))),
            ("payload", _text(found.payload)),
            ("result", _text(found.result)),
            ("error", error_text(job)),
        ]
    )
    error = error_view(job.error)
    if on_terminal() and error and "traceback" in error:
        print("\n" + "\n".join(map(clean, error["traceback"].splitlines())))


async def result(client: Client, job_id: str, limit: float | None) -> int:
    (details,) = await follow(client, [job_id], limit, in_place(sys.stderr) if limit != 0 else _nothing)
    print_result(details)
    return 0


def print_result(details: JobDetails) -> None:
    """The result as JSON. Raises JobFailed, which names the job and its error."""
    try:
        raw(outcome(details) or b"null")
    except JobFailed as error:
        job_id = details.job.job_id
        if isinstance(error, JobCancelled):
            raise JobCancelled(f"job {job_id} was cancelled: {error}") from None
        raise JobFailed(f"job {job_id} failed: {error_text(details.job) or error}") from None


async def jobs(client: Client, filter: Filter, place: Place, limit: int, as_json: bool) -> int:
    if filter.queue:
        await require_queue(client, filter.queue)
    page = await client.inspect.jobs(filter, place, limit)
    if not page.jobs and filter.task:
        await _require_task(client, filter.task)
    cursor = None
    if page.next:
        from jobq.http.cursor import write  # noqa: PLC0415  # it brings FastAPI along

        cursor = write(page.next, filter)
    if as_json:
        summaries = [JobSummary.of(job, _rules(client, job)) for job in page.jobs]
        model(JobList(jobs=summaries, next_cursor=cursor, capped=page.capped))
        return 0
    rows(
        ("job_id", "task", "queue", "status", "retries", "created", "error"),
        [
            (j.job_id, j.task, j.queue, j.status.value, j.retries, moment(j.created_at), error_text(j))
            for j in page.jobs
        ],
    )
    if cursor:
        notice(f"{'so far 5,000 jobs were looked at' if page.capped else 'there are more'}: --cursor {cursor}")
    return 0


async def watch(client: Client, job_ids: Sequence[str], limit: float | None, as_json: bool) -> int:
    show = in_place(sys.stdout) if on_terminal() else _as_lines()
    followed = await follow(client, job_ids, limit, _nothing if as_json else show)
    if as_json:
        raw(b"[%s]" % b",".join([await _view(client, details) for details in followed]))
    return 0 if all(details.job.status is Status.COMPLETED for details in followed) else FAILED


async def cancel(client: Client, job_ids: Sequence[str], reason: str) -> int:
    async def one(job_id: str) -> str:
        now = await client.cancel(job_id, reason)
        if now is Status.PROCESSING:
            notice(f"job {job_id} runs: its worker has been asked to cancel it")
        return now.value

    return await _each(job_ids, one)


async def retry(client: Client, job_ids: Sequence[str]) -> int:
    async def one(job_id: str) -> str:
        await client.retry(job_id)
        return Status.PENDING.value

    return await _each(job_ids, one)


async def retry_failed(client: Client, filter: Filter, yes: bool) -> int:
    if filter.queue:
        await require_queue(client, filter.queue)
    if filter.task:
        await _require_task(client, filter.task)
    # All are found before the first is retried: a retried job that fails at once must not be met again.
    ids = await _all(client, filter)
    if not ids:
        notice("no job has failed" + (" there" if filter.task or filter.queue else ""))
        return 0
    confirm(f"{len(ids)} failed job{'s' if len(ids) > 1 else ''} will be retried.", yes)
    retried = 0
    for start in range(0, len(ids), AT_ONCE):
        batch = (client.retry(job_id) for job_id in ids[start : start + AT_ONCE])
        for answer in await asyncio.gather(*batch, return_exceptions=True):
            # Somebody else has retried it meanwhile, or it has been forgotten.
            if isinstance(answer, Conflict | CorruptRecord | JobNotFound):
                continue
            if isinstance(answer, BaseException):
                raise answer
            retried += 1
    notice(f"{retried} of {len(ids)} retried")
    return 0


def wanted(status: str | None, task: str | None, queue: str | None) -> Filter:
    if status is not None and status not in list(Status):
        raise BadRequest(f"--status: expected one of {', '.join(Status)}{nearest(status, Status)}")
    return Filter(status, task, queue)


def place(cursor: str | None, filter: Filter) -> Place:
    """Where a page goes on. Raises BadRequest."""
    if cursor is None:
        return Place()
    from jobq.http.cursor import read  # noqa: PLC0415  # it brings FastAPI along

    try:
        return read(cursor, Place, filter)
    except JobqError as error:
        raise BadRequest(f"--cursor: {error}") from None


def error_text(job: Job) -> str:
    error = error_view(job.error)
    return f"{error['type']}: {error['message']}" if error else ""


async def _each(job_ids: Sequence[str], act: Callable[[str], Awaitable[str]]) -> int:
    """Do this to each, whatever becomes of the others. The exit code of the first that went wrong."""
    code = 0
    for job_id in job_ids:
        try:
            print(f"{job_id}\t{await act(job_id)}")
        except (Conflict, CorruptRecord, JobNotFound, BadRequest) as error:
            notice(f"jobq: {error}")
            code = code or exit_code(error)
    return code


async def _all(client: Client, filter: Filter) -> list[str]:
    ids: list[str] = []
    place: Place | None = Place()
    while place is not None:
        page = await client.inspect.jobs(filter, place, PAGE)
        ids += [job.job_id for job in page.jobs]
        place = page.next
    return ids


def known_tasks(workers: Sequence[WorkerView]) -> set[str]:
    return {task for worker in workers for task in WorkerInfo.of(worker).tasks}


async def _require_task(client: Client, task: str) -> None:
    """Raise UnknownTask when no worker knows it: then it is a mistake, if no job has this name either."""
    known = known_tasks(await client.inspect.workers())
    if task in known or (await client.inspect.jobs(Filter(task=task), Place(), 1)).jobs:
        return
    raise UnknownTask(f"no task {task} and no job of it{nearest(task, known)}")


async def _view(client: Client, details: JobDetails) -> bytes:
    """The job as `GET /v1/jobs/{id}` tells it."""
    job = details.job
    view = JobView.whole(details, _rules(client, job))
    if job.status is Status.PROCESSING:
        view.runs(*await client.inspect.running(job.job_id))
    return view.text(details.payload, details.result)


def _text(stored: bytes | None) -> str:
    return (stored or b"").decode(errors="replace")


def _rules(client: Client, job: Job) -> Rules:
    task = client.registry.get(job.task) if client.registry else None
    return Rules.of(job.stated(), task, client.settings)


def in_place(stream: TextIO) -> Show:
    """Lines that change, for people; nothing where the stream is no terminal."""
    board = Board(stream)
    return lambda seen: board.draw([one.line(with_id=len(seen) > 1) for one in seen])


def _as_lines() -> Show:
    """A further line for each change, for programs."""
    known: dict[str, Seen] = {}

    def show(seen: Sequence[Seen]) -> None:
        for one in seen:
            job = one.job
            if known.get(job.job_id) != one:
                known[job.job_id] = one
                rows((), [(job.job_id, job.task, job.status.value, job.retries, one.progress)])
                sys.stdout.flush()

    return show


def _nothing(seen: Sequence[Seen]) -> None:
    """For those who want only the end."""
