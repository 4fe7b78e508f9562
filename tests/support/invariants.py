"""The invariants that hold between the keys of a server, at any moment: docs/protocol.md, "Keys".

A snapshot is taken by one script, so that it shows one moment.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from jobq.job import Job
from jobq.record import is_canonical, parse

SNAPSHOT = """#!lua flags=no-writes
local found = {}
for _, name in ipairs(redis.call('KEYS', 'job*')) do
  local kind, value = redis.call('TYPE', name).ok, nil
  if kind == 'string' then
    if string.match(name, '^job:[^:]+$') then value = redis.call('GET', name) end
  elseif kind == 'list' then value = redis.call('LRANGE', name, 0, -1)
  elseif kind == 'zset' then value = redis.call('ZRANGE', name, 0, -1)
  elseif kind == 'hash' then value = redis.call('HGETALL', name)
  elseif kind == 'set' then value = redis.call('SMEMBERS', name)
  end
  if value then found[#found + 1] = {name, value} end
end
return found
"""


@dataclass
class Snapshot:
    """All that a server holds of jobs, as of one moment."""

    jobs: dict[str, Job] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)
    """Ids whose record nobody has adopted yet."""
    lists: dict[str, list[str]] = field(default_factory=dict)
    schedule: list[str] = field(default_factory=list)
    leases: list[str] = field(default_factory=list)
    running: dict[str, str] = field(default_factory=dict)
    expiry: list[str] = field(default_factory=list)
    parked: dict[str, list[str]] = field(default_factory=dict)
    cancel: dict[str, str] = field(default_factory=dict)
    progress: dict[str, str] = field(default_factory=dict)
    index: dict[str, list[str]] = field(default_factory=dict)


async def snapshot(redis: Redis) -> Snapshot:
    """One moment of the server. The client must not decode."""
    answer: Any = await redis.eval(SNAPSHOT, 0)  # type: ignore[misc]
    taken = Snapshot()
    for name_bytes, value in answer:
        name = name_bytes.decode()
        if isinstance(value, bytes):
            job_id = name.removeprefix("job:")
            taken.jobs[job_id] = parse(job_id, value)
            if not is_canonical(value):
                taken.foreign.add(job_id)
            continue
        words = [word.decode("utf-8", "replace") for word in value]
        if name == "job_queue" or name.startswith("job_queue:"):
            taken.lists[name] = words
        elif name.startswith("job_parked:"):
            taken.parked[name.removeprefix("job_parked:")] = words
        elif name.startswith("job_index:"):
            taken.index[name.removeprefix("job_index:")] = words
        elif name in ("job_running", "job_cancel", "job_progress"):
            setattr(taken, name.removeprefix("job_"), dict(zip(words[::2], words[1::2], strict=True)))
        elif name in ("job_schedule", "job_leases", "job_expiry"):
            setattr(taken, name.removeprefix("job_"), words)
    return taken


def broken(taken: Snapshot, *, left_behind: bool = False) -> list[str]:
    """What contradicts the invariants, in words: nothing, for a server that all is well with.

    `left_behind` allows worthless entries in the schedule and the parking lots too: a job has some there that was
    cancelled and retried by hand, or listed twice by its producer. As on a list they are dropped when looked at.
    """
    return [*_homes(taken, left_behind), *_leases(taken), *_sets(taken)]


def leftovers(taken: Snapshot) -> list[str]:
    """What should be gone when all jobs are over, and what is broken besides."""
    rest: dict[str, Any] = {
        "leases": taken.leases, "running": taken.running, "schedule": taken.schedule, "expiry": taken.expiry,
        "cancel": taken.cancel, "progress": taken.progress, "lists": taken.lists, "parked": taken.parked,
    }  # fmt: skip
    return [f"{name}: {json.dumps(what)[:200]}" for name, what in rest.items() if what] + broken(taken)


def _homes(taken: Snapshot, left_behind: bool) -> Iterator[str]:
    """I4: a job that is not over has a home, and no job has two."""
    listed = Counter(job_id for ids in taken.lists.values() for job_id in set(ids))
    parked = Counter(job_id for ids in taken.parked.values() for job_id in set(ids))
    for job_id, job in taken.jobs.items():
        status = job.status.value
        homes = {
            "list": listed[job_id] > 0,
            "schedule": job_id in taken.schedule,
            "parking lot": parked[job_id] > 0,
            "lease": job_id in taken.leases,
        }
        at = [name for name, is_there in homes.items() if is_there]
        # A list entry of a job that is elsewhere is worthless, and is dropped when somebody comes to it.
        firm = [name for name in at if name == "lease" or (name != "list" and not left_behind)]
        if status == "pending" and (not at or "lease" in at) and job_id not in taken.foreign:
            yield f"{job_id} is pending, and lies in {at or 'nothing'}"
        if status == "processing" and firm != ["lease"]:
            yield f"{job_id} is processing, and lies in {firm or 'nothing'}"
        if job.status.over and (firm or job_id not in taken.index.get(status, [])) and job_id not in taken.foreign:
            yield f"{job_id} is {status}, and lies in {firm or 'no index'}"
        if len(firm) > 1:
            yield f"{job_id} lies in {firm}"


def _leases(taken: Snapshot) -> Iterator[str]:
    """An id has a lease and a token, or neither."""
    for job_id in set(taken.leases) ^ taken.running.keys():
        yield f"{job_id} has a lease or a token, but not both"
    tokens = Counter(taken.running.values())
    for token, times in tokens.items():
        if times > 1:
            yield f"the token {token} holds {times} jobs"


def _sets(taken: Snapshot) -> Iterator[str]:
    """Nothing is kept about jobs that it cannot be true of."""
    for name in ("cancel", "progress"):
        # A cancel stays with a job that was given back before anybody had adopted it.
        for job_id in getattr(taken, name).keys() - taken.running.keys() - taken.foreign:
            yield f"{job_id} is in {name}, but does not run"
    for job_id in taken.expiry:
        job = taken.jobs.get(job_id)
        if job is None or job.status.value != "pending" or job.expires_at is None:
            yield f"{job_id} is in expiry, and is {job.status.value if job else 'gone'}"
    indexed = Counter(job_id for ids in taken.index.values() for job_id in ids)
    for job_id, times in indexed.items():
        if times > 1:
            yield f"{job_id} is in {times} indexes"
