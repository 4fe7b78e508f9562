"""Store: one short method per transition, named as its Lua file. Knows bytes and verdicts, not tasks.

A caller that is cancelled in mid-call must not leave an unread reply behind for the next one, so calls of users run
shielded. The pump's are never cancelled and pay nothing for that.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

import redis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jobq.errors import ConfigError, CorruptRecord, JobqError, StoreFull, StoreUnavailable
from jobq.store import keys, scripts
from jobq.store.breaker import Breaker
from jobq.store.facts import Facts, ask
from jobq.store.together import Together

T = TypeVar("T")

SUBMIT_BATCH = 200
SETTLE_BATCH = 200
CLAIM_BATCH = 200
HEARTBEAT_BATCH = 500
PAUSES = (0.05, 0.1, 0.2)
"""Seconds, or somewhat less, before a call whose connection broke is made again: a server that restarts, say."""
LONG = 1.0
"""Seconds after which a broken connection is as good as a time-out: redis-py tells one in the handshake so."""
LAST_ANSWERS = 1.0
"""Seconds that `close` gives calls whose callers are gone."""
STORED_BATCH = 50
"""Jobs, each with up to 1.2 MiB of payload and result, that are read in one call."""


class Submission(NamedTuple):
    """One row of submit.lua."""

    job_id: str
    task: str
    queue: str
    priority: int
    due: str
    expires: str
    tail: str
    payload: bytes
    idem: str = ""
    """Digest of the idempotency key; empty for none."""
    body: str = ""
    """Digest of the request that came with it."""


class Settlement(NamedTuple):
    """One row of the settles of pump.lua."""

    job_id: str
    token: str
    outcome: str
    record: str = ""
    body: bytes | str = b""
    due: str | int = ""


class Claim(NamedTuple):
    """A job handed out: its holder may settle it with this token until the lease runs out."""

    job_id: str
    token: str
    record: bytes
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class Pumped:
    """What one pump call answered. `now` is ms of the server's clock."""

    now: int
    verdicts: list[str]
    claims: list[Claim]


class Stored(NamedTuple):
    """Everything kept of one job."""

    record: bytes
    payload: bytes | None
    result: bytes | None
    attempts: list[bytes]


