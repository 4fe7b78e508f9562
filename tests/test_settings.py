"""Settings of the engine, from the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobq.errors import ConfigError
from jobq.settings import Durability, Settings


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("JOBQ_") or name == "REDIS_URL"]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("redis_url", None),
        ("app", "tasks:registry"),
        ("lease", 15.0),
        ("timeout", 300.0),
        ("drain_timeout", 30.0),
        ("concurrency", 32),
        ("queues", ()),
        ("max_retries", 3),
        ("retry_backoff", 1.0),
        ("max_lost", 3),
        ("max_queued", 1_000_000),
        ("allow", ()),
        ("result_ttl", 86_400),
        ("retention", 86_400),
        ("retention_failed", 604_800),
        ("max_finished", 1_000_000),
        ("durability", Durability.FAST),
        ("unknown_tasks", "reject"),
        ("log_format", "auto"),
        ("log_level", "info"),
        ("host", "127.0.0.1"),
        ("port", 8000),
    ],
)
def test_defaults(name: str, expected: object) -> None:
    """Without any setting everything has the documented default."""
    assert expected == getattr(Settings(), name)


@pytest.mark.parametrize(
    ("variable", "value", "name", "expected"),
    [
        ("JOBQ_REDIS_URL", "redis://h:1/2", "redis_url", "redis://h:1/2"),
        ("REDIS_URL", "redis://h:1/2", "redis_url", "redis://h:1/2"),
        ("JOBQ_REDIS_URL", "valkeys://h", "redis_url", "valkeys://h"),
        ("JOBQ_REDIS_URL", "unix:///tmp/s", "redis_url", "unix:///tmp/s"),
        ("JOBQ_REDIS_URL", "", "redis_url", None),
        ("JOBQ_LEASE", "2", "lease", 2.0),
        ("JOBQ_TIMEOUT", "None", "timeout", None),
        ("JOBQ_ALLOW", "eviction, aof", "allow", ("eviction", "aof")),
        ("JOBQ_TIMEOUT", "", "timeout", None),
        ("JOBQ_TIMEOUT", "0.5", "timeout", 0.5),
        ("JOBQ_QUEUES", "mail, default,", "queues", ("mail", "default")),
        ("JOBQ_MAX_RETRIES", "0", "max_retries", 0),
        ("JOBQ_DURABILITY", "fsync", "durability", Durability.FSYNC),
        ("JOBQ_UNKNOWN_TASKS", "accept", "unknown_tasks", "accept"),
        ("JOBQ_APP", "mine:tasks", "app", "mine:tasks"),
    ],
)
def test_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, name: str, expected: object
) -> None:
    """Each setting is a variable with the prefix; the server's URL also has its common name."""
    monkeypatch.setenv(variable, value)
    assert expected == getattr(Settings.load(), name)


def test_our_own_url_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """JOBQ_REDIS_URL is looked at before REDIS_URL."""
    monkeypatch.setenv("REDIS_URL", "redis://theirs")
    monkeypatch.setenv("JOBQ_REDIS_URL", "redis://ours")
    assert "redis://ours" == Settings.load().redis_url


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("JOBQ_REDIS_URL", "http://h", "JOBQ_REDIS_URL: expected a URL such as redis://localhost:6379/0"),
        ("JOBQ_REDIS_URL", "localhost:6379", "JOBQ_REDIS_URL: expected a URL such as"),
        ("JOBQ_LEASE", "0.5", "JOBQ_LEASE: Input should be greater than or equal to 1"),
        ("JOBQ_LEASE", "soon", "JOBQ_LEASE: Input should be a valid number"),
        ("JOBQ_TIMEOUT", "0", "JOBQ_TIMEOUT: Input should be greater than 0"),
        ("JOBQ_CONCURRENCY", "0", "JOBQ_CONCURRENCY: Input should be greater than or equal to 1"),
        ("JOBQ_QUEUES", "Mail", "JOBQ_QUEUES: "),
        ("JOBQ_QUEUES", "mail:fast", "JOBQ_QUEUES: "),
        ("JOBQ_QUEUES", "mail:0", "JOBQ_QUEUES: "),
        ("JOBQ_QUEUES", "mail:3,default", "JOBQ_QUEUES: "),
        ("JOBQ_MAX_RETRIES", "-1", "JOBQ_MAX_RETRIES: Input should be greater than or equal to 0"),
        ("JOBQ_DURABILITY", "slow", "JOBQ_DURABILITY: Input should be 'fast' or 'fsync'"),
        ("JOBQ_UNKNOWN_TASKS", "maybe", "JOBQ_UNKNOWN_TASKS: Input should be 'reject' or 'accept'"),
    ],
)
def test_a_wrong_one(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str) -> None:
    """A wrong value is one line that names the variable and what is expected."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as error:
        Settings.load()

    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_several_wrong_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are named at once."""
    monkeypatch.setenv("JOBQ_LEASE", "x")
    monkeypatch.setenv("JOBQ_MAX_LOST", "0")
    with pytest.raises(ConfigError, match=r"JOBQ_LEASE: .*; JOBQ_MAX_LOST: "):
        Settings.load()


def test_weights() -> None:
    """Queues may be given weights, all of them or none."""
    assert ("mail:3", "default:1") == Settings.load(queues="mail:3,default:1").queues


def test_an_exit_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that cannot start says why and what, without a traceback."""
    monkeypatch.setenv("JOBQ_LEASE", "x")
    with pytest.raises(SystemExit, match="JOBQ_LEASE: Input should be a valid number"):
        Settings.load_or_exit()


def test_paths_are_meant_from_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative data directory is the project's, whatever folder the process starts from."""
    monkeypatch.chdir(tmp_path)
    assert Path("/srv/.jobq") == Settings.load(project=Path("/srv")).data_dir
    assert tmp_path / ".jobq" == Settings.load().data_dir
    assert Path("/var/q") == Settings.load(project=Path("/srv"), data_dir=Path("/var/q")).data_dir


def test_having(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flags of a command line win over the environment, and leave the rest as it was."""
    monkeypatch.setenv("JOBQ_LEASE", "5")
    monkeypatch.setenv("JOBQ_PORT", "9000")
    changed = Settings.load(max_lost=1).having(port=1, host=None)

    assert (5.0, 1, "127.0.0.1", 1) == (changed.lease, changed.port, changed.host, changed.max_lost)
    with pytest.raises(ConfigError, match="JOBQ_PORT"):
        Settings.load().having(port=70_000)
