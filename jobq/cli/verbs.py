"""The verbs for jobs and queues: what may be typed. What they do is in `submit.py`, `jobs.py`, `queues.py`, `about.py`.

Data goes to stdout, everything else to stderr. On a terminal that is for people, in a pipe for programs.
"""

# ruff: noqa: PLC0415  # see jobq.cli

from __future__ import annotations

from typing import Annotated

import typer

from jobq.cli.frame import add_commands, make_typer
from jobq.cli.options import App, DataDir, RedisUrl, as_environment, duration
from jobq.errors import BadRequest

JobId = Annotated[str, typer.Argument(help="The job's id.", show_default=False)]
JobIds = Annotated[list[str], typer.Argument(help="Ids of jobs.", metavar="JOB_ID", show_default=False)]
SomeJobIds = Annotated[list[str] | None, typer.Argument(help="Ids of jobs.", metavar="JOB_ID", show_default=False)]
Queue = Annotated[str, typer.Argument(help="The queue's name.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
OfTask = Annotated[str | None, typer.Option("--task", help="Only jobs of this task.", show_default=False)]
OfQueue = Annotated[str | None, typer.Option("--queue", help="Only jobs of this queue.", show_default=False)]
Limit = Annotated[
    float | None,
    typer.Option(
        "--timeout", parser=duration, metavar="DURATION", help="How long to wait at most.", show_default=False
    ),
]


def add_to(app: typer.Typer) -> None:
    add_commands(app, submit, status, result, jobs, watch, cancel, retry, purge)
    of_queues = make_typer(invoke_without_command=True)
    of_queues.callback()(queues)
    add_commands(of_queues, pause, resume)
    app.add_typer(of_queues, name="queues")
    add_commands(app, workers, tasks, doctor, config)


def submit(
    task: Annotated[str, typer.Argument(help="The task's name.", show_default=False)],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="key=text or key:=JSON", metavar="KEY=VALUE", show_default=False),
    ] = None,
    payload: Annotated[
        str | None, typer.Option(help="All arguments as one JSON object; - reads it from stdin.", show_default=False)
    ] = None,
    queue: Annotated[str | None, typer.Option(help="Another queue than the task's.", show_default=False)] = None,
    priority: Annotated[int, typer.Option(help="0 to 9, higher first.")] = 0,
    delay: Annotated[
        float | None,
        typer.Option(parser=duration, metavar="DURATION", help="Not before so long from now.", show_default=False),
    ] = None,
    run_at: Annotated[
        str | None, typer.Option(help="Not before this time, as 2030-01-31T12:00:00Z.", show_default=False)
    ] = None,
    expires_in: Annotated[
        float | None,
        typer.Option(parser=duration, metavar="DURATION", help="Fail unless started by then.", show_default=False),
    ] = None,
    max_retries: Annotated[int | None, typer.Option(help="Attempts after the first.", show_default=False)] = None,
    timeout: Annotated[
        float | None,
        typer.Option(parser=duration, metavar="DURATION", help="What one attempt may take.", show_default=False),
    ] = None,
    id: Annotated[str | None, typer.Option(help="A UUID of your own for the job.", show_default=False)] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key within 24 hours means the same job.", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is over and print the result.")] = False,
    wait_timeout: Annotated[
        float | None,
        typer.Option(parser=duration, metavar="DURATION", help="--wait, but no longer than this.", show_default=False),
    ] = None,
    app: App = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Submit a job: submit resize path=a.png width:=200"""
    as_environment(app=app, redis_url=redis_url, data_dir=data_dir)
    from jobq.cli import submit as act

    options = act.options(
        queue=queue,
        priority=priority,
        delay=delay,
        run_at=run_at,
        expires_in=expires_in,
        max_retries=max_retries,
        timeout=timeout,
        job_id=id,
        idempotency_key=idempotency_key,
    )
    given = act.payload(arguments or [], payload)
    waiting = act.Waiting(wait_timeout) if wait or wait_timeout is not None else None
    act.submit(task, given, options, waiting)


def status(job_id: JobId, json: Json = False, redis_url: RedisUrl = None, data_dir: DataDir = None) -> None:
    """Show a job: its status, payload, result or error."""
    as_environment(redis_url=redis_url, data_dir=data_dir)
    from jobq.cli import jobs as act

    act.run(act.status, job_id, json)


def result(
    job_id: JobId,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the job is over.")] = False,
    timeout: Limit = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Print what a job returned, as JSON."""
    as_environment(redis_url=redis_url, data_dir=data_dir)
    from jobq.cli import jobs as act

    act.run(act.result, job_id, timeout if wait or timeout is not None else 0.0)