class Store:
    """The transitions over one client. `revive` starts an embedded server again that is gone."""

    def __init__(
        self,
        client: Redis,
        transitions: dict[str, scripts.Script] | None = None,
        revive: Callable[[], None] | None = None,
    ) -> None:
        self._client = client
        self._scripts = transitions or scripts.load()
        self._revive = revive
        self._breaker = Breaker()
        self._calls: set[asyncio.Future[Any]] = set()
        self._stored = Together(self.stored_many, STORED_BATCH)

    async def submit(self, jobs: Sequence[Submission], most: int = 0, *, atomic: bool = False) -> list[str]:
        """asked → pending, at most SUBMIT_BATCH. A verdict per job: `ok`, `repeat` (the id existed),
        `replay:<id>` (made before under this idempotency key), `mismatch` (another request was), `full` (`most` jobs
        were ready in its queue; 0 for no limit). With `atomic` one that is `full` makes all that are new so."""
        rows = [column for job in jobs for column in job]
        return _words(await self._run("submit", rows, most=most, atomic=int(atomic)))

    async def pump(
        self, lane: tuple[str, str], seq: int, settles: Sequence[Settlement], want: int, **limits: int | str
    ) -> Pumped:
        """Settle and claim in one call. `lane` is worker and lane; limits are `lease`, `result_ttl` (ms) and `queues`.

        Raises redis errors as they come: the caller repeats the call with the same `seq`.
        """
        rows = [column for settle in settles for column in settle]
        now, verdicts, claims = await self._scripts["pump"](
            self._client, rows, worker=lane[0], lane=lane[1], seq=seq, want=want, **limits
        )
        return Pumped(now, _words(verdicts), [Claim(i.decode(), t.decode(), r, p) for i, t, r, p in claims])

    async def adopt(self, job_id: str, token: str, expected: bytes, record: str) -> str:
        """Write the canonical form of a foreign record. `ok`, `repeat`, `stale` or `conflict`."""
        return _word(await self._run("adopt", id=job_id, token=token, expected=expected, record=record))

    async def cancel(self, job_id: str, reason: str, error: str) -> tuple[str, str]:
        """pending → cancelled, or a request to the worker. A verdict and the status found."""
        return _pair(await self._run("cancel", id=job_id, reason=reason, error=error))

    async def retry(self, job_id: str, attempt: int) -> tuple[str, str]:
        """failed | cancelled → pending, by hand. A verdict and the status."""
        return _pair(await self._run("retry", id=job_id, attempt=attempt))

    async def delete(self, job_id: str) -> tuple[str, str]:
        """Erase a job that does not run. A verdict and the status found."""
        return _pair(await self._run("delete", id=job_id))

    async def emit(self, job_id: str, token: str, attempt: int, entries: Sequence[tuple[int, str, str]]) -> str:
        """Progress and log of a running job: number within the attempt, kind, data. `ok` or `stale`."""
        rows = [column for entry in entries for column in entry]
        return _word(await self._run("emit", rows, id=job_id, token=token, attempt=attempt))

    async def pause(self, queue: str) -> None:
        await self._run("pause", queue=queue)

    async def resume(self, queue: str) -> None:
        await self._run("resume", queue=queue)

    async def purge(self, queue: str) -> int:
        """Forget ready jobs of this queue. How many left it; 100 means call again."""
        return int(await self._run("purge", queue=queue))

    async def present(self, worker: str, about: str, ttl: int) -> str:
        """A worker is there, for `ttl` ms. What it was ordered to do: `quiet`, `stop` or nothing."""
        return _word(await self._run("present", worker=worker, about=about, ttl=ttl))

    async def leave(self, worker: str) -> None:
        await self._run("leave", worker=worker)

    async def stage(self) -> int:
        """due → queue. How many left the schedule; 100 means call again."""
        return int(await self._run("stage"))

    async def missing(self, patience: int) -> list[str]:
        """Listed ids whose record came late → queue. The ids given up after `patience` ms."""
        return _words(await self._run("missing", patience=patience))

    async def reap(self, max_lost: int, latest: int = 2**53) -> list[tuple[str, str]]:
        """Leases that ran out → queue or failed; nothing after `latest`, in ms of the server. Pairs of id and new
        status; 100 of them mean call again."""
        return [_pair(pair) for pair in await self._run("reap", max_lost=max_lost, latest=latest)]

    async def scrub(self, longest: int, lease: int, pace: int) -> list[tuple[str, str]]:
        """Go on for `longest` ms with the repair of what records and indexes disagree on; nothing within `pace` ms of
        the last call. All in ms. Pairs of id and what was done."""
        return [_pair(pair) for pair in await self._run("scrub", longest=longest, lease=lease, pace=pace)]

    async def expire(self) -> int:
        """Pending past `expires_at` → failed. How many were looked at; 100 means call again."""
        return int(await self._run("expire"))

    async def unpark(self, queues: Iterable[str], tasks: Iterable[str]) -> int:
        """Parked jobs of these tasks → queue. How many."""
        return int(await self._run("unpark", queues=",".join(queues), tasks=",".join(tasks)))

    async def prune(self, status: str, max_age: int, keep: int, min_age: int) -> int:
        """Forget old finished jobs. How many; 100 means call again."""
        return int(await self._run("prune", status=status, max_age=max_age, keep=keep, min_age=min_age))

    async def record(self, job_id: str) -> bytes | None:
        return cast("bytes | None", await self._call(lambda: self._client.get(keys.job(job_id))))

    async def stored(self, job_id: str) -> Stored | None:
        """Record, payload, result and past attempts, as of one moment. Who asks in the same turn shares the call."""
        return found_or_told(await self._stored(job_id))

    async def stored_many(self, job_ids: Sequence[str]) -> list[Stored | RedisError | None]:
        """As `stored`, for at most STORED_BATCH; the error of a job whose past attempts are no list is its own."""

        async def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=True)
            for job_id in job_ids:
                pipe.mget(keys.job(job_id), keys.payload(job_id), keys.result(job_id))
                pipe.lrange(keys.attempts(job_id), 0, -1)
            return await pipe.execute(raise_on_error=False)

        answers = await self._call(read)
        return [_stored(*pair) for pair in zip(answers[::2], answers[1::2], strict=True)]

    async def writable(self) -> None:
        """Raise StoreUnavailable unless a submit would be accepted."""
        await self._run("submit", [], most=0, atomic=0)

    async def load(self) -> int:
        """Have the server load all scripts, so that it shows whether it can. How many."""

        async def send() -> int:
            for script in self._scripts.values():
                await self._client.script_load(script.source)
            return len(self._scripts)

        return await self._call(send)

    async def facts(self) -> Facts:
        """What the server says of itself."""
        return await self._call(lambda: ask(self._client))

    async def epoch(self, new: str) -> str | None:
        """The name of the server's data: `new` if they had none. None when a full server cannot take it."""

        async def read() -> str | None:
            pipe = self._client.pipeline(transaction=False)
            pipe.set(keys.NAMES["epoch"], new, nx=True)
            pipe.get(keys.NAMES["epoch"])
            _, found = await pipe.execute(raise_on_error=False)
            return found.decode() if isinstance(found, bytes) else None

        return await self._call(read)

    async def uptime(self) -> tuple[int, int, str]:
        """Seconds since the server started, by its clock; that clock in ms; and a name for this run of the server."""

        async def read() -> tuple[int, int, str]:
            pipe = self._client.pipeline(transaction=False)
            pipe.info("server")
            pipe.time()
            info, (seconds, micros) = await pipe.execute()
            return int(info["uptime_in_seconds"]), seconds * 1000 + micros // 1000, info["run_id"]

        return await self._call(read)

    async def close(self) -> None:
        # Of callers that were cancelled: the loop may be gone before their connections are free again.
        if self._calls:
            await asyncio.wait(self._calls, timeout=LAST_ANSWERS)
        await self._client.aclose()

    async def _run(self, name: str, rows: list[Any] | None = None, **named: Any) -> Any:
        return await self._call(lambda: self._scripts[name](self._client, rows, **named))

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        made = asyncio.ensure_future(self._told(call))
        self._calls.add(made)
        made.add_done_callback(self._calls.discard)
        return await asyncio.shield(made)

    async def _told(self, call: Callable[[], Awaitable[T]]) -> T:
        """The call, with redis-py's errors told in ours. At once StoreUnavailable while the server is away."""
        if not self._breaker.admits():
            raise StoreUnavailable("Redis did not answer a moment ago; it is tried again twice a second")
        try:
            answer = await self._tried(call)
        except (RedisError, OSError, ConfigError) as error:
            if is_away(error):
                self._breaker.failed()
            else:
                self._breaker.answered()
            raise told(error) from error
        self._breaker.answered()
        return answer

    async def _tried(self, call: Callable[[], Awaitable[T]]) -> T:
        """The call, made again where that is promising."""
        for pause in PAUSES:
            began = time.monotonic()
            try:
                return await call()
            except RETRIABLE as error:
                if not await self._mended(error, time.monotonic() - began, pause):
                    raise
        return await call()

    async def _mended(self, error: Exception, took: float, pause: float) -> bool:
        """Whether the same call may go well now. Raises ConfigError when an embedded server does not start again."""
        if isinstance(error, RedisTimeoutError) or took > LONG:
            # The connection may be dead at its other end, and then so are those that idle. A new one tells; but if the
            # server hangs, one call that waits once more is enough.
            await self._drop_idle()
            return self._breaker.failed()
        if not isinstance(error, RedisConnectionError):
            return False
        if self._revive is not None:
            await self._start_again(self._revive)
            return True
        if not self._breaker.is_open:
            await self._sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
        # Another call may have given up meanwhile: then this one need not find out for itself.
        return not self._breaker.is_open

    async def _start_again(self, revive: Callable[[], None]) -> None:
        await asyncio.to_thread(revive)

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _drop_idle(self) -> None:
        await self._client.connection_pool.disconnect(inuse_connections=False)


