"""jobq: an async job queue. Any program submits a job with one HTTP call, any Python function serves it."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobq.client import Client, JobDetails, JobHandle
    from jobq.context import Context, Discard, RetryLater, current
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
    from jobq.job import Job, Status
    from jobq.settings import Settings
    from jobq.sync import SyncClient, SyncJobHandle
    from jobq.task import JobSpec, Registry, Retry, Task
else:

    def __getattr__(name: str) -> object:
        """Find a public name when it is first asked for: `python -m jobq --help` needs none, and answers at once."""
        if name in __all__:
            for module in ("errors", "settings", "job", "context", "task", "client", "sync"):
                if (found := getattr(import_module(f"jobq.{module}"), name, None)) is not None:
                    globals()[name] = found
                    return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
    "SyncClient",
    "SyncJobHandle",
    "Task",
    "UnknownTask",
    "current",
]
