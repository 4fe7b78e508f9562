"""`jobq doctor`: examines server and queue. Each finding says what is so, why it matters and the exact repair."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jobq.errors import ConfigError, StoreUnavailable
from jobq.settings import Durability, Settings
from jobq.store import scripts
from jobq.store.connect import Server, connect
from jobq.store.inspect import Inspector, Overview, QueueView, WorkerView
from jobq.store.store import RETRIABLE

OLDEST = {"valkey": (8,), "redis": (7,)}
PINGS = 20
SLOW_MS = 5.0
"""A round trip beyond this costs throughput: each claim and each settle is one."""
CLOCKS_APART = 1.0
"""Seconds by which this computer's clock may differ from the server's."""
FULL, NEARLY_FULL = 0.95, 0.8
"""Parts of the memory limit."""

UNREACHABLE: tuple[type[Exception], ...] = (*RETRIABLE, StoreUnavailable)

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: Level
    what: str
    why: str = ""
    fix: str = ""


class Probe(Inspector):
    """Asks the server about itself. Raises redis errors as they come."""

    async def info(self) -> dict[str, Any]:
        info: dict[str, Any] = await self._client.info("everything")
        return info

    async def setting(self, name: str) -> str | None:
        """None when the server does not say: hosted ones often forbid CONFIG."""
        try:
            found = await self._client.config_get(name)
        except RETRIABLE:
            return None
        value: str | None = found.get(name)
        return value

    async def round_trip_ms(self) -> float:
        took = []
        for _ in range(PINGS):
            began = time.perf_counter()
            await self._client.ping()
            took.append((time.perf_counter() - began) * 1000)
        return statistics.median(took)

    async def load(self, source: str) -> None:
        await self._client.script_load(source)


async def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order in which one would repair them."""
    try:
        server = await connect(_lenient(settings))
    except ConfigError as error:
        return [Finding("server", "error", str(error), "without a server no job is accepted and none is run")]
    store, probe = server.store(), Probe(server.inspector()._client)
    try:
        info = await probe.info()
        findings = [_kind(server, info), _role(info), *_memory(server, info)]
        findings += _durability(settings, server, info, await probe.setting("appendfsync"))
        findings += [await _round_trip(probe), await _scripts(probe), await _clock(probe)]
        try:
            await store.writable()
        except StoreUnavailable as error:
            findings.append(
                Finding("submit", "error", f"a submit would be refused: {error}", "no job is accepted", "see above")
            )
        workers = await probe.workers()
        queues = await probe.queues()
        overview = await probe.overview([])
        return [*findings, *_workers(workers, queues), *_set_aside(server, overview)]
    except UNREACHABLE as error:
        return [
            Finding(
                "server",
                "error",
                f"it stopped answering: {error}",
                "without a server no job is accepted and none is run",
                f"look into its log, and try {_cli(server, 'PING')}",
            )
        ]
    finally:
        await probe.close()
        await store.close()
        server.close()


def _lenient(settings: Settings) -> Settings:
    """A server that is not durable enough is refused elsewhere; here it is looked at."""
    return settings if settings.redis_url is None else settings.having(durability=Durability.FAST)


def _cli(server: Server, command: str) -> str:
    # The command line for the embedded server may hold its password.
    return f"{'redis-cli …' if server.embedded else server.cli} {command}"


def _kind(server: Server, info: dict[str, Any]) -> Finding:
    kind = "valkey" if "valkey_version" in info else "redis"
    version = str(info.get(f"{kind}_version", "0"))
    what = f"{'embedded ' if server.embedded else ''}{kind.capitalize()} {version}"
    if info.get("cluster_enabled"):
        return Finding(
            "server",
            "error",
            f"{what} in cluster mode",
            "jobq's keys would lie on several nodes, and its scripts need them on one",
            "use a server with cluster-enabled no",
        )
    oldest = OLDEST[kind]
    if tuple(int(number) for number in re.findall(r"\d+", version))[: len(oldest)] < oldest:
        return Finding(
            "server",
            "error",
            f"{what} is too old",
            "the scripts use what came with Valkey 8 and Redis 7",
            f"upgrade it to {kind.capitalize()} {oldest[0]} or newer",
        )
    return Finding("server", "ok", what)


def _role(info: dict[str, Any]) -> Finding:
    role = info.get("role")
    if role == "master":
        return Finding("role", "ok", "primary")
    return Finding(
        "role",
        "error",
        f"this is a replica of {info.get('master_host')}:{info.get('master_port')}",
        "a replica takes no writes",
        "set JOBQ_REDIS_URL to the primary",
    )


