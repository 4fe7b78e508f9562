"""Jobs under `/v1`: submit, read, result, cancel, retry."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fakeredis import FakeAsyncRedis

from jobq.job import JobError
from jobq.policy import Completed, Failed
from tests.http.support import Hand

OWN = "11111111-2222-4333-8444-555555555555"
FIELDS = [
    "job_id",
    "task",
    "status",
    "retries",
    "max_retries",
    "queue",
    "priority",
    "created_at",
    "run_at",
    "started_at",
    "finished_at",
    "attempt",
    "lost",
    "worker",
    "error",
    "progress",
    "cancel_requested",
    "timeline",
    "payload",
    "result",
]
BROKEN = Failed(JobError("OSError", "no {luck}", "error", "Traceback …"), OSError("no"))


async def submit(http: httpx.AsyncClient, **job: Any) -> dict[str, Any]:
    view: dict[str, Any] = (await http.post("/v1/jobs", json={"task": "send_email", **job})).json()
    return view


def moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


async def test_new_job_is_shown_whole(http: httpx.AsyncClient) -> None:
    """A submit is 202 with the job, and Location leads to it."""
    answer = await http.post("/v1/jobs", json={"task": "add", "payload": {"left": 1, "right": 2}, "priority": 3})
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{job['job_id']}"
    assert [*job] == FIELDS
    created = job.pop("created_at")
    assert abs(moment(created) - datetime.now(UTC)) < timedelta(minutes=1)
    assert job == {
        "job_id": job["job_id"], "task": "add", "status": "pending", "retries": 0, "max_retries": 3, "queue": "numbers",
        "priority": 3, "run_at": None, "started_at": None, "finished_at": None, "attempt": 0, "lost": 0, "worker": None,
        "error": None, "progress": None, "cancel_requested": None, "timeline": [{"event": "created", "at": created}],
        "payload": {"left": 1, "right": 2}, "result": None,
    }  # fmt: skip
    assert answer.json() == (await http.get(answer.headers["location"])).json()


async def test_own_id_submitted_again_is_told_apart(http: httpx.AsyncClient) -> None:
    """The first submit of an own id is 202, any further one 200 with the job there is."""
    body = {"task": "send_email", "job_id": OWN}
    first, second = await http.post("/v1/jobs", json=body), await http.post("/v1/jobs", json=body)
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json() == second.json()
    assert first.headers["location"] == second.headers["location"] == f"/v1/jobs/{OWN}"


async def test_run_at_is_kept(http: httpx.AsyncClient) -> None:
    """A time in any zone is the same time when read."""
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    there = later.astimezone(tz=datetime.strptime("+0530", "%z").tzinfo)
    job = await submit(http, run_at=there.isoformat())
    assert moment(job["run_at"]) == later
    assert [event["event"] for event in job["timeline"]] == ["created", "scheduled"]


async def test_stated_retries_win_over_the_service(http: httpx.AsyncClient) -> None:
    """max_retries is shown as it will be applied."""
    assert [(await submit(http))["max_retries"], (await submit(http, max_retries=0))["max_retries"]] == [3, 0]


async def test_completed_job_has_its_result(http: httpx.AsyncClient, hand: Hand) -> None:
    """Result and payload come back byte for byte, big numbers included."""
    payload = '{"value": [9007199254740993, {}, [], 1.50]}'
    text = f'{{"task":"keep","payload":{payload}}}'
    answer = await http.post("/v1/jobs", content=text, headers={"Content-Type": "application/json"})
    job_id = await hand.run(Completed(b'{"a":12345678901234567890123,"b":[ ],"c":1.50}'))
    shown = await http.get(f"/v1/jobs/{job_id}")
    assert f'"payload":{payload},"result":{{"a":12345678901234567890123,"b":[ ],"c":1.50}}}}' in shown.text
    assert f'"payload":{payload},"result":null}}' in answer.text
    job = shown.json()
    assert (job["status"], job["attempt"], job["worker"]) == ("completed", 1, hand.name)
    assert [event["event"] for event in job["timeline"]] == ["created", "started", "completed"]


async def test_result_is_the_stored_bytes(http: httpx.AsyncClient, hand: Hand) -> None:
    """`/result` is 202 with the job while it is not over, then the value and nothing else."""
    job_id = (await submit(http))["job_id"]
    early = await http.get(f"/v1/jobs/{job_id}/result")
    assert (early.status_code, early.headers["retry-after"]) == (202, "1")
    assert early.json() == (await http.get(f"/v1/jobs/{job_id}")).json()
    await hand.run(Completed(b'[1.0, 1e400,\n"\\u00e4"]'))
    late = await http.get(f"/v1/jobs/{job_id}/result")
    assert (late.status_code, late.headers["content-type"]) == (200, "application/json")
    assert late.content == b'[1.0, 1e400,\n"\\u00e4"]'


async def test_no_result_is_null(http: httpx.AsyncClient, hand: Hand) -> None:
    """A task that returned None has the result null."""
    job_id = (await submit(http))["job_id"]
    await hand.run(Completed(b""))
    answer = await http.get(f"/v1/jobs/{job_id}/result")
    assert (answer.status_code, answer.content) == (200, b"null")


async def test_failed_job_tells_its_error(http: httpx.AsyncClient, hand: Hand) -> None:
    """The result of a failed job is a 409 with the error; the job itself is a successful read."""
    job_id = (await submit(http, max_retries=0))["job_id"]
    await hand.run(BROKEN)
    error = {"type": "OSError", "message": "no {luck}", "reason": "error", "traceback": "Traceback …"}
    result = await http.get(f"/v1/jobs/{job_id}/result")
    assert (result.status_code, result.headers["content-type"]) == (409, "application/problem+json")
    told = {name: error[name] for name in ("type", "message", "reason")}
    assert (result.json()["type"], result.json()["error"]) == ("/problems/job-failed", told)
    job = await http.get(f"/v1/jobs/{job_id}")
    assert (job.status_code, job.json()["status"], job.json()["error"]) == (200, "failed", error)


async def test_error_that_utf8_cannot_hold(http: httpx.AsyncClient, hand: Hand) -> None:
    """A message about a file with an odd name is shown with escapes."""
    job_id = (await submit(http, max_retries=0))["job_id"]
    await hand.run(Failed(JobError("OSError", "caf\udce9", "error"), OSError()))
    assert (await http.get(f"/v1/jobs/{job_id}")).json()["error"]["message"] == "caf\\udce9"
    assert (await http.get(f"/v1/jobs/{job_id}/result")).json()["detail"] == "caf\\udce9"


async def test_vanished_result_is_404(http: httpx.AsyncClient, hand: Hand, redis: FakeAsyncRedis) -> None:
    """A result whose time is over is 404 and says so; the job is still there."""
    job_id = (await submit(http))["job_id"]
    job, _ = await hand.claim()
    record = job.text().replace('"status":"processing"', '"status":"completed"')
    await redis.set(f"job:{job_id}", record[:-1] + ',"result_bytes":4}')
    answer = await http.get(f"/v1/jobs/{job_id}/result")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/result-expired")
    assert (await http.get(f"/v1/jobs/{job_id}")).json()["status"] == "completed"


async def test_cancelling_a_pending_job(http: httpx.AsyncClient) -> None:
    """It is over at once, with the reason; cancelling again changes nothing."""
    job_id = (await submit(http))["job_id"]
    first = await http.post(f"/v1/jobs/{job_id}/cancel", json={"reason": "not today"})
    again = await http.post(f"/v1/jobs/{job_id}/cancel")
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert (first.json()["status"], first.json()["error"]) == (
        "cancelled", {"type": "Cancelled", "message": "not today", "reason": "cancelled"},
    )  # fmt: skip
    result = await http.get(f"/v1/jobs/{job_id}/result")
    assert (result.status_code, result.json()["type"]) == (409, "/problems/job-cancelled")


async def test_cancelling_a_running_job(http: httpx.AsyncClient, hand: Hand) -> None:
    """Its worker is asked, which is 202; what becomes of it is its worker's business."""
    job_id = (await submit(http))["job_id"]
    job, claim = await hand.claim()
    answer = await http.post(f"/v1/jobs/{job_id}/cancel", json=None)
    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    await hand.settle(job, claim, BROKEN)
    assert (await http.get(f"/v1/jobs/{job_id}")).json()["status"] == "cancelled"


