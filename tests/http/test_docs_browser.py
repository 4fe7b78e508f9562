"""`/docs` and `/redoc` in a real browser that can reach nothing but the service."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.async_api import Page, Route, async_playwright, expect
from pydantic import BaseModel, ConfigDict, Field

from jobq.http import docs

pytestmark = pytest.mark.system

CHROMIUM = [
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
JOB_ID = UUID("0197d0a5-0000-7000-8000-000000000001")


class SubmitJob(BaseModel):
    model_config = ConfigDict(extra="forbid")
    task: str = Field(examples=["send_email"])


class JobAccepted(BaseModel):
    job_id: UUID


def make_app() -> FastAPI:
    app = FastAPI(title="Sample", version="1.2.3", docs_url=None, redoc_url=None)
    app.include_router(docs.router)

    @app.post("/submit-job", operation_id="submit_job", tags=["jobs"])
    async def submit_job(job: SubmitJob) -> JobAccepted:
        """Submit a job."""
        assert job.task == "send_email"
        return JobAccepted(job_id=JOB_ID)

    return app


def make_mounted() -> FastAPI:
    outer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    outer.mount("/below", make_app())
    return outer


@dataclass
class Browser:
    """A page, and what went wrong on it."""

    page: Page
    complaints: list[str] = field(default_factory=list)


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running


@asynccontextmanager
async def browsing(origin: str) -> AsyncIterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "these tests need Chromium: apt-get install chromium"
    async with async_playwright() as playwright:
        instance = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM)
        page = await instance.new_page(viewport={"width": 1280, "height": 1400})
        browser = Browser(page)

        async def guard(route: Route) -> None:
            if route.request.url.startswith(origin + "/"):
                await route.continue_()
            else:
                browser.complaints.append(f"request to {route.request.url}")
                await route.abort()

        await page.route("**/*", guard)
        await page.add_init_script(
            "addEventListener('securitypolicyviolation',"
            " e => console.error('policy', e.violatedDirective, e.blockedURI, e.sourceFile, e.lineNumber))"
        )
        page.on("console", lambda m: browser.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: browser.complaints.append(str(error)))
        page.on("requestfailed", lambda request: browser.complaints.append(f"failed: {request.url}"))
        try:
            yield browser
        finally:
            await instance.close()


@pytest.mark.parametrize(("app", "prefix"), [(make_app(), ""), (make_mounted(), "/below")], ids=["root", "mounted"])
async def test_a_job_is_submitted_from_swagger_ui(app: FastAPI, prefix: str) -> None:
    async with serving(app) as origin, browsing(origin) as browser:
        page = browser.page
        await page.goto(f"{origin}{prefix}/docs")
        operation = page.locator("#operations-jobs-submit_job")
        await expect(operation).to_contain_text("/submit-job")
        await operation.locator(".opblock-summary-control").click()
        await expect(operation.locator("textarea.body-param__text")).to_have_value('{\n  "task": "send_email"\n}')
        await operation.get_by_role("button", name="Execute").click()
        answer = operation.locator(".live-responses-table .response")
        await expect(answer.locator(".response-col_status")).to_contain_text("200")
        await expect(answer.locator(".response-col_description")).to_contain_text(str(JOB_ID))
        await expect(operation.locator(".request-url")).to_contain_text(f"{origin}{prefix}/submit-job")
        assert browser.complaints == []


@pytest.mark.parametrize(("app", "prefix"), [(make_app(), ""), (make_mounted(), "/below")], ids=["root", "mounted"])
async def test_redoc_shows_the_operation_and_finds_it(app: FastAPI, prefix: str) -> None:
    async with serving(app) as origin, browsing(origin) as browser:
        page = browser.page
        await page.goto(f"{origin}{prefix}/redoc")
        await expect(page.get_by_role("heading", name="Sample (1.2.3)")).to_be_visible(timeout=20_000)
        await expect(page.get_by_role("heading", name="Submit Job")).to_be_visible()
        await page.get_by_placeholder("Search").fill("submit")
        await expect(page.locator("[data-role='search:results']")).to_contain_text("Submit Job")
        assert browser.complaints == []
