"""What a server must be like for jobq to keep its promises: pure functions from facts to findings.

A start refuses what it finds wrong here, `jobq doctor` shows it all, and readiness asks again while the process runs.
The names of findings that may be overridden are those of `JOBQ_ALLOW`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from jobq.settings import Allowed, Durability, Settings
from jobq.store.facts import Facts, version

OLDEST = {"valkey": (8,), "redis": (7,)}
FULL, NEARLY_FULL = 0.95, 0.8
"""Parts of the memory limit."""
DRAINED = frozenset({"memory", "disk"})
"""Errors that pass when workers go on, or by themselves: no start is refused for them."""

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what is so, why it matters, and the exact repair."""

    name: str
    level: Level
    what: str
    why: str = ""
    fix: str = ""

    @property
    def line(self) -> str:
        return "; ".join(part for part in (f"{self.name}: {self.what}", self.why, self.fix) if part)

    @property
    def refuses(self) -> bool:
        """A process that starts, or is to be ready, must not take this."""
        return self.level == "error" and self.name not in DRAINED


def examine(facts: Facts, settings: Settings, cli: str, *, embedded: bool = False) -> list[Finding]:
    """All findings, in the order in which one would repair them. `cli` opens the server; it is part of repairs."""
    info = facts.info
    return [
        *_server(info, embedded),
        *_role(info),
        *_permissions(facts),
        *_eviction(info, cli),
        *_memory(info),
        *_aof(facts, settings.durability, cli),
        *_replay(facts),
        *_unknown(facts),
    ]


def refused(findings: Sequence[Finding], settings: Settings) -> Finding | None:
    """The first that a start or readiness must not take."""
    return next((finding for finding in findings if finding.refuses and finding.name not in settings.allow), None)


def warnings(findings: Sequence[Finding]) -> list[str]:
    """What is to be logged of a server that is not refused."""
    return [
        f"JOBQ_ALLOW={finding.name}, so this is put up with: {finding.line}" if finding.refuses else finding.line
        for finding in findings
        if finding.level != "ok"
    ]


def refusal(finding: Finding) -> str:
    """In one line."""
    way_out = f", or put up with it: JOBQ_ALLOW={finding.name}" if finding.name in get_args(Allowed) else ""
    return f"{finding.line}{way_out}"


def _server(info: dict[str, Any], embedded: bool) -> Iterator[Finding]:
    kind, number = version(info)
    if not number:
        return
    what = f"{'embedded ' if embedded else ''}{kind.capitalize()} {'.'.join(map(str, number))}"
    oldest = OLDEST[kind]
    if number < oldest:
        why = "the scripts use what came with Valkey 8 and Redis 7"
        fix = f"upgrade it to {kind.capitalize()} {oldest[0]} or newer"
        yield Finding("version", "error", f"{what} is too old", why, fix)
    else:
        yield Finding("version", "ok", what)
    if info.get("cluster_enabled"):
        why = "jobq's keys would lie on several nodes, and its scripts need them on one"
        yield Finding("cluster", "error", f"{what} in cluster mode", why, "use a server with cluster-enabled no")


def _role(info: dict[str, Any]) -> Iterator[Finding]:
    role = info.get("role")
    if role == "master":
        yield Finding("role", "ok", "primary")
    elif role:
        what = f"this is a replica of {info.get('master_host')}:{info.get('master_port')}"
        yield Finding("role", "error", what, "a replica takes no writes", "set JOBQ_REDIS_URL to the primary")


def _permissions(facts: Facts) -> Iterator[Finding]:
    if facts.denied:
        rights = [
            f"+{'script|load' if line.startswith('SCRIPT') else line.split()[0].lower()}" for line in facts.denied
        ]
        what = f"this user may not use {', '.join(facts.denied[:5])}{' …' if len(rights) > 5 else ''}"
        fix = f"allow it: ACL SETUSER <user> ~job* {' '.join(rights)}"
        yield Finding("permissions", "error", what, "every change to a job is a script that uses them", fix)
    elif facts.denied is not None:
        yield Finding("permissions", "ok", "this user may use all that the scripts do")


