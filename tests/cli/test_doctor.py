"""`jobq doctor` against servers that are right and wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.support import Shell
from tests.support.servers import Valkey


def examined(shell: Shell, **env: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = shell.pipe("doctor", "--json", **env)
    document = json.loads(done.out)
    assert document["ok"] == (done.code == 0)
    return done.code, {finding["name"]: finding for finding in document["findings"]}


def test_a_server_that_is_wrong(tmp_path: Path, own_valkey: Valkey) -> None:
    """Each error says what is so, why it matters, and the command that repairs it."""
    with own_valkey.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", "100mb")
        client.config_set("appendonly", "no")
        client.rpush("job_parked:gone", "x")
        client.sadd("job_parked", "gone")
        client.hset("job_quarantine", "y", "z")
    code, found = examined(Shell(tmp_path, {"JOBQ_REDIS_URL": own_valkey.url}))
    assert code == 1
    assert found["eviction"]["level"] == "error"
    assert found["eviction"]["fix"].startswith(
        f"redis-cli -s {own_valkey.socket} CONFIG SET maxmemory-policy noeviction"
    )
    assert found["aof"]["level"] == "warning"
    assert "CONFIG SET appendonly yes" in found["aof"]["fix"]
    assert (found["parked"]["level"], found["parked"]["what"]) == ("warning", "1 set aside")
    assert found["quarantined"]["level"] == "warning"
    assert found["workers"]["level"] == "warning"
    for name in ("version", "role", "permissions", "scripts", "clock"):
        assert found[name]["level"] == "ok"
    assert "MiB used of 100 MiB" in found["memory"]["what"]


def test_a_durability_that_the_server_does_not_have(tmp_path: Path, own_valkey: Valkey) -> None:
    """Elsewhere such a server is refused at start; here it is looked at, and warnings alone are exit code 0."""
    shell = Shell(tmp_path, {"JOBQ_REDIS_URL": own_valkey.url})
    code, found = examined(shell, JOBQ_DURABILITY="fsync")
    assert code == 1
    assert "CONFIG SET appendfsync always" in found["aof"]["fix"]
    assert examined(shell)[0] == 0


def test_no_server(tmp_path: Path) -> None:
    """One finding, an error, without the password."""
    code, found = examined(Shell(tmp_path, {"JOBQ_REDIS_URL": "redis://:s3cret@127.0.0.1:1"}))
    assert code == 1
    assert list(found) == ["server"]
    assert "s3cret" not in str(found)


def test_the_embedded_server(tmp_path: Path) -> None:
    """It is started to be looked at, and all is well with it."""
    code, found = examined(Shell(tmp_path, {"JOBQ_DATA_DIR": str(tmp_path / "d"), "JOBQ_DURABILITY": "fsync"}))
    assert code == 0
    assert found["version"]["what"].startswith("embedded Valkey")
    assert found["aof"]["what"].endswith("appendfsync always")
