"""How `uvicorn api:app` starts, and how it says that it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from starlette.types import Message

from jobq import Client, Settings, telemetry
from jobq.http.app import create_app
from tests.http.support import registry
from tests.support.servers import Valkey

ROOT = Path(__file__).parents[2]


def uvicorn(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "uvicorn", "api:app", "--port", "0"]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=30
    )


@pytest.mark.parametrize(
    "url",
    ["redis://127.0.0.1:1", "redis://user:hush@127.0.0.1:1/0", "unix:///nowhere/redis.sock", "http://127.0.0.1:6379"],
)
def test_broken_url_is_told_in_one_line(url: str) -> None:
    """A server that cannot be used ends the start with one line that names it and the setting, and no traceback."""
    ended = uvicorn(JOBQ_REDIS_URL=url)
    lines = [line for line in (ended.stderr + ended.stdout).splitlines() if "JOBQ_REDIS_URL" in line]
    assert ended.returncode != 0
    assert len(lines) == 1
    assert "Traceback" not in ended.stderr + ended.stdout
    assert "hush" not in ended.stderr + ended.stdout


async def test_client_lives_as_long_as_the_application(valkey: Valkey) -> None:
    """The lifespan opens the client and closes it."""
    app = create_app(Settings(redis_url=valkey.url), registry)
    async with app.router.lifespan_context(app):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http:
            assert (await http.get("/readyz")).status_code == 200
            assert (await http.post("/submit-job", json={"task": "send_email"})).status_code == 200
        client = app.state.jobq
        assert client.server is not None
    assert client.server is None


async def test_other_errors_keep_their_traceback(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in the start is not shortened to one line."""
    app = create_app(settings, registry)
    monkeypatch.setattr("jobq.http.app.Client", lambda **_: 1 / 0)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(ZeroDivisionError):
        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert "Traceback" in sent[0]["message"]


async def test_warnings(own_valkey: Valkey, capfd: pytest.CaptureFixture[str]) -> None:
    """What is put up with is in the log, and nowhere in a program that has none set up."""
    with own_valkey.client() as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
        admin.config_set("appendonly", "no")
    settings = Settings(redis_url=own_valkey.url, allow=("eviction",))
    async with Client(settings=settings):
        assert ("", "") == capfd.readouterr()
    telemetry.configure(settings)
    async with Client(settings=settings):
        said = capfd.readouterr().err
    assert "JOBQ_ALLOW=eviction, so this is put up with: eviction: maxmemory-policy allkeys-lru" in said
    assert "aof: JOBQ_DURABILITY=fast: AOF off" in said


@pytest.mark.parametrize(
    "command", [["-m", "uvicorn", "api:app", "--port", "0"], ["worker.py"], ["-m", "jobq", "queues"]]
)
def test_refused_server_is_told_in_one_line(own_valkey: Valkey, command: list[str]) -> None:
    """API, worker and command line do not start with a server that would lose jobs, and say what to do."""
    with own_valkey.client() as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
    ended = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env={**os.environ, "JOBQ_REDIS_URL": own_valkey.url},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    [line] = [line for line in (ended.stderr + ended.stdout).splitlines() if "allkeys-lru" in line]
    assert ended.returncode != 0
    assert "CONFIG SET maxmemory-policy noeviction" in line
    assert "Traceback" not in ended.stderr + ended.stdout
