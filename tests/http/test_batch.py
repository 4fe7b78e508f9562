"""Many jobs in one request."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fakeredis import FakeAsyncRedis

from jobq.store.store import Store

JSON = {"Content-Type": "application/json"}
OWN = "11111111-2222-4333-8444-555555555555"
PATH = "/v1/jobs/batch"
BAD = [
    {"task": "add", "payload": {"left": "pssst"}},
    {"task": "pssst"},
    {"task": "keep", "pssst pssst": 1},
    "pssst",
    {"task": "keep", "delay": 1, "run_at": "2030-01-01T00:00:00Z"},
    {"task": "keep", "payload": {"value": "x" * 65_536}},
]
SLUGS = ["invalid-payload", "unknown-task", "invalid", "invalid", "invalid", "payload-too-large"]


async def test_batch_is_stored_in_order(http: httpx.AsyncClient) -> None:
    """All ids are answered in the order of the request, and each job is as if submitted alone."""
    jobs = [{"task": "keep", "payload": {"value": n}, "priority": n % 3} for n in range(5)]
    answer = await http.post(PATH, json={"jobs": jobs})
    assert (answer.status_code, answer.json()["rejected"]) == (202, [])
    shown = [(await http.get(f"/v1/jobs/{job_id}")).json() for job_id in answer.json()["accepted"]]
    assert [(job["payload"], job["priority"]) for job in shown] == [({"value": n}, n % 3) for n in range(5)]


async def test_bad_ones_are_told_and_the_others_stored(http: httpx.AsyncClient) -> None:
    """Each job that cannot be stored has the problem it would be answered with alone."""
    answer = await http.post(PATH, json={"jobs": [{"task": "keep"}, *BAD, {"task": "keep", "job_id": OWN}]})
    rejected = answer.json()["rejected"]
    assert (answer.status_code, len(answer.json()["accepted"])) == (202, 2)
    assert answer.json()["accepted"][1] == OWN
    assert [one["index"] for one in rejected] == [1, 2, 3, 4, 5, 6]
    assert [one["problem"]["type"] for one in rejected] == [f"/problems/{slug}" for slug in SLUGS]
    assert "pssst" not in answer.text
    for bad, one in zip(BAD, rejected, strict=True):
        alone = (await http.post("/v1/jobs", json=bad)).json()
        for member in ("instance", "request_id"):
            alone.pop(member)
            one["problem"].pop(member)
        assert one["problem"] == alone


async def test_payloads_are_kept_byte_for_byte(http: httpx.AsyncClient, redis: FakeAsyncRedis) -> None:
    """Spaces, big numbers and escapes come through, whatever stands between the jobs."""
    payloads = ['{"value": [9007199254740993, {}, [], 1.50]}', '{"\\u0076alue":"]}, [{","more":1e5}', "{}"]
    jobs = " ,\n\t".join(f'{{ "payload" :{payload} , "task":"keep"}}' for payload in payloads)
    text = f'\n{{ "jobs" : [ {jobs}\n] }}\r\n'
    answer = await http.post(PATH, content=text, headers=JSON)
    stored = [await redis.get(f"job:{job_id}:payload") for job_id in answer.json()["accepted"]]
    assert stored == [payload.encode() for payload in payloads]


async def test_all_or_nothing(http: httpx.AsyncClient, redis: FakeAsyncRedis) -> None:
    """With `atomic` one bad job keeps all others out, and all that is wrong is told."""
    answer = await http.post(f"{PATH}?atomic=true", json={"jobs": [{"task": "keep"}, *BAD]})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid")
    locations = [error["loc"] for error in answer.json()["errors"]]
    assert locations == [
        ["body", "jobs", 1, "payload", "left"],
        ["body", "jobs", 1, "payload", "right"],
        ["body", "jobs", 2],
        ["body", "jobs", 3, "?"],
        ["body", "jobs", 4],
        ["body", "jobs", 5],
        ["body", "jobs", 6],
    ]  # fmt: skip
    assert "pssst" not in answer.text
    assert await redis.keys() == []


async def test_atomic_batch_is_one_call(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 jobs of any size are stored in one script call."""
    sizes: list[int] = []
    original = Store.submit

    async def counted(self: Store, jobs: Any, most: int = 0, **options: bool) -> list[str]:
        sizes.append(len(jobs))
        return await original(self, jobs, most, **options)

    monkeypatch.setattr(Store, "submit", counted)
    jobs = [{"task": "keep", "payload": {"value": "x" * 10_000}}] * 200
    answer = await http.post(f"{PATH}?atomic=true", json={"jobs": jobs})
    assert (answer.status_code, len(answer.json()["accepted"]), sizes) == (202, 200, [200])
    assert (await http.post(PATH, json={"jobs": jobs})).status_code == 202
    assert len(sizes) > 2
    too_many = await http.post(f"{PATH}?atomic=true", json={"jobs": [{"task": "keep"}] * 201})
    assert (too_many.status_code, too_many.json()["errors"][0]["loc"]) == (422, ["body", "jobs"])


@pytest.mark.parametrize(
    "body", [{}, {"jobs": []}, {"jobs": {}}, {"jobs": [1], "more": 1}, [], {"jobs": [{"task": "keep"}] * 10_001}]
)
async def test_batches_that_cannot_be(http: httpx.AsyncClient, redis: FakeAsyncRedis, body: Any) -> None:
    """No job, more than 10,000, or something else entirely is 422."""
    answer = await http.post(PATH, json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid")
    assert await redis.keys() == []


async def test_batch_is_strict_json(http: httpx.AsyncClient) -> None:
    """One member twice or NaN anywhere makes the whole batch 400, as does a missing body; the line to try works."""
    for job in ('{"task":"keep","task":"keep"}', '{"task":"keep","payload":{"value":NaN}}'):
        assert (await http.post(PATH, content=f'{{"jobs":[{job}]}}', headers=JSON)).status_code == 400
    missing = await http.post(PATH)
    assert missing.status_code == 400
    line = missing.json()["detail"]
    body = line[line.index("-d '") + 4 : -1]
    assert (await http.post(PATH, content=body, headers=JSON)).json()["rejected"] == []


@pytest.mark.parametrize(("levels", "status"), [(30, 202), (31, 400)])
async def test_depth_of_a_job_is_as_alone(http: httpx.AsyncClient, levels: int, status: int) -> None:
    """Each job may be nested as deep as it may be on its own."""
    job = '{"task":"keep","payload":{"value":' + "[" * levels + "]" * levels + "}}"
    assert (await http.post(PATH, content=f'{{"jobs":[{job}]}}', headers=JSON)).status_code == status
    assert (await http.post("/v1/jobs", content=job, headers=JSON)).status_code == status


async def test_body_limit_is_its_own(http: httpx.AsyncClient) -> None:
    """A batch may have 16 MiB, announced or not."""
    jobs = [{"task": "keep", "payload": {"value": "x" * 60_000}}] * 10
    assert (await http.post(PATH, json={"jobs": jobs})).status_code == 202
    padded = json.dumps({"jobs": [{"task": "keep"}]}).encode() + b" " * (16 * 1024 * 1024)
    answer = await http.post(PATH, content=padded, headers=JSON)
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/body-too-large")
    announced = await http.post(PATH, content=b"{}", headers={**JSON, "Content-Length": str(16 * 1024 * 1024 + 1)})
    assert announced.status_code == 413
