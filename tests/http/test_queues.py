"""Queues, workers and tasks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fakeredis import FakeAsyncRedis

from jobq import Client, Registry, Retry
from jobq.store.store import Store
from tests.http.support import Hand, registry

ABOUT = {
    "host": "box", "pid": 7, "started_at": 1_795_000_000_000, "state": "running", "queues": ["default", "numbers"],
    "concurrency": 4, "tasks": ["add", "keep"], "pumped_ms": 400, "beat_ms": 900,
}  # fmt: skip


async def queue(http: httpx.AsyncClient, name: str) -> dict[str, Any]:
    answer = await http.get(f"/v1/queues/{name}")
    assert answer.status_code == 200
    view: dict[str, Any] = answer.json()
    return view


async def test_queue_shows_what_is_in_it(http: httpx.AsyncClient, store: Store) -> None:
    """Depth by priority, the oldest wait, the rates and the workers."""
    for priority in (0, 0, 5):
        await http.post("/v1/jobs", json={"task": "keep", "priority": priority})
    await store.present("w1", json.dumps(ABOUT), 10_000)
    shown = await queue(http, "default")
    assert shown.pop("oldest_seconds") >= 0
    assert shown.pop("rates").keys() == {"in", "completed", "failed", "cancelled", "retried", "lost"}
    assert shown == {"name": "default", "depth": 3, "ready": {"0": 2, "5": 1}, "paused": False, "workers": 1}


async def test_all_queues(http: httpx.AsyncClient) -> None:
    """The list has those of the tasks and those that were used, as they are shown alone."""
    await http.post("/v1/jobs", json={"task": "keep", "queue": "extra"})
    views = (await http.get("/v1/queues")).json()["queues"]
    assert [view["name"] for view in views] == ["default", "extra", "numbers"]
    assert views[0] == await queue(http, "default")


async def test_queue_nobody_ever_used(http: httpx.AsyncClient) -> None:
    """It is 404 until somebody does something with it; a name that cannot be one is 422."""
    answer = await http.get("/v1/queues/nowhere")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/queue-not-found")
    assert (await http.post("/v1/queues/nowhere/pause")).json()["paused"] is True
    assert (await queue(http, "nowhere"))["paused"] is True
    for name in ("A", "a%20b", "a" * 65, "..%2fx"):
        assert (await http.get(f"/v1/queues/{name}")).status_code in (404, 422)
    assert (await http.get("/v1/queues/A")).json()["errors"][0]["loc"] == ["path", "queue"]


async def test_pause_and_resume(http: httpx.AsyncClient, hand: Hand) -> None:
    """Nothing is claimed of a paused queue; both may be said twice."""
    await http.post("/v1/jobs", json={"task": "keep"})
    for _ in range(2):
        assert (await http.post("/v1/queues/default/pause")).json()["paused"] is True
    assert (await hand._pump([], 1, "default")).claims == []
    for _ in range(2):
        answer = await http.post("/v1/queues/default/resume")
        assert (answer.status_code, answer.json()["paused"], answer.json()["depth"]) == (200, False, 1)
    assert (await hand.claim())[0].task == "keep"


async def test_purge(http: httpx.AsyncClient) -> None:
    """What is ready is forgotten and counted, once the name was repeated."""
    for _ in range(3):
        job_id = (await http.post("/v1/jobs", json={"task": "keep"})).json()["job_id"]
    wrong = await http.post("/v1/queues/default/purge", json={"confirm": "numbers"})
    assert (wrong.status_code, wrong.json()["errors"][0]["loc"]) == (422, ["body", "confirm"])
    for body in ({}, {"confirm": "default", "more": 1}, {"confirm": None}):
        assert (await http.post("/v1/queues/default/purge", json=body)).status_code == 422
    assert (await queue(http, "default"))["depth"] == 3
    answer = await http.post("/v1/queues/default/purge", json={"confirm": "default"})
    assert (answer.status_code, answer.json()) == (200, {"purged": 3})
    assert (await http.get(f"/v1/jobs/{job_id}")).status_code == 404


async def test_workers(http: httpx.AsyncClient, store: Store, hand: Hand) -> None:
    """Each worker that is there shows what it is and what it runs."""
    assert (await http.get("/v1/workers")).json() == {"workers": []}
    job_id = (await http.post("/v1/jobs", json={"task": "keep"})).json()["job_id"]
    await hand.claim()
    await store.present(hand.name, json.dumps(ABOUT), 10_000)
    [worker] = (await http.get("/v1/workers")).json()["workers"]
    assert 0 <= worker.pop("seen_seconds") < 5
    expected = {**ABOUT, "worker": "hand", "started_at": "2026-11-18T11:06:40.000Z", "running": [job_id]}
    assert {**expected, "consuming": True} == worker


@pytest.mark.parametrize(
    ("more", "expected"),
    [({"pumped_ms": 10_500}, False), ({"beat_ms": 10_500}, False), ({"state": "quiet"}, False), ({}, True)],
)
async def test_worker_that_consumes(
    http: httpx.AsyncClient, store: Store, more: dict[str, Any], expected: bool
) -> None:
    """A worker whose claims or heartbeats are not answered, or that claims no more, is there but does not consume."""
    await store.present("w1", json.dumps({**ABOUT, **more}), 10_000)
    [worker] = (await http.get("/v1/workers")).json()["workers"]
    assert expected == worker["consuming"]


@pytest.mark.parametrize(
    "about", ['{"pid":"seven"}', '{"queues":5,"tasks":null}', '{"tasks":5}', '{"started_at":"x"}', "{}"]
)
async def test_worker_that_says_anything(http: httpx.AsyncClient, store: Store, about: str) -> None:
    """What a worker says of itself is nobody's 500."""
    await store.present("odd", about, 10_000)
    [worker] = (await http.get("/v1/workers")).json()["workers"]
    assert (worker["worker"], worker["running"]) == ("odd", [])
    assert 200 == (await http.get("/v1/tasks")).status_code