async def test_cancelling_what_is_over(http: httpx.AsyncClient, hand: Hand) -> None:
    """A job that is over cannot be cancelled: 409 with the status it has."""
    job_id = (await submit(http))["job_id"]
    await hand.run(Completed(b""))
    answer = await http.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")
    assert answer.json()["job_status"] == "completed"


async def test_retry_by_hand(http: httpx.AsyncClient, hand: Hand) -> None:
    """A failed job goes back into its queue with all its retries; one that is not over is 409."""
    job_id = (await submit(http, max_retries=0))["job_id"]
    early = await http.post(f"/v1/jobs/{job_id}/retry")
    assert (early.status_code, early.json()["job_status"]) == (409, "pending")
    await hand.run(BROKEN)
    answer = await http.post(f"/v1/jobs/{job_id}/retry")
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/jobs/{job_id}")
    assert (answer.json()["status"], answer.json()["retries"]) == ("pending", 0)
    assert await hand.run(Completed(b"1")) == job_id
    events = [event["event"] for event in (await http.get(f"/v1/jobs/{job_id}")).json()["timeline"]]
    assert events == ["created", "started", "failed", "started", "completed"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/job-status/{}"),
        ("GET", "/v1/jobs/{}"),
        ("GET", "/v1/jobs/{}/result"),
        ("POST", "/v1/jobs/{}/cancel"),
        ("POST", "/v1/jobs/{}/retry"),
        ("DELETE", "/v1/jobs/{}"),
        ("GET", "/v1/jobs/{}/logs"),
    ],
)
async def test_unknown_and_malformed_ids(http: httpx.AsyncClient, method: str, path: str) -> None:
    """A job nobody has is 404, an id that cannot be one 422."""
    malformed = ["x", OWN.upper().replace("1", "A"), f"{{{OWN}}}", f"{OWN}%0A", "a" * 10_000, "%00", OWN[:-1]]
    assert (await http.request(method, path.format(OWN))).status_code == 404
    for job_id in malformed:
        answer = await http.request(method, path.format(job_id))
        assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, ["path", "job_id"])


