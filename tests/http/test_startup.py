"""How `uvicorn api:app` starts, and how it says that it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from starlette.types import Message

from jobq import Settings
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
