"""The routers in somebody else's application: below a prefix, mounted, behind a proxy."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from jobq import Client, Settings
from jobq.http import contract, health, install, jobs
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


def installed(client: Client, settings: Settings) -> ASGIApp:
    """The host has everything installed below a prefix."""
    host = FastAPI()
    install(host, client, prefix="/deep/jobs")
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


@pytest.fixture(params=[included, installed, mounted, behind_proxy])
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
    assert (missing.status_code, missing.json()["title"]) == (404, "Job not found")
    assert missing.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("place", "page"),
    [
        (included, "/problems"),
        (installed, "/deep/jobs/problems"),
        (mounted, "/deep/jobs/problems"),
        (behind_proxy, "/deep/jobs/problems"),
    ],
    indirect=["place"],
)
async def test_types_lead_to_their_pages(place: httpx.AsyncClient, page: str) -> None:
    """Wherever the pages are, the `type` of a problem is the page's address, which is also what the page says."""
    answers = [
        await place.post("/deep/jobs/submit-job", data={"task": "send_email"}),
        await place.post("/deep/jobs/v1/jobs", json={"task": 1}),
        await place.get("/deep/jobs/job-status/11111111-2222-4333-8444-555555555555"),
    ]
    types = [f"{page}/{slug}" for slug in ("unsupported-media-type", "invalid", "job-not-found")]
    assert types == [answer.json()["type"] for answer in answers]
    if page != "/problems":  # that host has not included them
        assert types == [(await place.get(kind)).json()["type"] for kind in types]


@pytest.mark.parametrize("place", [installed, mounted, behind_proxy], indirect=True)
async def test_types_inside_of_an_answer(place: httpx.AsyncClient) -> None:
    """The problems of a batch's rejected jobs, and of a path that is not there, lead to pages of the same place."""
    answer = await place.post("/deep/jobs/v1/jobs/batch", json={"jobs": [{"task": 1}]})
    assert ["/deep/jobs/problems/invalid"] == [one["problem"]["type"] for one in answer.json()["rejected"]]
    missing = await place.get("/deep/jobs/problems/none")
    assert (404, "/deep/jobs/problems/not-found") == (missing.status_code, missing.json()["type"])


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


async def test_host_with_a_client_that_is_not_open() -> None:
    """The error says whose task it is to open it."""
    host = FastAPI()
    install(host, Client(registry=registry))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(host), base_url="http://host") as http:
        with pytest.raises(RuntimeError, match="open it in the lifespan of your application"):
            await http.get("/v1/jobs")


def host_of_its_own(client: Client, prefix: str = "/jobs") -> FastAPI:
    """A host with a route, a handler and a middleware, in which everything is installed."""
    host = FastAPI(title="host")

    @host.get("/rooms")
    async def rooms() -> list[str]:
        return ["one"]

    @host.middleware("http")
    async def stamp(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["X-Host"] = "yes"
        return response

    @host.exception_handler(404)
    async def missing(request: object, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("the host's own", 404)

    install(host, client, prefix)
    return host


async def test_host_stays_its_own(client: Client) -> None:
    """Its routes, its middleware, its handlers and its pages are as before, and ours are below the prefix."""
    host = host_of_its_own(client)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(host), base_url="http://host") as http:
        assert (await http.get("/rooms")).json() == ["one"]
        assert (await http.get("/v1/jobs")).text == "the host's own"
        created = await http.post("/jobs/v1/jobs?wait=0.05", json={"task": "send_email"})
        assert (created.status_code, created.headers["x-host"]) == (202, "yes")
        listed = await http.get("/jobs/v1/jobs?limit=1")
        assert listed.json()["jobs"][0]["job_id"] == created.json()["job_id"]
        assert (await http.get("/jobs/v1/queues/default")).json()["depth"] == 1
        assert (await http.get("/docs")).status_code == 200
        bad = await http.get("/jobs/v1/jobs?limit=0")
        assert (bad.status_code, bad.headers["content-type"]) == (422, "application/problem+json")


async def test_document_of_the_host(client: Client) -> None:
    """It lists our operations under the prefix by their own names, with a request for each task."""
    document = host_of_its_own(client).openapi()
    operations = {
        path: {m: o["operationId"] for m, o in methods.items()} for path, methods in document["paths"].items()
    }
    assert operations["/jobs/submit-job"] == {"post": "submit_job"}
    assert operations["/jobs/v1/jobs"] == {"post": "create_job", "get": "list_jobs"}
    assert operations["/rooms"] == {"get": "rooms_rooms_get"}
    body = document["paths"]["/jobs/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert body["examples"].keys() == set(registry.names())


async def test_key_guards_what_is_installed(client: Client) -> None:
    """The service's key is asked for below the prefix, and nowhere else."""
    client.settings = client.settings.having(api_key=SecretStr("0123456789abcdef"))
    transport = httpx.ASGITransport(host_of_its_own(client))
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as http:
        assert (await http.get("/rooms")).status_code == 200
        assert (await http.get("/jobs/healthz")).status_code == 200
        assert (await http.get("/jobs/v1/jobs")).status_code == 401
        key = {"Authorization": "Bearer 0123456789abcdef"}
        assert (await http.get("/jobs/v1/jobs", headers=key)).status_code == 200


async def test_explained_problems_of_the_host(client: Client) -> None:
    """The document says where each problem is explained, and the page is there; another application's stay its own."""
    host, other = host_of_its_own(client), host_of_its_own(client, "/other")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(host), base_url="http://host") as http:
        types = {
            example["value"]["type"]
            for response in host.openapi()["paths"]["/jobs/v1/jobs"]["post"]["responses"].values()
            for example in response["content"].get("application/problem+json", {}).get("examples", {}).values()
        }
        assert len(types) > 5
        assert {200} == {(await http.get(page)).status_code for page in types}
    assert "'/other/problems/" in str(other.openapi())
    assert "/jobs/problems" not in str(other.openapi())
