"""Requests that wait for a job."""

from __future__ import annotations

import asyncio

from fastapi import Request

from jobq.client import Client, JobDetails


async def settled(request: Request, client: Client, job_id: str, wait: float) -> JobDetails:
    """The job once it is over; or as it is when the time is up, the server is to stop, or nobody listens any more."""
    if not wait:
        return await client.details(job_id)
    waiting = asyncio.ensure_future(client.settled(job_id, wait))
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else await client.details(job_id)
    finally:
        waiting.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    """Until the client has disconnected. Only for a request whose body is read, or has none."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