HEAD = f'{{"job_id":"{OWN}","task":"keep","status":"failed","retries":0,"attempt":1,"lost":0,"created_at":1'


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (HEAD + ',"error":{oops}}', '"error":null,'),
        (HEAD + ',"error":{"type":5,"more":[]}}', '"error":{"type":"5","message":"","reason":""},'),
        ('{"task":"keep","payload":{"n":9007199254740993,"e":1e400}}', '"payload":{"n":9007199254740993,"e":1e400},'),
        ('{"task":"keep","payload":{"n":NaN}}', '"payload":null,'),
        ('{"task":"keep","created_at":9007199254740991}', '"created_at":null,'),
        ('{"task":"keep"}', '"payload":{},'),
    ],
)
async def test_foreign_record_makes_legal_json(
    http: httpx.AsyncClient, redis: FakeAsyncRedis, record: str, expected: str
) -> None:
    """Whatever another program wrote, the view is JSON, with big numbers intact."""
    await redis.set(f"job:{OWN}", record)
    answer = await http.get(f"/v1/jobs/{OWN}")
    assert answer.status_code == 200
    assert expected in answer.text
    assert [*json.loads(answer.text, parse_constant=pytest.fail)] == FIELDS


async def test_foreign_payload_that_is_not_json(http: httpx.AsyncClient, redis: FakeAsyncRedis) -> None:
    """Garbage beside a job cannot break out of its place in the answer."""
    job_id = (await submit(http))["job_id"]
    await redis.set(f"job:{job_id}:payload", b'{},"status":"completed"')
    answer = await http.get(f"/v1/jobs/{job_id}")
    assert (answer.json()["payload"], answer.json()["status"]) == (None, "pending")


@pytest.mark.parametrize("record", [b"\xff", b"[]", b"{}", HEAD.encode() + b"0" * 5_000 + b"}"])
async def test_unreadable_record_is_409(http: httpx.AsyncClient, redis: FakeAsyncRedis, record: bytes) -> None:
    """Something else under a job's key is nobody's 500."""
    await redis.set(f"job:{OWN}", record)
    answer = await http.get(f"/v1/jobs/{OWN}")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/corrupt-record")
