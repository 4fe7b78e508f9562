"""What a server says of itself, in one round trip. What hosted ones forbid to ask is unknown, and no error."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

WRITES = (
    "DEL job:x", "EXPIRE job_stats:0 1", "HDEL job_running x", "HINCRBY job_stats:0 x 1", "HSET job_running x y",
    "HSETNX job_running x y", "LPOP job_queue", "LPUSH job_queue x", "LREM job_queue 1 x", "LTRIM job_queue 0 1",
    "MSET job:x y", "RPUSH job_queue x", "SADD job_queues x", "SET job:x y", "SREM job_queues x", "UNLINK job:x",
    "XADD job_events * x y", "ZADD job_schedule 1 x", "ZREM job_schedule x", "ZREMRANGEBYSCORE job_schedule 0 1",
)  # fmt: skip
"""What the scripts write with."""

READS = (
    "EXISTS job:x", "GET job:x", "HEXISTS job_running x", "HGET job_running x", "HGETALL job_running",
    "HKEYS job_running", "HLEN job_running", "HMGET job_running x", "HSCAN job_running 0", "LLEN job_queue",
    "LPOS job_queue x", "LRANGE job_queue 0 1", "MGET job:x", "SCAN 0", "SMEMBERS job_queues",
    "SMISMEMBER job_queues x", "SSCAN job_queues 0", "TIME", "TYPE job:x", "XRANGE job_events - +",
    "XREAD STREAMS job_events 0", "XREVRANGE job_events + -", "ZCARD job_schedule", "ZMSCORE job_schedule x",
    "ZRANGE job_schedule 0 1", "ZRANGEBYSCORE job_schedule 0 1", "ZREVRANGE job_schedule 0 1",
    "ZREVRANGEBYSCORE job_schedule 1 0", "ZSCAN job_schedule 0", "ZSCORE job_schedule x",
)  # fmt: skip

OTHERS = ("BZPOPMIN job_wake:x 0", "EVALSHA x 0", "EXEC", "INFO", "MULTI", "SCRIPT LOAD x")

REPLAYS_ALL = {"valkey": (9, 1, 2), "redis": (8, 6)}
"""From this version on an AOF is loaded whatever its transactions hold. Valkey's was found by trying, Redis' is that
of the release after the repair (redis#14545)."""

# It is asked as the user who calls, and needs no right to look into the ACL.
_MAY = """#!lua flags=no-writes,allow-stale
local denied = {}
for _, line in ipairs(ARGV) do
  local words = {}
  for word in string.gmatch(line, '%S+') do
    words[#words + 1] = word
  end
  local known, allowed = pcall(redis.acl_check_cmd, unpack(words))
  if known and not allowed then
    denied[#denied + 1] = line
  end
end
return denied
"""
_SHA = hashlib.sha1(_MAY.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one moment. None stands for what the server does not say."""

    info: dict[str, Any] = field(default_factory=dict)
    """Empty when it is not told."""
    fsync: str | None = None
    """`appendfsync`."""
    denied: Sequence[str] | None = None
    """Commands that we need and may not use."""
    unreplayed: str | None = None
    """A command that this server would leave out when it loads its AOF; empty when there is none."""


async def ask(client: Redis) -> Facts:
    """Raises redis errors when the server does not answer at all."""
    pipe = client.pipeline(transaction=False)
    pipe.info()
    pipe.config_get("appendfsync")
    pipe.execute_command("ACL WHOAMI")
    pipe.execute_command("SCRIPT LOAD", _MAY)
    pipe.execute_command("EVALSHA", _SHA, 0, *WRITES, *READS, *OTHERS)
    info, config, user, loaded, denied = await pipe.execute(raise_on_error=False)
    if isinstance(info, RedisError) and not isinstance(info, ResponseError):
        raise info
    info = info if isinstance(info, dict) else {}
    return Facts(
        info=info,
        fsync=config.get("appendfsync") if isinstance(config, dict) else None,
        denied=_denied(loaded, denied),
        unreplayed=await _unreplayed(client, info, _text(user)),
    )


def version(info: dict[str, Any]) -> tuple[str, tuple[int, ...]]:
    """Which server, `valkey` or `redis`, and its version."""
    kind = "valkey" if "valkey_version" in info else "redis"
    return kind, tuple(int(number) for number in re.findall(r"\d+", str(info.get(f"{kind}_version", ""))))


async def _unreplayed(client: Redis, info: dict[str, Any], user: str | None) -> str | None:
    """What a script wrote is a transaction in the AOF. As it loads that, a server with the bug (valkey#3983) asks again
    whether the user `default` may do so, drops the whole transaction if not, and starts."""
    kind, number = version(info)
    if user == "default" or not info.get("aof_enabled") or number >= REPLAYS_ALL[kind]:
        return ""  # what `default` lacks, if we are that, is `denied`
    pipe = client.pipeline(transaction=False)
    for line in WRITES:
        pipe.execute_command("ACL DRYRUN", "default", *line.split())
    told = [_text(answer) for answer in await pipe.execute(raise_on_error=False)]
    if None in told:
        return None
    return next((line for line, answer in zip(WRITES, told, strict=True) if answer != "OK"), "")


def _denied(loaded: Any, denied: Any) -> list[str] | None:
    if isinstance(loaded, NoPermissionError):
        return ["SCRIPT LOAD"]
    if isinstance(denied, NoPermissionError):
        return ["EVALSHA"]
    return [line.decode() for line in denied] if isinstance(denied, list) else None


def _text(answer: Any) -> str | None:
    return answer.decode() if isinstance(answer, bytes) else answer if isinstance(answer, str) else None