async def test_orders(http: httpx.AsyncClient, store: Store) -> None:
    """A worker hears what it is told; one that is not there is 404."""
    await store.present("w1", json.dumps(ABOUT), 10_000)
    for order in ("quiet", "stop"):
        answer = await http.post(f"/v1/workers/w1/{order}")
        assert (answer.status_code, answer.json()) == (202, {"worker": "w1", "order": order})
        assert await store.present("w1", json.dumps(ABOUT), 10_000) == order
        missing = await http.post(f"/v1/workers/w2/{order}")
        assert (missing.status_code, missing.json()["type"]) == (404, "/problems/worker-not-found")
        assert (await http.post(f"/v1/workers/a:b/{order}")).status_code == 422


async def test_tasks(http: httpx.AsyncClient, store: Store) -> None:
    """Each task shows what it does, what it takes, what holds for its jobs and who serves it."""
    await store.present("w1", json.dumps(ABOUT), 10_000)
    tasks = (await http.get("/v1/tasks")).json()["tasks"]
    assert [task["name"] for task in tasks] == registry.names()
    add = (await http.get("/v1/tasks/add")).json()
    assert add == tasks[0]
    assert add["payload"]["required"] == ["left", "right"]
    del add["payload"]
    assert add == {
        "name": "add", "doc": "", "queue": "numbers", "max_retries": 3, "backoff": 1.0, "timeout": 300.0,
        "workers": ["w1"],
    }  # fmt: skip
    send = (await http.get("/v1/tasks/send_email")).json()
    assert (send["doc"], send["workers"]) == ("Pretend to send a mail.\n\nSecond paragraph.", [])


async def test_task_that_says_for_itself(http: httpx.AsyncClient, client: Client) -> None:
    """What a task states wins over the service; arguments that JSON Schema cannot tell have none."""
    client.registry = Registry()

    @client.registry.task(timeout=None, retry=Retry(7, backoff=2.5))
    def call(what: Callable[[], None]) -> None: ...

    shown = (await http.get("/v1/tasks/call")).json()
    assert (shown["max_retries"], shown["backoff"], shown["timeout"]) == (7, 2.5, None)
    assert shown["payload"] is None


async def test_unknown_task(http: httpx.AsyncClient, client: Client) -> None:
    """A task the service does not have is 404 with those it has; a service may have none."""
    answer = await http.get("/v1/tasks/send_mail")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/task-not-found")
    assert "did you mean send_email?" in answer.json()["detail"]
    client.registry = None
    assert (await http.get("/v1/tasks")).json() == {"tasks": []}


@pytest.mark.parametrize("path", ["/v1/queues", "/v1/workers", "/v1/tasks", "/v1/jobs", "/v1/queues/default"])
async def test_store_away(http: httpx.AsyncClient, redis: FakeAsyncRedis, path: str) -> None:
    """Without its server the service answers 503 here, too."""
    redis.connection_pool.connection_kwargs["server"].connected = False
    await redis.connection_pool.disconnect()
    answer = await http.get(path)
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/store-unavailable")
