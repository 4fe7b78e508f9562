"""The models of this service: what the API takes and answers, and what the tasks take and return."""

from typing import Literal

from pydantic import BaseModel

from jobq.http.schemas import JobAccepted, JobStatus, SubmitJob

__all__ = ["JobAccepted", "JobStatus", "Receipt", "SubmitJob"]


class Receipt(BaseModel):
    """What became of a mail."""

    message_id: str
    to: str
    via: Literal["smtp", "outbox"]
    path: str | None
    """The file in the outbox; None for a mail that was sent."""
