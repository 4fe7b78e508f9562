"""The two given routes, to the byte where it shows."""

from __future__ import annotations

import json
from uuid import UUID

import httpx
import pytest
from fakeredis import FakeAsyncRedis

from jobq import Client
from jobq.job import JobError
from jobq.policy import Completed, Failed
from tests.http.support import Hand

OWN = "11111111-2222-4333-8444-555555555555"


async def submit(http: httpx.AsyncClient, **job: object) -> str:
    job_id: str = (await http.post("/submit-job", json={"task": "send_email", **job})).json()["job_id"]
    return job_id


async def status(http: httpx.AsyncClient, job_id: str) -> str:
    word: str = (await http.get(f"/job-status/{job_id}")).json()["status"]
    return word


async def test_submit_answers_the_id_and_nothing_else(http: httpx.AsyncClient) -> None:
    """A submit is 200 with exactly one key, whose value is a canonical UUID."""
    answer = await http.post("/submit-job", json={"task": "send_email"})
    assert answer.status_code == 200
    assert [*answer.json()] == ["job_id"]
    assert str(UUID(answer.json()["job_id"])) == answer.json()["job_id"]


async def test_location_leads_to_the_status(http: httpx.AsyncClient) -> None:
    """The submit says where to ask, and there is the job."""
    answer = await http.post("/submit-job", json={"task": "send_email"})
    job_id = answer.json()["job_id"]
    assert answer.headers["location"] == f"/job-status/{job_id}"
    expected = {"job_id": job_id, "task": "send_email", "status": "pending", "retries": 0}
    assert expected == (await http.get(answer.headers["location"])).json()


async def test_status_has_four_keys_in_their_order(http: httpx.AsyncClient) -> None:
    """The body of a status reads as the contract has it."""
    answer = await http.get(f"/job-status/{await submit(http)}")
    assert answer.status_code == 200
    assert [*answer.json()] == ["job_id", "task", "status", "retries"]


async def test_status_follows_the_job(http: httpx.AsyncClient, hand: Hand) -> None:
    """A job reads pending, processing, completed."""
    job_id = await submit(http)
    words = [await status(http, job_id)]
    job, claim = await hand.claim()
    words.append(await status(http, job_id))
    await hand.settle(job, claim, Completed(b'"sent"'))
    words.append(await status(http, job_id))
    assert words == ["pending", "processing", "completed"]


async def test_failed_job_shows_its_retries(http: httpx.AsyncClient, hand: Hand) -> None:
    """After three retries the fourth error fails the job."""
    job_id = await submit(http, backoff=0)
    seen = []
    for _ in range(4):
        await hand.run(Failed(JobError("OSError", "no", "error"), OSError("no")))
        answer = (await http.get(f"/job-status/{job_id}")).json()
        seen.append((answer["status"], answer["retries"]))
    assert seen == [("pending", 1), ("pending", 2), ("pending", 3), ("failed", 3)]


async def test_cancelled_job_reads_failed(http: httpx.AsyncClient, client: Client) -> None:
    """The contract has four words, and a cancelled job is told in one of them."""
    job_id = await submit(http)
    await client.cancel(job_id)
    assert await status(http, job_id) == "failed"


async def test_own_id_submitted_twice_is_one_job(http: httpx.AsyncClient, redis: FakeAsyncRedis) -> None:
    """A caller who repeats a submit with its own id gets the same job."""
    assert [await submit(http, job_id=OWN), await submit(http, job_id=OWN)] == [OWN, OWN]
    assert await redis.lrange("job_queue", 0, -1) == [OWN.encode()]


async def test_options_reach_the_job(http: httpx.AsyncClient, client: Client) -> None:
    """Each option of the contract's submit is stored as it was said."""
    job_id = await submit(
        http, queue="mail", priority=7, delay=60, max_retries=1, backoff=0.5, timeout=9, expires_in=300
    )
    job = await client.get(job_id)
    assert (job.queue, job.priority) == ("mail", 7)
    assert job.run_at is not None
    assert job.expires_at is not None
    assert (job.run_at - job.created_at, job.expires_at - job.created_at) == (60_000, 300_000)
    assert job.tail == ',"max_retries":1,"backoff":0.5,"timeout":9.0'


@pytest.mark.parametrize(
    ("payload", "stored"),
    [
        ('{"value":9007199254740993}', '{"value":9007199254740993}'),
        ('{ "value" : [ ] ,\n "more":{}}', '{ "value" : [ ] ,\n "more":{}}'),
        ('{"value":123456789012345678901234567890,"x":1.10,"y":1e300}',) * 2,
        ('{"value":"\\u00e4\\ud83d\\ude00 }{\\" ä"}',) * 2,
        ("{}", "{}"),
        ("null", None),
    ],
)
async def test_payload_is_kept_byte_for_byte(
    http: httpx.AsyncClient, redis: FakeAsyncRedis, payload: str, stored: str | None
) -> None:
    """What is stored is the text that was sent: no number and no empty list comes to harm."""
    body = f'{{"priority":1, "payload" :{payload} ,"task":"keep"}}'
    answer = await http.post("/submit-job", content=body, headers={"Content-Type": "application/json"})
    kept = await redis.get(f"job:{answer.json()['job_id']}:payload")
    assert kept == (stored and stored.encode())


async def test_foreign_job_is_told_in_the_same_words(http: httpx.AsyncClient, redis: FakeAsyncRedis) -> None:
    """A job that another program wrote by hand reads like one of ours."""
    record = {"task": "send_email", "job_id": OWN, "status": "pending", "retries": 0, "customer": [9007199254740993]}
    await redis.set(f"job:{OWN}", json.dumps(record))
    expected = {"job_id": OWN, "task": "send_email", "status": "pending", "retries": 0}
    assert expected == (await http.get(f"/job-status/{OWN}")).json()


async def test_status_costs_one_read(http: httpx.AsyncClient, redis: FakeAsyncRedis) -> None:
    """Asking for a status is one GET on the server, as it is what clients do most."""
    job_id = await submit(http)
    calls: list[object] = []
    plain = redis.execute_command

    async def counted(*command: object, **options: object) -> object:
        calls.append(command)
        return await plain(*command, **options)

    redis.execute_command = counted  # type: ignore[method-assign]
    await http.get(f"/job-status/{job_id}")
    assert calls == [("GET", f"job:{job_id}")]
