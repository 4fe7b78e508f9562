"""The models of this service: what the API takes and answers, and what the tasks take and return."""

from typing import Literal

from pydantic import BaseModel

from jobq.http.schemas import JobAccepted, JobStatus, SubmitJob

__all__ = ["Fetched", "JobAccepted", "JobStatus", "Receipt", "SubmitJob", "Thumbnail"]


class Receipt(BaseModel):
    """What became of a mail."""

    message_id: str
    to: str
    via: Literal["smtp", "outbox"]
    path: str | None
    """The file in the outbox; None for a mail that was sent."""


class Fetched(BaseModel):
    """What came from an address. The body itself is not kept."""

    status: int
    size: int
    """Bytes of the body."""
    sha256: str
    content_type: str | None
    url: str
    """Where it came from in the end, after redirects."""


class Thumbnail(BaseModel):
    """A small picture in a file."""

    path: str
    width: int
    height: int
    bytes: int
