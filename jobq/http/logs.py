"""What tasks logged while they ran. For the prefix `/v1`."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from jobq.client import Client
from jobq.errors import BadRequest, CorruptRecord, JobNotFound, StoreUnavailable
from jobq.http import cursor
from jobq.http.auth import bearer
from jobq.http.deps import ClientDep, JobId
from jobq.http.errors import BadCursor, Unauthorized
from jobq.http.problems import responses
from jobq.http.request import next_page
from jobq.http.route import JobRoute
from jobq.http.timeline import printable, rfc3339
from jobq.http.views import LEVELS, LogLine, LogList, LogPlace, LogsQuery

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=JobRoute, dependencies=[Depends(bearer)])

AT_ONCE = 500
"""Entries that are read in one call."""


@router.get(
    "/{job_id}/logs",
    summary="Read what a job logged",
    response_description="A page of lines, oldest first. `Link` leads to the next one.",
    responses=responses(BadCursor, Unauthorized, JobNotFound, CorruptRecord, BadRequest, StoreUnavailable),
)
async def get_job_logs(
    job_id: JobId, query: Annotated[LogsQuery, Query()], client: ClientDep, request: Request, response: Response
) -> LogList:
    """The last lines of all its attempts: about a thousand are kept."""
    await client.get(job_id)
    of = [job_id, query.level]
    place = cursor.read(query.cursor, LogPlace, of) if query.cursor else LogPlace()
    found = await _found(client, job_id, place.after, query)
    shown = found[: query.limit]
    following = cursor.write(LogPlace(shown[-1][0]), of) if len(found) > query.limit else None
    response.headers.update(next_page(request, following))
    return LogList(lines=[line for _, line in shown], next_cursor=following)


async def _found(client: Client, job_id: str, after: str, query: LogsQuery) -> list[tuple[str, LogLine]]:
    """The lines, each with the id of its entry; more than were asked for when there are more."""
    found: list[tuple[str, LogLine]] = []
    while len(found) <= query.limit:
        entries = await client.inspect.emitted(job_id, after, AT_ONCE)
        for entry in entries:
            if entry.get("kind") == "log" and (line := _line(entry)) and _level(line.level) >= _level(query.level):
                found.append((entry["id"], line))
        if len(entries) < AT_ONCE:
            break
        after = entries[-1]["id"]
    return found


def _line(entry: dict[str, str]) -> LogLine:
    """A worker in another language may have emitted anything."""
    try:
        data: Any = json.loads(entry.get("data", ""))
    except (ValueError, RecursionError):
        data = entry.get("data", "")
    said = data if isinstance(data, dict) else {"message": str(data)}
    at = entry.get("at", "")
    return LogLine(
        at=rfc3339(int(at)) if at.isdecimal() else None,
        attempt=int(entry["id"].partition("-")[0]),
        level=printable(str(said.get("level", "info"))).lower(),
        message=printable(str(said.get("message", ""))),
        logger=printable(str(said.get("logger", ""))),
    )


def _level(word: str) -> int:
    """One nobody knows counts as `info`."""
    return LEVELS.get(word, LEVELS["info"])
