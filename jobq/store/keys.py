"""Every Redis key jobq uses, once. The Lua scripts take their names from here too.

All keys of one shard start with its hash tag: empty on a single server, where the given names stay exact.
"""

from __future__ import annotations

from typing import Final

QUEUE: Final = "job_queue"
JOB: Final = "job:"
PAYLOAD: Final = ":payload"
RESULT: Final = ":result"
ATTEMPTS: Final = ":attempts"
EMITTED: Final = ":events"

NAMES: Final = {
    "queue": QUEUE,
    "job": JOB,
    "schedule": "job_schedule",
    "expiry": "job_expiry",
    "leases": "job_leases",
    "running": "job_running",
    "cancel": "job_cancel",
    "pump": "job_pump:",
    "wake": "job_wake:",
    "index": "job_index:",
    "missing": "job_missing",
    "quarantine": "job_quarantine",
    "parked": "job_parked:",
    "lots": "job_parked",
    "events": "job_events",
    "paused": "job_paused",
    "erased": "job_erased",
    "queues": "job_queues",
    "stats": "job_stats:",
    "workers": "job_workers",
    "worker": "job_worker:",
    "order": "job_order:",
    "progress": "job_progress",
    "idem": "job_idem:",
    "epoch": "job_epoch",
    "scrub": "job_scrub",
}
"""What `key.<name>` in a script stands for, without the shard's tag. A trailing colon wants something after it."""

EVENTS: Final = NAMES["events"]


def ready(queue: str, priority: int = 0) -> str:
    """The list of ids that wait in this queue at this priority. The default queue is the contract's `job_queue`."""
    if priority:
        return f"{QUEUE}:{queue}:{priority}"
    return QUEUE if queue == "default" else f"{QUEUE}:{queue}"


def wake(queue: str) -> str:
    """The mark that idle workers of this queue block on."""
    return NAMES["wake"] + queue


def job(job_id: str) -> str:
    return JOB + job_id


def payload(job_id: str) -> str:
    return JOB + job_id + PAYLOAD


def result(job_id: str) -> str:
    return JOB + job_id + RESULT


def attempts(job_id: str) -> str:
    return JOB + job_id + ATTEMPTS


def emitted(job_id: str) -> str:
    """The stream of what the job's attempts emitted: progress and log lines."""
    return JOB + job_id + EMITTED
