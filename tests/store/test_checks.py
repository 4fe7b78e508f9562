"""What a start refuses, what it warns of, and what it lets pass."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from jobq import Client, Registry, Settings, SyncClient
from jobq.errors import ConfigError
from jobq.settings import Durability
from jobq.store import facts as asked
from jobq.store import keys, scripts
from jobq.store.checks import Finding, examine, refused, warnings
from jobq.store.connect import connect
from jobq.store.facts import Facts
from jobq.testing import run_all
from tests.store.support import submission
from tests.store.test_scripts import PIECES, SOURCES
from tests.support.servers import Valkey

GOOD: dict[str, Any] = {
    "valkey_version": "9.1.2", "role": "master", "cluster_enabled": 0, "maxmemory_policy": "noeviction",
    "used_memory": 1 << 20, "maxmemory": 1 << 30, "aof_enabled": 1,
}  # fmt: skip


def found(durability: Durability = Durability.FAST, **told: Any) -> dict[str, Finding]:
    """By name, of a server that is right but for what is said."""
    own = {name: told.pop(name) for name in ("fsync", "denied", "unreplayed") if name in told}
    facts = Facts(info={**GOOD, **told}, **{"fsync": "everysec", "denied": [], "unreplayed": "", **own})
    return {finding.name: finding for finding in examine(facts, Settings(durability=durability), "redis-cli")}


def test_a_server_as_it_should_be() -> None:
    """There is nothing to say about it."""
    assert {"ok"} == {finding.level for finding in found().values()}
    assert {"ok"} == {finding.level for finding in found(Durability.FSYNC, fsync="always").values()}


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ({"valkey_version": "7.2.5"}, "version"),
        ({"cluster_enabled": 1}, "cluster"),
        ({"role": "slave", "master_host": "h", "master_port": 1}, "role"),
        ({"maxmemory_policy": "allkeys-lru"}, "eviction"),
        ({"denied": ["ZADD job_schedule 1 x"]}, "permissions"),
        ({"unreplayed": "SET job:x y"}, "replay"),
        ({"durability": Durability.FSYNC}, "aof"),
        ({"durability": Durability.FSYNC, "fsync": None}, "aof"),
        ({"durability": Durability.FSYNC, "fsync": "always", "aof_enabled": 0}, "aof"),
    ],
)
def test_what_is_refused(told: dict[str, Any], name: str) -> None:
    """A server that would lose jobs, or take none, is refused; where one may know better, by name it is put up with."""
    findings = list(found(**told).values())
    wrong = refused(findings, Settings())
    assert wrong is not None
    assert name == wrong.name
    assert all((wrong.what, wrong.why, wrong.fix))
    if name not in ("cluster", "role"):
        allowed = Settings.load(allow=name)
        assert refused(findings, allowed) is None
        assert any(f"JOBQ_ALLOW={name}" in line for line in warnings(findings))


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ({"aof_enabled": 0}, "aof"),
        ({"fsync": "no"}, "aof"),
        ({"used_memory": 0.85 * (1 << 30)}, "memory"),
        ({"used_memory": 0.99 * (1 << 30)}, "memory"),
        ({"aof_last_write_status": "err"}, "disk"),
        ({"fsync": None, "denied": None, "unreplayed": None}, "unknown"),
    ],
)
def test_what_is_only_said(told: dict[str, Any], name: str) -> None:
    """What costs less, passes with work, or cannot be known is one warning: a full server has to be drained."""
    findings = list(found(**told).values())
    assert refused(findings, Settings()) is None
    assert [name] == [line.partition(":")[0] for line in warnings(findings)]


def test_a_server_that_tells_nothing() -> None:
    """Hosted servers forbid much: all that is unknown is one line, and no reason to refuse."""
    findings = examine(Facts(), Settings(), "redis-cli")
    assert [("unknown", "warning")] == [(finding.name, finding.level) for finding in findings]


def test_a_wrong_name_is_no_permission() -> None:
    """What cannot be overridden, or does not exist, is a wrong setting."""
    for name in ("role", "evictions"):
        with pytest.raises(ConfigError, match="JOBQ_ALLOW"):
            Settings.load(allow=name)


async def test_the_commands_of_the_scripts_are_all_asked_for(redis: Redis) -> None:
    """No script uses a command whose permission is not looked at; what they write with is told apart."""
    known = {name.upper() for name in await redis.execute_command("COMMAND LIST")}
    used = {word for text in (SOURCES | PIECES).values() for word in re.findall(r"'([A-Z]+)'", text)} & known
    writes, reads = ({line.split()[0] for line in lines} for lines in (asked.WRITES, asked.READS))
    assert set() == used - writes - reads
    info = await redis.execute_command("COMMAND INFO", *writes, *reads)
    writing = {name.upper() for name, _, flags, *_ in info if "write" in flags}
    assert writes == writing


async def test_a_start_against_a_server_that_evicts(own_valkey: Valkey) -> None:
    """Every way in refuses it in one line that says what to do; by name it is put up with."""
    with own_valkey.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    settings = Settings(redis_url=own_valkey.url)
    expected = r"maxmemory-policy allkeys-lru.*CONFIG SET maxmemory-policy noeviction.*JOBQ_ALLOW=eviction"
    with pytest.raises(ConfigError, match=expected):
        await connect(settings)
    with pytest.raises(ConfigError, match=expected):
        SyncClient(settings=settings).open()
    server = await connect(settings.having(allow="eviction"))
    assert ["JOBQ_ALLOW=eviction"] == [line.partition(",")[0] for line in server.warnings]


async def test_a_start_against_a_replica(own_valkey: Valkey) -> None:
    """A replica is refused by its role, before anything is written to it."""
    with own_valkey.client() as client:
        client.replicaof("127.0.0.1", 1)
    with pytest.raises(ConfigError, match=r"replica of 127\.0\.0\.1:1"):
        await connect(Settings(redis_url=own_valkey.url))


@pytest.fixture
def restricted(own_valkey: Valkey) -> Iterator[tuple[redis.Redis, str]]:
    """A client that may do all, and the URL of a user `app`, who may do nothing yet."""
    with own_valkey.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "reset", "on", ">pw", "~job*")
        yield client, f"unix://app:pw@{own_valkey.socket}"


async def test_the_rights_that_are_asked_for_suffice(restricted: tuple[redis.Redis, str]) -> None:
    """With exactly these commands, on keys that begin with `job`, everything works; no right to look at the server."""
    admin, url = restricted
    lines = (*asked.WRITES, *asked.READS, *asked.OTHERS)
    rights = ["script|load" if line.startswith("SCRIPT") else line.split()[0].lower() for line in lines]
    admin.execute_command("ACL", "SETUSER", "app", *(f"+{right}" for right in rights))
    registry = Registry()

    @registry.task
    async def double(n: int) -> int:
        return 2 * n

    assert () != (await connect(Settings(redis_url=url))).warnings
    async with Client(url, registry=registry) as client:
        job = await client.submit(double.job(n=2), delay=0.1)
        gone = await client.submit(double.job(n=3), delay=60)
        await gone.cancel()
        await gone.retry()
        await client.ready()
        time.sleep(0.1)
        await run_all(client, registry)
        assert 4 == await job.result(5)
        await client.inspect.queues()
        await client.inspect.overview([])
        await client.inspect.workers()
        await client.purge("default")
        await client.delete(job.job_id)
    refused = {entry["object"] for entry in admin.acl_log()}
    assert set() == refused - {"client|setinfo", "acl|whoami", "config|get"}  # what one may do without


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (["+@all", "-script"], r"may not use SCRIPT LOAD.*\+script\|load"),
        (["+@all", "-evalsha"], r"may not use EVALSHA.*\+evalsha"),
        (["+@all", "-zadd", "-xadd"], r"may not use XADD job_events \* x y, ZADD job_schedule 1 x.*\+xadd \+zadd"),
        (["+@all", "resetkeys", "~job:*"], r"may not use .*job_stats.*~job\*"),
    ],
)
async def test_a_user_who_may_not_do_enough(
    restricted: tuple[redis.Redis, str], rules: list[str], expected: str
) -> None:
    """The line names the commands that are missing, and what gives them."""
    admin, url = restricted
    admin.execute_command("ACL", "SETUSER", "app", *rules)
    with pytest.raises(ConfigError, match=expected):
        await connect(Settings(redis_url=url))


class TestReplay:
    """An AOF is loaded in the name of the user `default` (valkey#3983)."""

    @pytest.mark.parametrize("preamble", ["yes", "no"])
    @pytest.mark.parametrize("default", ["off ~* &* +@all", "reset", "on nopass resetkeys ~other +@all"])
    def test_what_scripts_wrote_is_there_after_a_restart(self, preamble: str, default: str) -> None:
        """This build loads jobs whatever `default` may do. With the last two Valkey 9.1.1, 9.0.0 and Redis 7.0.15 lost
        each job since the last rewrite, and said so only in the log: such a one must not become the embedded server."""
        server = Valkey("--aof-use-rdb-preamble", preamble)
        acl = server.dir / "acl"
        acl.write_text(f"user default {default}\nuser app on nopass ~* &* +@all\n")
        server.options = (*server.options, "--aclfile", str(acl))
        url = f"unix://app:x@{server.socket}"
        server.client = lambda: redis.Redis.from_url(url)  # type: ignore[method-assign]
        submit = scripts.load()["submit"]
        try:
            with server.start().client() as client:
                for _ in range(2):
                    row = [*submission()]
                    client.eval(submit.source, 1, keys.QUEUE, *submit.argv({"most": 0, "atomic": 0}, row))
                    client.bgrewriteaof()
                    while client.info("persistence")["aof_rewrite_in_progress"]:
                        time.sleep(0.01)
                row = [*submission()]
                client.eval(submit.source, 1, keys.QUEUE, *submit.argv({"most": 0, "atomic": 0}, row))
                time.sleep(1.2)  # `everysec`
            server.kill()
            with server.start().client() as client:
                assert (3, 3) == (client.llen("job_queue"), len(client.keys("job:*")))
        finally:
            server.kill()
            shutil.rmtree(server.dir)

    @pytest.mark.parametrize(
        ("default", "expected"),
        [
            (["off", "~*", "&*", "+@all"], ""),
            (["reset"], "DEL job:x"),
            (["on", "nopass", "+@all", "-zadd"], "ZADD job_schedule 1 x"),
            (["on", "nopass", "resetkeys", "~other"], "DEL job:x"),
        ],
    )
    async def test_a_version_that_drops_what_default_may_not_do(
        self, restricted: tuple[redis.Redis, str], monkeypatch: pytest.MonkeyPatch, default: list[str], expected: str
    ) -> None:
        """It is found before a restart shows it, and whether `default` is on or off does not matter."""
        admin, url = restricted
        admin.execute_command("ACL", "SETUSER", "app", "allkeys", "+@all")
        async with Redis.from_url(url) as client:
            await client.execute_command("ACL", "SETUSER", "default", *default)
            assert "" == (await asked.ask(client)).unreplayed
            monkeypatch.setitem(asked.REPLAYS_ALL, "valkey", (99,))
            assert expected == (await asked.ask(client)).unreplayed
            await client.execute_command("ACL", "SETUSER", "app", "-acl")
            assert (await asked.ask(client)).unreplayed is None


async def test_the_double_tells_nothing_and_passes() -> None:
    """A server that knows none of the questions is taken as it is."""
    from fakeredis import FakeAsyncRedis

    facts = await asked.ask(FakeAsyncRedis())
    assert refused(examine(facts, Settings(), ""), Settings()) is None


async def test_a_wrong_password_is_told_as_such(own_valkey: Valkey) -> None:
    """It is no server that keeps things to itself, and the password is not shown."""
    with pytest.raises(ConfigError, match=r"cannot use the Redis at unix://app:\*\*\*@.*invalid username-password"):
        await connect(Settings(redis_url=f"unix://app:s3cret@{own_valkey.socket}"))


def test_one_line_each(tmp_path: Path) -> None:
    """Whatever is found, it is said in one line."""
    for told in ({"role": "slave"}, {"maxmemory_policy": "x"}, {"denied": list(asked.WRITES)}):
        assert all("\n" not in finding.line for finding in found(**told).values())
