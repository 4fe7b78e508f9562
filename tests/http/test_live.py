"""What only a real server shows: waiting, many at once, and how the service stops."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from jobq import Client, Settings
from jobq.errors import StoreUnavailable
from jobq.job import JobError
from jobq.policy import Completed, Failed
from jobq.store.connect import Server
from jobq.store.store import Store
from tests.http.support import Hand, registry
from tests.support.processes import Process, eventually, free_port
from tests.support.servers import Valkey

BROKEN = Failed(JobError("OSError", "no", "error"), OSError("no"))


@pytest.fixture
def settings(valkey: Valkey) -> Settings:
    return Settings(redis_url=valkey.url)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with Client(settings=settings, registry=registry) as client:
        yield client


@pytest.fixture
async def store(valkey: Valkey) -> AsyncIterator[Store]:
    store = Server(valkey.url, "").store()
    yield store
    await store.close()


async def until_it_waits(client: Client, number: int = 1) -> None:
    """Until so many wait for a job."""
    assert client._waiters
    while sum(map(len, client._waiters._waiting.values())) < number:
        await asyncio.sleep(0.005)


async def nobody_waits(client: Client) -> None:
    assert client._waiters
    async with asyncio.timeout(2):
        while client._waiters._waiting:
            await asyncio.sleep(0.005)


async def test_submit_waits_for_the_result(http: httpx.AsyncClient, client: Client, hand: Hand) -> None:
    """A submit with `wait` is 200 with the whole job as soon as that is over."""
    asked = asyncio.create_task(http.post("/v1/jobs?wait=30", json={"task": "send_email"}))
    await until_it_waits(client)
    await hand.run(Completed(b'"sent"'))
    ended = time.monotonic()
    answer = await asked
    assert time.monotonic() - ended < 0.2
    assert (answer.status_code, answer.json()["status"], answer.json()["result"]) == (200, "completed", "sent")
    await nobody_waits(client)


async def test_reads_wait(http: httpx.AsyncClient, client: Client, hand: Hand) -> None:
    """A job and its result may be waited for, also one that fails."""
    job_id = (await http.post("/v1/jobs", json={"task": "keep", "max_retries": 0})).json()["job_id"]
    asked = [asyncio.create_task(http.get(f"/v1/jobs/{job_id}{tail}?wait=30")) for tail in ("", "/result")]
    await until_it_waits(client, 2)
    await hand.run(BROKEN)
    job, result = await asyncio.gather(*asked)
    assert (job.status_code, job.json()["status"]) == (200, "failed")
    assert (result.status_code, result.json()["type"]) == (409, "/problems/job-failed")


async def test_time_is_up(http: httpx.AsyncClient) -> None:
    """What is not over in time is answered as it is then."""
    began = time.monotonic()
    answer = await http.post("/v1/jobs?wait=0.2", json={"task": "keep"})
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    assert 0.2 <= time.monotonic() - began < 1
    result = await http.get(f"{answer.headers['location']}/result?wait=0.1")
    assert (result.status_code, result.json()["status"]) == (202, "pending")


async def test_time_is_up_shows_what_happened_meanwhile(http: httpx.AsyncClient, client: Client, hand: Hand) -> None:
    """The answer is of the end of the wait, not of its beginning."""
    asked = asyncio.create_task(http.post("/v1/jobs?wait=0.5", json={"task": "keep"}))
    await until_it_waits(client)
    await hand.claim()
    assert (await asked).json()["status"] == "processing"


async def test_progress_and_cancel_of_a_running_job(http: httpx.AsyncClient, store: Store, hand: Hand) -> None:
    """A running job shows its last progress and that its cancel was asked for, and neither once it is over."""
    job_id = (await http.post("/v1/jobs", json={"task": "keep"})).json()["job_id"]
    job, claim = await hand.claim()
    await store.emit(job_id, claim.token, 1, [(1, "progress", '{"fraction":0.25,"message":"a quarter"}')])
    shown = (await http.get(f"/v1/jobs/{job_id}")).json()
    assert (shown["progress"], shown["cancel_requested"]) == ({"fraction": 0.25, "message": "a quarter"}, None)
    cancelled = await http.post(f"/v1/jobs/{job_id}/cancel", json={"reason": "too slow"})
    assert (cancelled.status_code, cancelled.json()["cancel_requested"]) == (202, "too slow")
    await store.emit(job_id, claim.token, 1, [(2, "progress", '["of another kind"]')])
    assert (await http.get(f"/v1/jobs/{job_id}")).json()["progress"] is None
    await hand.settle(job, claim, BROKEN)
    shown = (await http.get(f"/v1/jobs/{job_id}")).json()
    assert (shown["status"], shown["progress"], shown["cancel_requested"]) == ("cancelled", None, None)


async def test_all_wait_on_one_reader(http: httpx.AsyncClient, client: Client, hand: Hand, valkey: Valkey) -> None:
    """200 waiters on 200 jobs cost one blocking connection, and all are answered."""
    asked = [asyncio.create_task(http.post("/v1/jobs?wait=30", json={"task": "keep"})) for _ in range(200)]
    await until_it_waits(client, 200)
    await asyncio.sleep(0.1)
    with valkey.client() as observer:
        assert [entry["cmd"] for entry in observer.client_list()].count("xread") == 1
    for _ in range(200):
        await hand.run(Completed(b"1"))
    assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
    await nobody_waits(client)


async def test_client_that_goes_away(app: FastAPI, client: Client) -> None:
    """A waiter whose client disconnects is forgotten at once."""
    gone = asyncio.Event()
    messages = [{"type": "http.request", "body": b'{"task":"keep"}', "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    scope = {
        "type": "http", "method": "POST", "path": "/v1/jobs", "raw_path": b"/v1/jobs", "query_string": b"wait=30",
        "headers": [(b"content-type", b"application/json")], "scheme": "http", "root_path": "", "http_version": "1.1",
        "server": ("service", 80), "client": ("client", 1),
    }  # fmt: skip
    request = asyncio.create_task(app(scope, receive, send))
    await until_it_waits(client)
    gone.set()
    async with asyncio.timeout(2):
        await request
    await nobody_waits(client)


async def test_one_key_fifty_times_at_once(http: httpx.AsyncClient, client: Client) -> None:
    """50 simultaneous posts with one Idempotency-Key make one job; one of them is told that it did."""
    headers = {"Idempotency-Key": "order 4711"}
    posts = [http.post("/v1/jobs", json={"task": "keep"}, headers=headers) for _ in range(50)]
    answers = await asyncio.gather(*posts)
    assert len({answer.json()["job_id"] for answer in answers}) == 1
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [202]
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 49
    assert (await client.inspect.overview([])).ready == 1


async def test_ten_thousand_jobs_in_one_request(http: httpx.AsyncClient, client: Client) -> None:
    """They are all stored, in a few seconds at most."""
    began = time.monotonic()
    answer = await http.post("/v1/jobs/batch", json={"jobs": [{"task": "keep"}] * 10_000}, timeout=30)
    assert time.monotonic() - began < 10  # it takes less than 2, but not on every machine
    assert (answer.status_code, answer.json()["rejected"]) == (202, [])
    assert len(set(answer.json()["accepted"])) == 10_000
    assert (await client.inspect.overview([])).ready == 10_000


async def test_batch_when_the_store_goes_away(http: httpx.AsyncClient, client: Client) -> None:
    """What was stored until then is told, and that the rest was not."""
    submit, calls = client.submit_many, 0

    async def breaks(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise StoreUnavailable("gone")
        return await submit(*args, **options)

    client.submit_many = breaks  # type: ignore[method-assign]
    answer = await http.post("/v1/jobs/batch", json={"jobs": [{"task": "keep"}] * 500}, timeout=30)
    assert (answer.status_code, len(answer.json()["accepted"]), calls) == (202, 200, 2)
    assert [one["index"] for one in answer.json()["rejected"]] == [*range(200, 500)]
    assert {one["problem"]["type"] for one in answer.json()["rejected"]} == {"/problems/store-unavailable"}
    calls = 1
    assert (await http.post("/v1/jobs/batch", json={"jobs": [{"task": "keep"}]})).status_code == 503


SERVE = "import sys, uvicorn; from {module} import make; uvicorn.run(make(), port=int(sys.argv[1]))"


@pytest.mark.parametrize("place", ["own", "host"])
def test_stop_with_a_waiter(valkey: Valkey, place: str) -> None:
    """SIGTERM ends a server within about a second though somebody waits, who is answered."""
    port = free_port()
    source = SERVE.format(module="tests.http.servers").replace("make", place)
    server = Process("-c", source, str(port), env={"JOBQ_REDIS_URL": valkey.url})
    try:
        server.wait_for("Uvicorn running on")
        answers: list[httpx.Response] = []
        url = f"http://127.0.0.1:{port}{'/jobs' if place == 'host' else ''}/v1/jobs?wait=60"
        asked = threading.Thread(target=lambda: answers.append(httpx.post(url, json={"task": "keep"}, timeout=60)))
        asked.start()
        with valkey.client() as client:
            eventually(lambda: client.llen("job_queue"))
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        server.wait(5)
        assert time.monotonic() - began < 2
        asked.join(5)
        assert (answers[0].status_code, answers[0].json()["status"]) == (202, "pending")
        assert "Traceback" not in server.output
        assert json.loads(answers[0].text)["job_id"]
    finally:
        server.kill()
