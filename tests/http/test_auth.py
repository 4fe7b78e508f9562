"""The one key of the service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from jobq import ConfigError, Settings
from jobq.http.auth import check_bind, is_key

KEY = "0123456789abcdef"
BEARER = {"Authorization": f"Bearer {KEY}"}
OPEN = {"/healthz", "/readyz"}


@pytest.fixture
def settings() -> Settings:
    return Settings(api_key=SecretStr(KEY))


def test_every_operation_but_the_probes_is_guarded(app: FastAPI) -> None:
    """The document names the bearer scheme wherever a key is asked for."""
    document = app.openapi()
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation.get("security") == (None if path in OPEN else [{"bearer": []}]), path
            assert ("401" in operation["responses"]) is (path not in OPEN), path


async def test_no_route_answers_without_the_key(app: FastAPI, http: httpx.AsyncClient) -> None:
    """Each guarded operation is 401 without it, whatever else is wrong with the request."""
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            answer = await http.request(method, path, content=b"not JSON")
            if path in OPEN:
                assert answer.status_code == 200
                continue
            assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthorized"), path
            assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/redoc", "/openapi.json", "/problems/unauthorized"])
async def test_open_paths(http: httpx.AsyncClient, path: str) -> None:
    """What tells nothing about jobs is open."""
    assert (await http.get(path)).status_code == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_with_the_key(http: httpx.AsyncClient, scheme: str) -> None:
    """The key opens every route; the name of the scheme may be spelt as RFC 9110 allows."""
    headers = {"Authorization": f"{scheme} {KEY}"}
    assert (await http.post("/submit-job", json={"task": "send_email"}, headers=headers)).status_code == 200
    assert (await http.get("/v1/jobs", headers=headers)).status_code == 200


WRONG: list[Any] = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": KEY},
    {"Authorization": f"Basic {KEY}"},
    {"Authorization": f"Bearer {KEY}x"},
    {"Authorization": f"Bearer {KEY[:-1]}"},
    {"Authorization": f"Bearer {KEY.upper()}"},
    {"X-API-Key": KEY},
    [(b"Authorization", f"Bearer {KEY}".encode()), (b"Authorization", f"Bearer {KEY}".encode())],
    [(b"Authorization", b"Bearer \xff\xfe")],
]


@pytest.mark.parametrize("headers", WRONG)
async def test_without_the_key(http: httpx.AsyncClient, headers: Any) -> None:
    """No key, another one, another scheme, or two are all answered alike."""
    answer = await http.post("/v1/jobs", json={"task": "keep"}, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthorized")
    assert answer.json()["detail"] == "send the key of this service, as Authorization: Bearer <key>"


@pytest.mark.parametrize("query", [f"api_key={KEY}", f"access_token={KEY}", f"key={KEY}"])
async def test_key_in_the_query(http: httpx.AsyncClient, query: str) -> None:
    """A key in the query is no key."""
    answer = await http.get(f"/v1/jobs?{query}")
    assert answer.status_code == 401
    assert KEY not in answer.text


async def test_body_is_not_read_without_the_key(http: httpx.AsyncClient) -> None:
    """Whoever has no key cannot make the service read."""

    async def never() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    answer = await http.post("/v1/jobs/batch", content=never(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["connection"]) == (401, "close")


async def test_line_to_try_brings_the_key(http: httpx.AsyncClient) -> None:
    """The curl line of an error says where the key goes, without showing it."""
    detail = (await http.post("/submit-job", headers=BEARER)).json()["detail"]
    assert '-H "Authorization: Bearer $JOBQ_API_KEY"' in detail
    assert KEY not in detail


@pytest.mark.parametrize("key", ["", "short", "x" * 15, "x" * 16 + " ", "x" * 16 + "\n", "ä" * 16])
def test_keys_that_cannot_be(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """A key that is too short or fits no header is a configuration error that does not show it."""
    monkeypatch.setenv("JOBQ_API_KEY", key)
    with pytest.raises(ConfigError, match=r"^JOBQ_API_KEY: expected 16 characters") as raised:
        Settings.load()
    assert not key or key not in str(raised.value)


def test_key_is_not_shown(settings: Settings) -> None:
    """Nor do the settings show it."""
    assert KEY not in repr(settings)
    assert is_key(settings, KEY)
    assert not is_key(Settings(), "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.7", "example.com", "127.0.0.1.example.com"])
def test_other_machines_need_a_key(settings: Settings, host: str) -> None:
    """An address that is not loopback is refused without a key, unless that is wanted."""
    with pytest.raises(ConfigError, match=r"JOBQ_API_KEY.*--insecure"):
        check_bind(Settings(host=host), insecure=False)
    check_bind(Settings(host=host), insecure=True)
    check_bind(settings.having(host=host), insecure=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_needs_no_key(host: str) -> None:
    """Programs of this machine are trusted."""
    check_bind(Settings(host=host), insecure=False)