def _memory(server: Server, info: dict[str, Any]) -> Iterator[Finding]:
    policy = info.get("maxmemory_policy")
    if policy == "noeviction":
        yield Finding("maxmemory-policy", "ok", "noeviction")
    else:
        yield Finding(
            "maxmemory-policy",
            "error",
            str(policy),
            "a full server would throw away jobs that it had accepted",
            f"{_cli(server, 'CONFIG SET maxmemory-policy noeviction')}, and the same line in its configuration",
        )
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    bound = limit or int(info.get("total_system_memory", 0))
    what = f"{_mib(used)} used of {_mib(bound)}{'' if limit else ', the whole machine: no maxmemory is set'}"
    if not bound or used < NEARLY_FULL * bound:
        yield Finding("memory", "ok", what)
    else:
        yield Finding(
            "memory",
            "error" if used >= FULL * bound else "warning",
            what,
            "when it is full, submits are refused until jobs have finished and were forgotten",
            "raise maxmemory, or keep less: JOBQ_RESULT_TTL, JOBQ_RETENTION, JOBQ_MAX_FINISHED",
        )


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"


def _durability(settings: Settings, server: Server, info: dict[str, Any], fsync: str | None) -> Iterator[Finding]:
    level = settings.durability.value
    what = (
        f"JOBQ_DURABILITY={level}: AOF {'on' if info.get('aof_enabled') else 'off'}, appendfsync {fsync or 'unknown'}"
    )
    wanted = "always" if settings.durability is Durability.FSYNC else "everysec"
    fix = (
        f"{_cli(server, 'CONFIG SET appendonly yes')}; {_cli(server, f'CONFIG SET appendfsync {wanted}')};"
        " and the same two lines in its configuration"
    )
    if not info.get("aof_enabled"):
        yield Finding("durability", "error", what, "what was accepted is lost when the server restarts", fix)
    elif fsync is None:
        yield Finding(
            "durability",
            "warning",
            what,
            "the server does not let us read its configuration",
            f"see to it that appendfsync is {wanted} there",
        )
    elif settings.durability is Durability.FSYNC and fsync != "always":
        yield Finding("durability", "error", what, "a power failure loses jobs that were accepted", fix)
    elif fsync == "no":
        yield Finding("durability", "warning", what, "a power failure loses up to half a minute of jobs", fix)
    else:
        yield Finding("durability", "ok", what)
    failed = [n for n in ("aof_last_write_status", "aof_last_bgrewrite_status") if info.get(n, "ok") != "ok"]
    if failed:
        yield Finding(
            "disk",
            "error",
            f"the server could not write: {', '.join(failed)}",
            "it refuses writes, or will not start with all of its data",
            "make room on its disk and look into its log",
        )


async def _round_trip(probe: Probe) -> Finding:
    took = await probe.round_trip_ms()
    what = f"{took:.2f} ms"
    if took <= SLOW_MS:
        return Finding("round trip", "ok", what)
    return Finding(
        "round trip",
        "warning",
        what,
        "each claim and each settle is one round trip",
        "run workers and API near the server, in the same zone",
    )


async def _scripts(probe: Probe) -> Finding:
    transitions = scripts.load()
    try:
        for script in transitions.values():
            await probe.load(script.source)
    except RETRIABLE as error:
        return Finding(
            "scripts",
            "error",
            f"the server does not load our scripts: {error}",
            "every change to a job is a script",
            "allow this user the commands of @scripting: ACL SETUSER <user> +@scripting",
        )
    return Finding("scripts", "ok", f"all {len(transitions)} load")


async def _clock(probe: Probe) -> Finding:
    before = time.time()
    server = await probe.now() / 1000
    ahead = (before + time.time()) / 2 - server
    what = f"{abs(ahead):.3f} s {'ahead of' if ahead > 0 else 'behind'} the server's"
    if abs(ahead) <= CLOCKS_APART:
        return Finding("clock", "ok", what)
    return Finding(
        "clock",
        "warning",
        what,
        "the server's clock decides when a job is due: a run_at made here means another time there",
        "keep both clocks with NTP",
    )


def _workers(workers: Sequence[WorkerView], queues: Sequence[QueueView]) -> Iterator[Finding]:
    if workers:
        yield Finding("workers", "ok", f"{len(workers)} running")
    else:
        yield Finding("workers", "warning", "none is running", "what is submitted waits", "jobq worker")
    served = {name for worker in workers for name in worker.queues}
    for queue in queues:
        if queue.depth and workers and queue.name not in served:
            yield Finding(
                "queues",
                "warning",
                f"{queue.depth} wait in {queue.name}, which no worker serves",
                "they wait until one does",
                f"jobq worker --queues {queue.name}",
            )
        if queue.depth and queue.paused:
            yield Finding(
                "queues",
                "warning",
                f"{queue.name} is paused, {queue.depth} wait in it",
                "nothing of it is started",
                f"jobq queues resume {queue.name}",
            )


def _set_aside(server: Server, overview: Overview) -> Iterator[Finding]:
    zrange, hgetall = _cli(server, "ZRANGE job_missing 0 -1"), _cli(server, "HGETALL job_quarantine")
    known = (
        ("parked", overview.parked, "no worker knows their task", "run one that does: they come back within a second"),
        ("missing", overview.missing, "their ids are in a queue without a record", f"find who wrote them: {zrange}"),
        ("quarantined", overview.quarantined, "their records are unreadable", f"find who wrote them: {hgetall}"),
    )
    for name, count, why, fix in known:
        yield Finding(name, "warning", f"{count} set aside", why, fix) if count else Finding(name, "ok", "none")