def _eviction(info: dict[str, Any], cli: str) -> Iterator[Finding]:
    policy = info.get("maxmemory_policy")
    if policy == "noeviction":
        yield Finding("eviction", "ok", "maxmemory-policy noeviction")
    elif policy:
        why = "a full server would throw away jobs that it had accepted"
        fix = f"{cli} CONFIG SET maxmemory-policy noeviction, and the same line in its configuration"
        yield Finding("eviction", "error", f"maxmemory-policy {policy}", why, fix)


def _memory(info: dict[str, Any]) -> Iterator[Finding]:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    bound = limit or int(info.get("total_system_memory", 0))
    what = f"{_mib(used)} used of {_mib(bound)}{'' if limit else ', the whole machine: no maxmemory is set'}"
    if not bound:
        return
    if used < NEARLY_FULL * bound:
        yield Finding("memory", "ok", what)
    else:
        why = "when it is full, submits are refused until jobs have finished and were forgotten"
        fix = "raise maxmemory, or keep less: JOBQ_RESULT_TTL, JOBQ_RETENTION, JOBQ_MAX_FINISHED"
        yield Finding("memory", "error" if used >= FULL * bound else "warning", what, why, fix)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"


def _aof(facts: Facts, durability: Durability, cli: str) -> Iterator[Finding]:
    info, fsync = facts.info, facts.fsync
    if "aof_enabled" not in info and durability is Durability.FAST:
        return
    wanted = "always" if durability is Durability.FSYNC else "everysec"
    state = {None: "unknown", 0: "off", 1: "on"}[info.get("aof_enabled")]
    what = f"JOBQ_DURABILITY={durability.value}: AOF {state}, appendfsync {fsync or 'unknown'}"
    fix = (
        f"{cli} CONFIG SET appendonly yes; {cli} CONFIG SET appendfsync {wanted}; and the same two lines in its"
        " configuration"
    )
    if durability is Durability.FSYNC:
        right = (state, fsync) == ("on", "always")
        why = "a power failure, or a restart without AOF, loses jobs that were accepted"
        yield Finding("aof", "ok", what) if right else Finding("aof", "error", what, why, fix)
    elif state == "off":
        yield Finding("aof", "warning", what, "what was accepted is lost when the server restarts", fix)
    elif fsync == "no":
        yield Finding("aof", "warning", what, "a power failure loses up to half a minute of jobs", fix)
    else:
        yield Finding("aof", "ok", what)
    failed = [n for n in ("aof_last_write_status", "aof_last_bgrewrite_status") if info.get(n, "ok") != "ok"]
    if failed:
        why = "it refuses writes, or will not start with all of its data"
        fix = "make room on its disk and look into its log"
        yield Finding("disk", "error", f"the server could not write: {', '.join(failed)}", why, fix)


def _replay(facts: Facts) -> Iterator[Finding]:
    if facts.unreplayed:
        what = f"its user `default` may not use {facts.unreplayed.split()[0]}"
        why = "this version loads its AOF in that name and leaves out what it may not do: jobs are lost at a restart"
        fix = "ACL SETUSER default off ~* &* +@all (it may stay off), or upgrade to Valkey 9.1.2 or newer"
        yield Finding("replay", "error", what, why, fix)


def _unknown(facts: Facts) -> Iterator[Finding]:
    """One line for all that the server keeps to itself."""
    unknown = [
        *(["INFO"] if not facts.info else []),
        *(["CONFIG GET appendfsync"] if facts.fsync is None else []),
        *(["the rights of this user"] if facts.denied is None else []),
        *(["the rights of its user `default`"] if facts.unreplayed is None else []),
    ]
    if unknown:
        what = f"the server does not tell {', '.join(unknown)}"
        yield Finding("unknown", "warning", what, "what depends on it could not be checked", "see README, Platforms")
