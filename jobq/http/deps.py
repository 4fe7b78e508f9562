"""What the routes are handed."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request

from jobq.client import Client
from jobq.job import UUID, split_members


async def get_client(request: Request) -> Client:
    """The client of whichever application the routes are part of."""
    client = getattr(request.app.state, "jobq", None)
    if not isinstance(client, Client):
        raise RuntimeError("these routes need an open jobq Client in app.state.jobq")
    return client


async def get_payload(request: Request) -> bytes:
    """The text of the body's `payload`, because decoding and encoding it would not give every number back."""
    body = await request.json()
    if not isinstance(body, dict) or not isinstance(body.get("payload"), dict):
        return b""
    return split_members((await request.body()).decode())["payload"].encode()


ClientDep = Annotated[Client, Depends(get_client)]
PayloadDep = Annotated[bytes, Depends(get_payload)]
JobId = Annotated[
    str,
    Path(
        pattern=f"^{UUID.pattern}$",
        description="The id that the submit answered: a UUID in lower case.",
        openapi_examples={"a job": {"value": "019ab9c0-6f2e-7c51-9d53-4f1c2a7be001"}},
    ),
]
