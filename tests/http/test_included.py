"""The routers in somebody else's application: below a prefix, mounted, behind a proxy."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from jobq import Client, Settings
from jobq.http import contract, health, jobs
from jobq.http.app import create_app
from tests.http.support import registry


def included(client: Client, settings: Settings) -> ASGIApp:
    """The host includes the routers, and has error handlers and a route of its own."""
    host = FastAPI()
    host.state.jobq = client
    host.include_router(contract.router, prefix="/deep/jobs")
    host.include_router(jobs.router, prefix="/deep/jobs/v1")
    host.include_router(health.router, prefix="/deep/jobs")

    @host.exception_handler(404)
    @host.exception_handler(Exception)
    async def handle(request: object, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("the host's own", 404)

    return host


def mounted(client: Client, settings: Settings) -> ASGIApp:
    """The host mounts our application."""
    inner = create_app(settings, registry)
    inner.state.jobq = client
    host = FastAPI()
    host.mount("/deep/jobs", inner)
    return host


def behind_proxy(client: Client, settings: Settings) -> ASGIApp:
    """A proxy takes the prefix away, and tells it as root_path."""
    inner = create_app(settings, registry)
    inner.state.jobq = client

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix("/deep/jobs")
        await inner({**scope, "root_path": "/deep/jobs", "path": path}, receive, send)

    return proxy


@pytest.fixture(params=[included, mounted, behind_proxy])
async def place(request: pytest.FixtureRequest, client: Client, settings: Settings) -> Any:
    transport = httpx.ASGITransport(request.param(client, settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as http:
        yield http


async def test_locations_lead_to_the_job(place: httpx.AsyncClient) -> None:
    """Whatever the routes are below, Location is where the job is."""
    submitted = await place.post("/deep/jobs/submit-job", json={"task": "send_email"})
    job_id = submitted.json()["job_id"]
    assert submitted.headers["location"] == f"/deep/jobs/job-status/{job_id}"
    assert (await place.get(submitted.headers["location"])).json()["job_id"] == job_id
    created = await place.post("/deep/jobs/v1/jobs", json={"task": "send_email"})
    assert created.headers["location"] == f"/deep/jobs/v1/jobs/{created.json()['job_id']}"
    assert (await place.get(created.headers["location"])).json() == created.json()


async def test_problems_are_ours(place: httpx.AsyncClient) -> None:
    """Our routes report errors as they do at home."""
    form = await place.post("/deep/jobs/submit-job", data={"task": "send_email"})
    assert (form.status_code, form.headers["content-type"]) == (415, "application/problem+json")
    assert "curl -X POST http://host/deep/jobs/submit-job -H" in form.json()["detail"]
    shape = await place.post("/deep/jobs/v1/jobs", json={"task": 1})
    assert (shape.status_code, shape.json()["instance"]) == (422, "/deep/jobs/v1/jobs")
    missing = await place.get("/deep/jobs/job-status/11111111-2222-4333-8444-555555555555")
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/job-not-found")
    assert missing.headers["cache-control"] == "no-store"


async def test_handlers_of_the_host_stay(client: Client, settings: Settings) -> None:
    """What is not ours is answered as the host wants it."""
    transport = httpx.ASGITransport(included(client, settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as http:
        assert (await http.get("/nope")).text == "the host's own"


async def test_host_without_a_client() -> None:
    """Routes without a client say what is missing."""
    host = FastAPI()
    host.include_router(contract.router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(host), base_url="http://host") as http:
        with pytest.raises(RuntimeError, match=r"app\.state\.jobq"):
            await http.post("/submit-job", json={"task": "send_email"})