class Marks:
    """Where idle workers wait: content-free marks, one set a queue."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def wait(self, queues: Iterable[str], longest: float) -> bool:
        """True when work may have come, False after `longest` seconds."""
        return await self._client.bzpopmin([keys.wake(queue) for queue in queues], timeout=longest) is not None

    async def close(self) -> None:
        await self._client.aclose()


class FinishedJobs:
    """Reads from `job_events` which jobs are over."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def last(self) -> bytes:
        """The id to read on from."""
        newest = await self._client.xrevrange(keys.EVENTS, count=1)
        return cast("bytes", newest[0][0]) if newest else b"0-0"

    async def after(self, last: bytes, longest: float) -> tuple[bytes, list[str]]:
        """Ids of jobs that ended since `last`, and the id to go on from. Blocks up to `longest` seconds."""
        answer: Any = await self._client.xread({keys.EVENTS: last}, count=100, block=round(longest * 1000))
        entries: list[tuple[bytes, dict[bytes, bytes]]] = answer[0][1] if answer else []
        ids = [job_id for _, fields in entries for job_id in fields[b"ids"].decode().split(",")]
        return (entries[-1][0] if entries else last), ids

    async def close(self) -> None:
        await self._client.aclose()


class Heart:
    """Extends leases from the heartbeat's own thread."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._script = scripts.load()["heartbeat"]

    def beat(self, held: Sequence[tuple[str, str]], lease: int) -> list[tuple[str, str]]:
        """Per pair of id and token: `ok`, `lost` or `cancel`, and the cancel's reason. Raises redis errors."""
        verdicts: list[tuple[str, str]] = []
        for start in range(0, len(held), HEARTBEAT_BATCH):
            rows = [column for pair in held[start : start + HEARTBEAT_BATCH] for column in pair]
            verdicts += [_pair(pair) for pair in self._evalsha(self._script.argv({"lease": lease}, rows))]
        return verdicts

    def close(self) -> None:
        self._client.close()

    def _evalsha(self, argv: list[Any]) -> Any:
        try:
            return self._client.evalsha(self._script.sha, 1, keys.QUEUE, *argv)
        except NoScriptError:
            # Not EVAL: a right that nothing else here needs.
            self._client.script_load(self._script.source)
            return self._client.evalsha(self._script.sha, 1, keys.QUEUE, *argv)


