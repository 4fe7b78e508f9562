"""More work than there is room for: what is refused, what goes on, and that it ends by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from jobq import Client, Registry, Settings
from jobq.errors import QueueFull
from jobq.http.app import create_app
from jobq.store.store import Store
from jobq.sync import SyncClient
from jobq.worker import Worker
from tests.http.test_errors import assert_problem
from tests.support.servers import Valkey

OWN = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def settings() -> Settings:
    return Settings(max_queued=2)


async def fill(http: httpx.AsyncClient, **members: Any) -> None:
    """Until there is no more room."""
    while (await http.post("/submit-job", json={"task": "keep", **members})).status_code == 200:
        pass


@pytest.mark.parametrize("path", ["/submit-job", "/v1/jobs"])
async def test_full_queue(http: httpx.AsyncClient, path: str) -> None:
    """A submit to a full queue is 503 and says when to come back; other queues take theirs."""
    await fill(http)
    answer = await http.post(path, json={"task": "keep"})
    problem = assert_problem(answer, 503, "queue-full")
    assert (problem["detail"].partition(":")[0], answer.headers["retry-after"]) == ("queue default is full", "5")
    assert (await http.post(path, json={"task": "keep", "queue": "mail"})).status_code in (200, 202)
    assert (await http.get("/readyz")).status_code == 200


async def test_repeat_to_a_full_queue(http: httpx.AsyncClient) -> None:
    """What was accepted before is answered with its job, however full the queue is now."""
    key = {"Idempotency-Key": "k"}
    body = {"task": "keep", "job_id": OWN}
    assert (await http.post("/submit-job", json=body, headers=key)).json() == {"job_id": OWN}
    await fill(http)
    assert (await http.post("/submit-job", json=body, headers=key)).json() == {"job_id": OWN}
    assert (await http.post("/v1/jobs", json=body)).status_code == 200


async def test_batch_to_a_full_queue(http: httpx.AsyncClient) -> None:
    """Jobs that found no room are rejected one by one, in every lot; all or nothing is nothing; none at all is 503."""
    await fill(http)
    jobs = [{"task": "keep"}, {"task": "keep", "queue": "mail"}] * 150
    answer = await http.post("/v1/jobs/batch", json={"jobs": jobs})
    assert (answer.status_code, len(answer.json()["accepted"])) == (202, 100)  # mail is full after the first lot
    rejected = {one["index"]: one["problem"]["type"] for one in answer.json()["rejected"]}
    assert set(rejected) == {*range(0, 300, 2), *range(201, 300, 2)}
    assert set(rejected.values()) == {"/problems/queue-full"}
    for more, query in (([*jobs[:2], {"task": "keep", "queue": "new"}], "?atomic=true"), (jobs[:2], "")):
        assert_problem(await http.post(f"/v1/jobs/batch{query}", json={"jobs": more}), 503, "queue-full")


async def test_error_says_what_was_stored(client: Client) -> None:
    """`submit_many` stores what finds room; its error has those, and the places of the others."""
    specs = [client.spec("keep").with_options(queue=queue) for queue in ("default", "mail")]
    await client.submit_many([specs[0]] * 2)
    with pytest.raises(QueueFull, match="queue default is full") as raised:
        await client.submit_many([specs[0], specs[1], specs[0]])
    assert ([0, 2], ["mail"]) == (
        list(raised.value.refused), [(await handle.get()).queue for handle in raised.value.stored],
    )  # fmt: skip


def test_sync_client(valkey: Valkey) -> None:
    """Without an event loop it is the same error, with handles of its kind."""
    with SyncClient(settings=Settings(redis_url=valkey.url, max_queued=1)) as client:
        client.submit("note")
        with pytest.raises(QueueFull) as raised:
            client.submit_many([client._client.spec("note").with_options(queue=q) for q in ("default", "mail")])
        assert ["mail"] == [handle.get().queue for handle in raised.value.stored]


async def test_full_memory_drains(own_valkey: Valkey) -> None:
    """At `maxmemory` submits are 503, a worker finishes all that was accepted, and submits are taken again: nothing is
    restarted, and nothing lost."""
    registry, ran = Registry(), []

    @registry.task
    async def weigh(number: int, text: str) -> str:
        ran.append(number)
        return text[:10]

    with own_valkey.client() as admin:
        admin.config_set("maxmemory", admin.info("memory")["used_memory"] + (4 << 20))
    settings = Settings(redis_url=own_valkey.url, result_ttl=1, retention=1, lease=2.0)
    app = create_app(settings, registry)
    async with Client(settings=settings, registry=registry) as client:
        app.state.jobq = client
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http:
            accepted = []

            async def submit(number: int) -> int:
                body = {"task": "weigh", "payload": {"number": number, "text": "x" * 60_000}}
                answer = await http.post("/submit-job", json=body)
                if answer.status_code == 200:
                    accepted.append(number)
                else:
                    assert_problem(answer, 503, "store-full")
                    assert answer.headers["retry-after"] == "5"
                return answer.status_code

            number = 0
            while await submit(number) == 200:
                number += 1
            worker = Worker(settings, registry)
            working = asyncio.create_task(worker.run())
            async with asyncio.timeout(30):
                while len(ran) < len(accepted):
                    await asyncio.sleep(0.05)
                while await submit(1000) != 200:
                    await asyncio.sleep(0.2)
                while len(ran) < len(accepted):
                    await asyncio.sleep(0.05)
                while (await http.get("/readyz")).status_code != 200:
                    await asyncio.sleep(0.05)
            assert sorted(ran) == sorted(accepted)
            worker.stop()
            assert await working == 0


async def test_unfit_server(own_valkey: Valkey) -> None:
    """A policy that is changed while the service runs makes it unready within seconds, and it says what to repair."""
    settings = Settings(redis_url=own_valkey.url)
    app = create_app(settings, Registry())
    async with Client(settings=settings) as client:
        app.state.jobq = client
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http:
            assert (await http.get("/readyz")).status_code == 200
            with own_valkey.client() as admin:
                admin.config_set("maxmemory-policy", "allkeys-lru")
            async with asyncio.timeout(5):
                while (answer := await http.get("/readyz")).status_code == 200:
                    await asyncio.sleep(0.1)
            assert "noeviction" in assert_problem(answer, 503, "store-unfit")["detail"]


async def test_store_of_a_full_queue_is_not_away(http: httpx.AsyncClient, store: Store) -> None:
    """A full queue does not open the breaker: jobs can be read, and other queues served."""
    await fill(http)
    assert (await http.post("/submit-job", json={"task": "keep"})).status_code == 503
    assert (await http.get("/v1/jobs")).status_code == 200
    await store.writable()