def jobs(
    status: Annotated[str | None, typer.Option(help="Only jobs of this status.", show_default=False)] = None,
    task: OfTask = None,
    queue: OfQueue = None,
    limit: Annotated[int, typer.Option(help="How many to show.", min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.", show_default=False)] = None,
    json: Json = False,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List jobs: running, waiting, then those that are over."""
    as_environment(redis_url=redis_url, data_dir=data_dir)
    from jobq.cli import jobs as act

    wanted = act.wanted(status, task, queue)
    act.run(act.jobs, wanted, act.place(cursor, wanted), limit, json)


def watch(
    job_ids: JobIds,
    timeout: Limit = None,
    json: Json = False,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Follow jobs until they are over."""
    as_environment(redis_url=redis_url, data_dir=data_dir)
    from jobq.cli import jobs as act

    act.run(act.watch, job_ids, timeout, json)


def cancel(
    job_ids: JobIds,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the job.", show_default=False)] = "",
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Cancel jobs."""
    as_environment(redis_url=redis_url, data_dir=data_dir)
    from jobq.cli import jobs as act

    act.run(act.cancel, job_ids, reason)


def retry(
    job_ids: SomeJobIds = None,
    all_failed: Annotated[bool, typer.Option("--all-failed", help="All failed jobs.")] = False,
    task: OfTask = None,
    queue: OfQueue = None,
    yes: Yes = False,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Put failed or cancelled jobs back into their queue."""
    if all_failed == bool(job_ids) or (job_ids and (task or queue)):
        raise BadRequest("name jobs, or use --all-failed, with --task or --queue for some of them")
    as_environment(redis_url=redis_url, data_dir=data_dir)
    from jobq.cli import jobs as act

    if job_ids:
        act.run(act.retry, job_ids)
    else:
        act.run(act.retry_failed, act.wanted("failed", task, queue), yes)


def purge(queue: Queue, yes: Yes = False, redis_url: RedisUrl = None, data_dir: DataDir = None) -> None:
    """Forget all jobs that wait in a queue."""
    as_environment(redis_url=redis_url, data_dir=data_dir)
    from jobq.cli import queues as act

    act.run(act.purge, queue, yes)


def queues(context: typer.Context, json: Json = False, redis_url: RedisUrl = None, data_dir: DataDir = None) -> None:
    """List queues; pause and resume them."""
    as_environment(redis_url=redis_url, data_dir=data_dir)
    if context.invoked_subcommand:
        return
    from jobq.cli import queues as act

    act.run(act.queues, json)


def pause(queue: Queue, redis_url: RedisUrl = None, data_dir: DataDir = None) -> None:
    """Start no more jobs of a queue. What runs goes on."""
    as_environment(redis_url=redis_url, data_dir=data_dir)
    from jobq.cli import queues as act

    act.run(act.pause, queue)


def resume(queue: Queue, redis_url: RedisUrl = None, data_dir: DataDir = None) -> None:
    """Start jobs of a paused queue again."""
    as_environment(redis_url=redis_url, data_dir=data_dir)
    from jobq.cli import queues as act

    act.run(act.resume, queue)


def workers(json: Json = False, redis_url: RedisUrl = None, data_dir: DataDir = None) -> None:
    """List the workers that are there."""
    as_environment(redis_url=redis_url, data_dir=data_dir)
    from jobq.cli import queues as act

    act.run(act.workers, json)


def tasks(app: App = None, json: Json = False) -> None:
    """List the tasks of your registry."""
    as_environment(app=app)
    from jobq.cli import about as act

    act.tasks(json)


def doctor(json: Json = False, redis_url: RedisUrl = None, data_dir: DataDir = None) -> None:
    """Examine server and queue; say how to repair them."""
    as_environment(redis_url=redis_url, data_dir=data_dir)
    from jobq.cli import about as act

    act.doctor(json)


def config(json: Json = False) -> None:
    """Show every setting, its value and where that came from."""
    from jobq.cli import about as act

    act.config(json)
