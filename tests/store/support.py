"""Words of the tests of single transitions: jobs to submit, a lane that claims and settles, and a look at every key."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import uuid4

from redis.asyncio import Redis

from jobq.job import Job, Status
from jobq.record import parse
from jobq.store import keys
from jobq.store.store import Claim, Pumped, Settlement, Store, Submission

LONG = 60_000
"""Ms: a lease or a TTL that does not run out during a test."""
PAST = 1
"""Ms since 1970: an instant that is long over."""

ODD_TAIL = ',"list":[],"big":9007199254740993,"nested":{"a":{"b":"}\\"{"}},"float":1.0e400,"text":"ä\\u00e4"'
"""Members that decoding and encoding again would change."""


def new_id() -> str:
    return str(uuid4())


def submission(job_id: str | None = None, **columns: Any) -> Submission:
    """One row for `Store.submit`: a plain job but for what is said."""
    plain = {"task": "note", "queue": "default", "priority": 0, "due": "", "expires": "", "tail": "", "payload": b""}
    return Submission(job_id or new_id(), **{**plain, **columns})


async def submitted(store: Store, count: int = 1, **columns: Any) -> list[str]:
    """Ids of new jobs, in the order of their submit."""
    rows = [submission(**columns) for _ in range(count)]
    for start in range(0, count, 200):
        batch = rows[start : start + 200]
        assert ["ok"] * len(batch) == await store.submit(batch)
    return [row.job_id for row in rows]


def foreign(job_id: str, **members: Any) -> str:
    """A record as a program writes it that knows only the contract, in Python's default spacing."""
    return json.dumps({"job_id": job_id, "task": "note", "status": "pending", "retries": 0, **members})


async def pushed(redis: Redis, record: str, job_id: str, key: str = keys.QUEUE) -> None:
    """What a foreign producer does."""
    await redis.set(keys.job(job_id), record)
    await redis.rpush(key, job_id)


class Lane:
    """A lane of a worker: numbers its calls, and knows the usual limits."""

    def __init__(self, store: Store, worker: str = "w1", queues: str = "default", lease: int = LONG) -> None:
        self.store = store
        self.worker = worker
        self.queues = queues
        self.lease = lease
        self.seq = 0

    async def call(self, seq: int, *settles: Settlement, want: int = 0, result_ttl: int = LONG) -> Pumped:
        return await self.store.pump(
            (self.worker, "0"), seq, settles, want, lease=self.lease, result_ttl=result_ttl, queues=self.queues
        )

    async def next(self, *settles: Settlement, want: int = 0, result_ttl: int = LONG) -> Pumped:
        self.seq += 1
        return await self.call(self.seq, *settles, want=want, result_ttl=result_ttl)

    async def claim(self, want: int = 1) -> list[Claim]:
        return (await self.next(want=want)).claims

    async def settle(self, *settles: Settlement, result_ttl: int = LONG) -> list[str]:
        return (await self.next(*settles, result_ttl=result_ttl)).verdicts


def settled(claim: Claim, outcome: str, body: bytes | str = b"", due: int | str = "", **changes: Any) -> Settlement:
    """The row with which a worker reports this outcome; `changes` are to the job as it was claimed."""
    over = {"complete": Status.COMPLETED, "fail": Status.FAILED, "cancel": Status.CANCELLED}
    if outcome in over:
        changes = {"status": over[outcome], "finished_at": 1, **changes}
    record = replace(parse(claim.job_id, claim.record), **changes).text()
    return Settlement(claim.job_id, claim.token, outcome, record, body, due)


async def finished(lane: Lane, outcome: str = "complete", **columns: Any) -> str:
    """The id of a new job that was run and is over."""
    [job_id] = await submitted(lane.store, **columns)
    [claim] = await lane.claim()
    assert ["ok"] == await lane.settle(settled(claim, outcome))
    return job_id


async def job_of(store: Store, job_id: str) -> Job:
    record = await store.record(job_id)
    assert record is not None
    return parse(job_id, record)


async def lose_all(redis: Redis) -> None:
    """Let every lease have run out."""
    for job_id in await redis.zrange("job_leases", 0, -1):
        await redis.zadd("job_leases", {job_id: PAST})


async def held(redis: Redis) -> dict[str, str]:
    """What runs, id to token. An id is in the leases and in the running hash, or in neither."""
    running: dict[str, str] = await redis.hgetall("job_running")
    assert sorted(running) == sorted(await redis.zrange("job_leases", 0, -1))
    return running


async def take_marks(redis: Redis) -> list[str]:
    """The queues whose mark is set; it is set no more."""
    marks = [key async for key in redis.scan_iter("job_wake:*")]
    if marks:
        await redis.delete(*marks)
    return sorted(mark.removeprefix("job_wake:") for mark in marks)


async def counted(redis: Redis) -> dict[str, int]:
    """The statistics of all slots: how often each word was counted in each queue."""
    totals: Counter[str] = Counter()
    async for key in redis.scan_iter("job_stats:*"):
        totals.update({name: int(number) for name, number in (await redis.hgetall(key)).items()})
    return dict(totals)


async def dump(redis: Redis, *, statistics: bool = True) -> dict[str, Any]:
    """Every key with its whole value: a refused call does not count either. The statistics' names change with time."""
    read = {
        "string": lambda key: redis.get(key),
        "list": lambda key: redis.lrange(key, 0, -1),
        "hash": lambda key: redis.hgetall(key),
        "set": lambda key: redis.smembers(key),
        "zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
        "stream": lambda key: redis.xrange(key),
    }
    return {
        key: await read[await redis.type(key)](key)
        async for key in redis.scan_iter(count=1000)
        if statistics or not key.startswith("job_stats:")
    }


async def server_ms(redis: Redis) -> int:
    seconds, micros = await redis.time()
    return seconds * 1000 + micros // 1000


async def pass_ms(redis: Redis, ms: int) -> None:
    """Until the server's clock has gone on by so much."""
    until = await server_ms(redis) + ms
    while await server_ms(redis) <= until:
        await asyncio.sleep(0.002)
