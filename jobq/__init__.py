"""jobq: an async job queue. Any program submits a job with one HTTP call, any Python function serves it."""

from jobq.client import Client, JobDetails, JobHandle
from jobq.errors import (
    BadRequest,
    ConfigError,
    Conflict,
    InvalidPayload,
    JobCancelled,
    JobFailed,
    JobNotFound,
    JobqError,
    ResultExpired,
    ResultTimeout,
    StoreUnavailable,
    UnknownTask,
)
from jobq.job import Job, JobSpec, Status
from jobq.settings import Settings
from jobq.task import Context, Discard, Registry, Retry, RetryLater, Task, current

__all__ = [
    "BadRequest",
    "Client",
    "ConfigError",
    "Conflict",
    "Context",
    "Discard",
    "InvalidPayload",
    "Job",
    "JobCancelled",
    "JobDetails",
    "JobFailed",
    "JobHandle",
    "JobNotFound",
    "JobSpec",
    "JobqError",
    "Registry",
    "ResultExpired",
    "ResultTimeout",
    "Retry",
    "RetryLater",
    "Settings",
    "Status",
    "StoreUnavailable",
    "Task",
    "UnknownTask",
    "current",
]
