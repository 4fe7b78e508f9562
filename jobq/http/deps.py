"""What the routes are handed."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query, Request

from jobq.client import Client
from jobq.http.errors import BadIdempotencyKey
from jobq.http.route import IDEMPOTENCY_KEY
from jobq.job import UUID
from jobq.record import split_members
from jobq.settings import NAME


async def get_client(request: Request) -> Client:
    """The client of whichever application the routes are part of."""
    client = getattr(request.app.state, "jobq", None)
    if not isinstance(client, Client):
        raise RuntimeError("these routes need an open jobq Client in app.state.jobq")
    if not client.is_open:
        raise RuntimeError("the jobq Client of these routes is not open: open it in the lifespan of your application")
    return client


async def get_payload(request: Request) -> bytes:
    """The text of the body's `payload`, because decoding and encoding it would not give every number back."""
    return payload_of(await request.json(), (await request.body()).decode())


def payload_of(job: Any, text: str) -> bytes:
    """The text of a job's `payload`, if it has one; `text` is the job's."""
    if not isinstance(job, dict) or not isinstance(job.get("payload"), dict):
        return b""
    return split_members(text)["payload"].encode()


async def get_idempotency_key(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias=IDEMPOTENCY_KEY,
            description="Up to 128 printable characters. Within 24 hours the same request gives the same job.",
            openapi_examples={"none": {"value": None}, "a key": {"value": "order-4711"}},
        ),
    ] = None,
) -> str | None:
    """The key under which this request may come again. Raises BadIdempotencyKey."""
    given = request.headers.getlist(IDEMPOTENCY_KEY)
    if len(given) > 1 or not all(0 < len(name) <= 128 and name.isprintable() for name in given):
        raise BadIdempotencyKey("Idempotency-Key: one, of 1 to 128 printable characters")
    return key


ClientDep = Annotated[Client, Depends(get_client)]
PayloadDep = Annotated[bytes, Depends(get_payload)]
IdempotencyKey = Annotated[str | None, Depends(get_idempotency_key)]
Wait = Annotated[float, Query(ge=0, le=60, allow_inf_nan=False, description="Seconds to wait for the job to be over.")]
QueueName = Annotated[
    str,
    Path(
        pattern=f"^{NAME.pattern}$",
        description="The name of a queue.",
        openapi_examples={"the default queue": {"value": "default"}},
    ),
]
WorkerId = Annotated[
    str,
    Path(
        pattern="^[A-Za-z0-9_-]{1,64}$",
        description="The id of a worker, as `GET /v1/workers` tells it.",
        openapi_examples={"a worker": {"value": "3f0a8f6bb2a34c0f9d4e3a1c5d7e9b20"}},
    ),
]
TaskName = Annotated[
    str,
    Path(
        pattern=f"^{NAME.pattern}$",
        description="The name of a task.",
        openapi_examples={"a task": {"value": "send_email"}},
    ),
]
JobId = Annotated[
    str,
    Path(
        pattern=f"^{UUID.pattern}$",
        description="The id that the submit answered: a UUID in lower case.",
        openapi_examples={"a job": {"value": "019ab9c0-6f2e-7c51-9d53-4f1c2a7be001"}},
    ),
]