RETRIABLE: tuple[type[Exception], ...] = (RedisError, OSError)
"""What a pump call or a heartbeat may raise when the server is away."""


def is_away(error: Exception) -> bool:
    """The server did not answer; a refusal is an answer."""
    return not isinstance(error, ResponseError)


def told(error: Exception) -> JobqError:
    """redis-py's error in ours: a foreign type under a job's key, a server without memory, or else `unavailable`."""
    if "WRONGTYPE" in str(error)[:64]:
        return CorruptRecord("the job's key holds something that is not a record")
    if isinstance(error, OutOfMemoryError) or "OOM" in str(error)[:64]:
        return StoreFull("Redis is at its memory limit; jobs run on, new ones are refused until some have finished")
    return StoreUnavailable(f"Redis does not serve writes right now ({type(error).__name__})")


def found_or_told(found: Stored | RedisError | None) -> Stored | None:
    """One answer of `stored_many`. Raises the job's own error, in ours."""
    if isinstance(found, RedisError):
        raise told(found) from found
    return found


def _stored(values: Any, attempts: Any) -> Stored | RedisError | None:
    for part in (values, attempts):
        if isinstance(part, RedisError):
            return part
    record, payload, result = values
    return None if record is None else Stored(record, payload, result, attempts)


def _word(reply: bytes) -> str:
    return reply.decode()


def _words(reply: list[bytes]) -> list[str]:
    return [word.decode() for word in reply]


def _pair(reply: list[bytes]) -> tuple[str, str]:
    return reply[0].decode(), reply[1].decode()
