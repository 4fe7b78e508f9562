"""Idempotency-Key: the same request again is the same job."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fakeredis import FakeAsyncRedis

from tests.http.support import Hand

KEY = {"Idempotency-Key": "order 4711"}


@pytest.mark.parametrize("path", ["/submit-job", "/v1/jobs"])
async def test_same_key_and_body(http: httpx.AsyncClient, path: str) -> None:
    """The same job is answered, and that it is a replay."""
    body = {"task": "add", "payload": {"left": 1, "right": 2}, "delay": 5}
    first, second = [await http.post(path, json=body, headers=KEY) for _ in range(2)]
    assert (first.status_code, second.status_code) == (200 if path == "/submit-job" else 202, 200)
    assert first.json() == second.json()
    assert first.headers["location"] == second.headers["location"]
    assert [answer.headers.get("idempotent-replayed") for answer in (first, second)] == [None, "true"]


@pytest.mark.parametrize("path", ["/submit-job", "/v1/jobs"])
@pytest.mark.parametrize("other", [{"task": "keep", "payload": {"value": 2}}, {"task": "keep", "priority": 1}])
async def test_same_key_with_another_body(http: httpx.AsyncClient, path: str, other: dict[str, Any]) -> None:
    """Another request under the same key is 422, and stores nothing."""
    await http.post(path, json={"task": "keep", "payload": {"value": 1}}, headers=KEY)
    answer = await http.post(path, json=other, headers=KEY)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-mismatch")
    assert len((await http.get("/v1/jobs")).json()["jobs"]) == 1


async def test_replay_of_a_deleted_job(http: httpx.AsyncClient) -> None:
    """The key is kept longer than its job may be: that is 404, and no second job."""
    job = await http.post("/v1/jobs", json={"task": "keep"}, headers=KEY)
    await http.delete(job.headers["location"])
    again = await http.post("/v1/jobs", json={"task": "keep"}, headers=KEY)
    assert (again.status_code, again.json()["type"]) == (404, "/problems/job-not-found")


BAD: list[Any] = [
    {"Idempotency-Key": ""},
    {"Idempotency-Key": "x" * 129},
    [(b"Idempotency-Key", b"pssst\x01")],
    [(b"Idempotency-Key", b"pssst\x7f")],
    [(b"Idempotency-Key", b"pssst"), (b"Idempotency-Key", b"pssst")],
]


@pytest.mark.parametrize("path", ["/submit-job", "/v1/jobs"])
@pytest.mark.parametrize("headers", BAD)
async def test_keys_that_cannot_be(http: httpx.AsyncClient, redis: FakeAsyncRedis, path: str, headers: Any) -> None:
    """A key that is empty, too long, not printable or there twice is 400."""
    answer = await http.post(path, json={"task": "keep"}, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-idempotency-key")
    assert "pssst" not in answer.text
    assert await redis.keys() == []


async def test_longest_key(http: httpx.AsyncClient) -> None:
    """128 characters are fine."""
    headers = {"Idempotency-Key": "x" * 128}
    assert (await http.post("/submit-job", json={"task": "keep"}, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/jobs/batch"), ("GET", "/v1/jobs"), ("POST", "/v1/queues/default/pause"), ("GET", "/healthz")],
)
async def test_key_where_it_has_no_effect(http: httpx.AsyncClient, method: str, path: str) -> None:
    """A key that would be ignored is refused."""
    answer = await http.request(method, path, headers=KEY)
    assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, ["header", "Idempotency-Key"])


async def test_replay_of_a_job_that_ran(http: httpx.AsyncClient, hand: Hand) -> None:
    """The job is shown as it is by now."""
    await http.post("/v1/jobs", json={"task": "keep"}, headers=KEY)
    await hand.claim()
    assert (await http.post("/v1/jobs", json={"task": "keep"}, headers=KEY)).json()["status"] == "processing"
