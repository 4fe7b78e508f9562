"""`jobq submit`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jobq import Client
from jobq.cli.follow import follow
from jobq.cli.jobs import in_place, known_tasks, print_job, print_result
from jobq.cli.session import with_client
from jobq.cli.show import nearest, notice, on_terminal
from jobq.client import JobHandle
from jobq.errors import BadRequest
from jobq.http.schemas import RFC3339
from jobq.job import SubmitOptions
from jobq.launch import find_app, load_settings


@dataclass(frozen=True)
class Waiting:
    """To wait for the end, for at most so many seconds."""

    limit: float | None


def submit(task: str, payload: bytes, options: SubmitOptions, waiting: Waiting | None) -> None:
    settings = load_settings()
    registry = find_app(settings)
    sys.exit(asyncio.run(with_client(settings, registry, _submit, task, payload, options, waiting)))


def payload(arguments: Sequence[str], whole: str | None) -> bytes:
    """The arguments as a JSON object; empty for none. Raises BadRequest."""
    if whole is not None:
        if arguments:
            raise BadRequest("give the arguments one by one, or all of them with --payload")
        return _object(sys.stdin.read() if whole == "-" else whole)
    members: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        is_json = name.endswith(":")
        name = name.removesuffix(":")
        if not equals or not name:
            raise BadRequest(f"{argument!r} is no argument: use name=text, or name:=JSON such as n:=3")
        if name in members:
            raise BadRequest(f"the argument {name} is given twice")
        members[name] = _checked(name, value) if is_json else json.dumps(value, ensure_ascii=False)
    inside = ",".join(f"{json.dumps(name, ensure_ascii=False)}:{value}" for name, value in members.items())
    return _encoded("{" + inside + "}") if members else b""


def options(*, run_at: str | None, **others: Any) -> SubmitOptions:
    known: Any = {name: value for name, value in others.items() if value is not None}
    if run_at is not None:
        known["run_at"] = _time(run_at)
    stated: SubmitOptions = known
    return stated


def _object(text: str) -> bytes:
    if not isinstance(_decoded("--payload", text), dict):
        raise BadRequest("--payload is not a JSON object")
    return _encoded(text)


def _checked(name: str, text: str) -> str:
    """The JSON as it was typed: to decode and encode it would harm big numbers."""
    _decoded(name, text)
    return text


def _decoded(name: str, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{name}: {text[:100]!r} is not JSON ({error})") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}")


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise BadRequest("the arguments are not UTF-8") from None


def _time(text: str) -> datetime:
    try:
        if RFC3339.fullmatch(text):
            return datetime.fromisoformat(text)
    except ValueError:
        pass
    raise BadRequest(f"--run-at: {text!r} is no time with its zone, such as 2030-01-31T12:00:00Z")


async def _submit(client: Client, task: str, payload: bytes, options: SubmitOptions, waiting: Waiting | None) -> int:
    spec = client.spec(task, payload)
    handle = await client.submit(spec.with_options(**options))
    if handle.replayed:
        notice("this idempotency key had made that job before")
    if waiting or sys.stderr.isatty():
        await _tell_who_serves(client, handle)
    if waiting:
        return await _wait(client, handle.job_id, waiting.limit)
    if on_terminal():
        await print_job(client, handle.job_id)
    else:
        print(handle.job_id)
    return 0


async def _wait(client: Client, job_id: str, limit: float | None) -> int:
    if on_terminal():
        notice(f"job {job_id}")
    try:
        (details,) = await follow(client, [job_id], limit, in_place(sys.stderr))
    except asyncio.CancelledError:
        notice(f"the job goes on: jobq watch {job_id}")
        raise
    print_result(details)
    return 0


async def _tell_who_serves(client: Client, handle: JobHandle[Any]) -> None:
    """A job that nobody will take is most often a mistake."""
    workers = await client.inspect.workers()
    queue = (await handle.get()).queue
    known = known_tasks(workers)
    if not workers:
        notice("no worker is running: the job waits for one, start it with `jobq worker` or `jobq up`")
    elif handle.task not in known:
        unchecked = "" if client.registry else "; no registry was found to check it by, name yours with --app"
        notice(f"no running worker knows {handle.task}{nearest(handle.task, known)}: the job waits{unchecked}")
    elif not any(queue in worker.queues for worker in workers):
        notice(f"no running worker serves the queue {queue}: the job waits")
