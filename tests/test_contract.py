"""The given contract, once over fakeredis with the ASGI application in this process, once over real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

import api
from jobq import Client
from jobq.worker import Worker
from tasks import registry
from tests.support.processes import Process, free_port, stop_all
from tests.support.servers import Double, Valkey


@dataclass
class Service:
    """The service of the root files, as its users see it: HTTP, and Redis for those who go there themselves."""

    http: httpx.AsyncClient
    redis: Redis

    async def submit(self, task: str, **fields: Any) -> str:
        response = await self.http.post("/submit-job", json={"task": task, **fields})
        assert response.status_code == 200, response.text
        job_id: str = response.json()["job_id"]
        return job_id

    async def status(self, job_id: str) -> dict[str, Any]:
        response = await self.http.get(f"/job-status/{job_id}")
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    async def over(self, job_id: str, timeout: float = 10.0) -> dict[str, Any]:
        """The status once the job is over."""
        deadline = time.monotonic() + timeout
        while (body := await self.status(job_id))["status"] not in ("completed", "failed"):
            assert time.monotonic() < deadline, body
            await asyncio.sleep(0.01)
        return body

    async def push(self, record: str, job_id: str) -> None:
        """As a producer does that knows only the two keys of the contract."""
        await self.redis.set(f"job:{job_id}", record)
        await self.redis.rpush("job_queue", job_id)


@contextlib.asynccontextmanager
async def in_process() -> AsyncIterator[Service]:
    double = Double()
    client = Client(registry=registry, settings=api.settings)
    client.attach(double.store(), double.finished())
    api.app.state.jobq = client
    worker = Worker(api.settings.model_copy(update={"retry_backoff": 0.0}), registry)
    work = asyncio.create_task(worker.run(double))
    transport = httpx.ASGITransport(api.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
        yield Service(http, double.client())
    worker.stop()
    await work
    await client.close()


@contextlib.asynccontextmanager
async def in_processes(valkey: Valkey, outbox: Path) -> AsyncIterator[Service]:
    port = free_port()
    env = {"JOBQ_REDIS_URL": valkey.url, "JOBQ_RETRY_BACKOFF": "0", "OUTBOX": str(outbox)}
    processes = [
        Process("-m", "uvicorn", "api:app", "--port", str(port), env=env),
        Process("worker.py", env=env),
    ]
    try:
        processes[0].wait_for("Uvicorn running on")
        processes[1].wait_for("worker serves")
        address = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=address) as http, Redis.from_url(valkey.url) as redis:
            yield Service(http, redis)
    finally:
        stop_all(processes)


@pytest.fixture(params=["fakeredis", "processes"])
async def service(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Service]:
    if request.param == "fakeredis":
        monkeypatch.setattr(api.settings, "outbox", tmp_path)
        context: Any = in_process()
    else:
        context = in_processes(request.getfixturevalue("valkey"), tmp_path)
    async with context as service:
        yield service


async def test_submit_answers_with_the_id_alone(service: Service, tmp_path: Path) -> None:
    """`POST /submit-job {"task": "send_email"}` is 200 with exactly `{"job_id": "<uuid>"}`, and the mail is sent."""
    response = await service.http.post("/submit-job", json={"task": "send_email"})

    assert (200, {"job_id"}) == (response.status_code, set(response.json()))
    job_id = response.json()["job_id"]
    assert str(uuid.UUID(job_id)) == job_id
    done = await service.over(job_id)
    assert {"job_id": job_id, "task": "send_email", "status": "completed", "retries": 0} == done
    assert len(list(tmp_path.glob("*.eml"))) == 1


async def test_where_a_job_lies(service: Service) -> None:
    """The id is on the Redis list `job_queue` and the metadata is JSON under `job:<id>` until a worker takes it."""
    job_id = await service.submit("sleep", payload={"seconds": 0}, queue="elsewhere")

    record = json.loads(await service.redis.get(f"job:{job_id}"))
    assert {"job_id": job_id, "task": "sleep", "status": "pending", "retries": 0}.items() <= record.items()
    assert [job_id.encode()] == await service.redis.lrange("job_queue:elsewhere", 0, -1)


async def test_a_failing_job_is_retried_three_times(service: Service) -> None:
    """A job that always fails is executed four times, then `failed` with three retries."""
    job_id = await service.submit("flaky", payload={"probability": 1.0})

    assert {"job_id": job_id, "task": "flaky", "status": "failed", "retries": 3} == await service.over(job_id)
    assert json.loads(await service.redis.get(f"job:{job_id}"))["attempt"] == 4


async def test_executions_are_one_more_than_retries(service: Service) -> None:
    """`flaky` is executed once more than it was retried, whatever came of it."""
    for job_id in [await service.submit("flaky") for _ in range(20)]:
        done = await service.over(job_id)
        record = json.loads(await service.redis.get(f"job:{job_id}"))
        assert done["retries"] + 1 == record["attempt"]


FOREIGN: dict[str, Callable[[str], str]] = {
    "as described": lambda i: json.dumps({"job_id": i, "task": "send_email", "status": "pending", "retries": 0}),
    "compact, other order": lambda i: f'{{"retries":0,"status":"pending","task":"send_email","job_id":"{i}"}}',
    "only a task": lambda i: '{"task": "send_email"}',
    "spaced and escaped": lambda i: '\n{ "task" : "send\\u005femail" ,\t"status":"pending" }\n',
    "with a payload": lambda i: json.dumps({"job_id": i, "task": "sleep", "payload": {"seconds": 0}}),
}


@pytest.mark.parametrize("spelling", FOREIGN)
async def test_a_foreign_producer_is_served(service: Service, spelling: str) -> None:
    """A producer that only knows the two keys is served within a second, however it spells its JSON."""
    job_id = str(uuid.uuid4())
    before = time.monotonic()
    await service.push(FOREIGN[spelling](job_id), job_id)

    assert (await service.over(job_id))["status"] == "completed"
    assert time.monotonic() - before < 1.0


async def test_a_foreign_producer_may_push_first(service: Service) -> None:
    """The id may be on the list shortly before its record is there."""
    job_id = str(uuid.uuid4())
    await service.redis.rpush("job_queue", job_id)
    await asyncio.sleep(0.7)
    before = time.monotonic()
    await service.redis.set(f"job:{job_id}", '{"task": "send_email", "status": "pending", "retries": 0}')

    assert (await service.over(job_id))["status"] == "completed"
    assert time.monotonic() - before < 1.0


async def test_unknown_fields_of_a_foreign_record_are_kept(service: Service) -> None:
    """Unknown fields stay as they were written, and the record is valid JSON with the given keys at every moment."""
    job_id = str(uuid.uuid4())
    extra = '"empty": [], "nested": {"a": [1, {"b": null}], "error":{"type":"x"}}, "big": 9007199254740993, "e": 1e400'
    record = f'{{"job_id": "{job_id}", "task": "sleep", "status": "pending", "retries": 0, {extra},'
    await service.push(f'{record} "payload": {{"seconds": 0.3}}}}', job_id)

    seen = set()
    while "completed" not in seen:
        text = (await service.redis.get(f"job:{job_id}")).decode()
        stored = json.loads(text)
        assert {"job_id", "task", "status", "retries"} <= stored.keys()
        seen.add(stored["status"])
        assert seen <= {"pending", "processing", "completed"}
        await asyncio.sleep(0.002)
    for member in (
        '"empty":[]',
        '"nested":{"a": [1, {"b": null}], "error":{"type":"x"}}',
        '"big":9007199254740993',
        '"e":1e400',
    ):
        assert member in text


async def test_unknown_and_malformed(service: Service) -> None:
    """Unknown id: 404. Malformed: 422. Unknown task: 422 with the known ones. A form: 415 with the way out."""
    missing = await service.http.get(f"/job-status/{uuid.uuid4()}")
    malformed = await service.http.get("/job-status/42")
    unknown = await service.http.post("/submit-job", json={"task": "sned_email"})
    form = await service.http.post("/submit-job", data={"task": "send_email"})

    answers = [missing, malformed, unknown, form]
    assert [answer.status_code for answer in answers] == [404, 422, 422, 415]
    assert {"application/problem+json"} == {answer.headers["content-type"] for answer in answers}
    assert "fetch_url, flaky, make_thumbnail, send_email, sleep" in unknown.json()["detail"]
    assert "sned_email" not in unknown.text
    assert "curl -X POST" in form.json()["detail"]
    assert "-H 'Content-Type: application/json'" in form.json()["detail"]
