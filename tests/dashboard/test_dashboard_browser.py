"""The dashboard in a real browser that can reach nothing but the service, beside a real worker."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.async_api import Page, Route, async_playwright, expect
from redis.asyncio import Redis

from jobq import Client, Settings
from jobq.dashboard.page import PAGES
from jobq.worker import Worker
from tests.dashboard import support

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

CHROMIUM = [
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
# Milliseconds: a busy machine is no failure.
expect.set_options(timeout=20_000)
DESK, PHONE = (1280, 900), (390, 844)


@dataclass
class Browser:
    """A page, and what went wrong on it."""

    origin: str
    page: Page
    complaints: list[str] = field(default_factory=list)

    async def go(self, path: str) -> None:
        await self.page.goto(f"{self.origin}/dashboard{path}")

    async def overflow(self) -> int:
        width: int = await self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        return width


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
async def browsing(app: FastAPI, size: tuple[int, int] = DESK, **options: Any) -> AsyncIterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "these tests need Chromium: apt-get install chromium"
    async with serving(app) as origin, async_playwright() as playwright:
        instance = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM)
        page = await instance.new_page(viewport={"width": size[0], "height": size[1]}, **options)
        browser = Browser(origin, page)

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
        try:
            yield browser
        finally:
            await instance.close()


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[None]:
    worker = Worker(settings, support.registry)
    running = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await running


@pytest.fixture
async def mixed(client: Client, settings: Settings) -> str:
    """Some hundred jobs in all states, one of them failed; its id."""
    await client.submit_many([client.spec("send_email", {"to": f"user{n}@example.com"}) for n in range(300)])
    job_id = (await client.submit("send_email", {"to": "broken@example.com"}, max_retries=1)).job_id
    await support.run_all(settings)
    await client.submit_many([client.spec("keep", {"value": [n]}) for n in range(60)])
    await client.submit("send_email", delay=3600)
    return job_id


@pytest.mark.parametrize(("size", "theme"), [(DESK, "light"), (PHONE, "dark")], ids=["desk", "phone"])
async def test_all_pages(app: FastAPI, mixed: str, size: tuple[int, int], theme: Any) -> None:
    """Every page fits, stays live, breaks no policy and asks no other host."""
    async with browsing(app, size, color_scheme=theme) as browser:
        for path in [
            *(f"/{page.path}".rstrip("/") for page in PAGES),
            f"/jobs/{mixed}",
            "/jobs?status=failed",
            "/jobs?status=scheduled",
        ]:
            await browser.go(path)
            await expect(browser.page.locator("#main h1")).to_be_visible()
            if await browser.page.locator("#main[data-live]").count():
                async with browser.page.expect_response(lambda response: "static" not in response.url):
                    pass  # it asked again
                await expect(browser.page.locator("#live")).to_have_text("live")
            assert await browser.overflow() <= 0, path
        await browser.go("")
        await expect(browser.page.locator("#chart canvas")).to_be_visible()
        await browser.page.locator("#theme").click()
        other = "light" if theme == "dark" else "dark"
        await expect(browser.page.locator("html")).to_have_attribute("data-theme", other)
        await browser.go("/queues")
        await expect(browser.page.locator("html")).to_have_attribute("data-theme", other)
        assert browser.complaints == []


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
async def test_find_a_failed_job_and_retry_it(
    app: FastAPI, settings: Settings, mixed: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overview, failed jobs, the job, why, retry, completed: without a reload."""
    async with browsing(app, size) as browser, working(settings):
        page = browser.page
        await browser.go("")
        await page.locator(".tile", has_text="Failing").click()
        await page.locator("tbody tr", has_text="ConnectionError").locator("a").first.click()
        await expect(page).to_have_url(f"{browser.origin}/dashboard/jobs/{mixed}")
        await expect(page.locator("#error")).to_contain_text("no mail to broken@example.com")
        await expect(page.locator("#error pre")).to_contain_text("raise ConnectionError")
        await page.evaluate("window.same = true")
        monkeypatch.setattr(support, "broken", set())
        await page.get_by_role("button", name="Retry").click()
        await expect(page.locator("#toast")).to_contain_text("in its queue again")
        await expect(page.locator("h1 .status")).to_have_text("completed", timeout=10_000)
        await expect(page.locator("#result")).to_contain_text("9007199254740993")
        assert await page.evaluate("window.same")
        assert browser.complaints == []


async def test_what_is_refused_is_told(app: FastAPI, client: Client, mixed: str) -> None:
    """An action that no longer fits says why, and leaves the page as it is."""
    async with browsing(app) as browser:
        await browser.go(f"/jobs/{mixed}")
        await client.retry(mixed)
        await browser.page.get_by_role("button", name="Retry").click()
        await expect(browser.page.locator("#toast")).to_contain_text("is pending and cannot be retried")
        await expect(browser.page.locator("h1 .status")).to_have_text("failed")


async def test_rows_stay_where_they_are(app: FastAPI, client: Client, settings: Settings, mixed: str) -> None:
    """New jobs are counted and not shown, before and while a row is pointed at; what is known is written in place."""
    async with browsing(app) as browser:
        page = browser.page
        await browser.go("/jobs")
        rows = page.locator("tbody[data-rows] tr")
        before = await rows.evaluate_all("rows => rows.map(row => row.id)")
        await rows.nth(3).hover()
        await client.submit_many(
            [
                client.spec(
                    "keep",
                    {"value": n},
                ).with_options(priority=9)
                for n in range(5)
            ]
        )
        news = page.locator("#news a")
        await expect(news).to_have_text("5 new: show")
        assert await rows.evaluate_all("rows => rows.map(row => row.id)") == before
        await page.mouse.move(5, 5)
        await support.run_all(settings)
        await expect(page.locator("tbody tr.gone, tbody .completed").first).to_be_visible()
        assert await rows.evaluate_all("rows => rows.map(row => row.id)") == before
        await news.click()
        await expect(news).to_be_hidden()
        assert await rows.evaluate_all("rows => rows.map(row => row.id)") != before
        assert browser.complaints == []


async def test_the_chart_tells_its_numbers(app: FastAPI, redis: Redis, mixed: str) -> None:
    """Who points at the chart reads what happened then; who leaves it does not."""
    now = (await redis.time())[0] // 10
    # The chart's first slots: it moves on while the browser starts.
    for ago in range(330, 362):
        await redis.hset(f"job_stats:{now - ago}", mapping={"default|in": 55, "default|failed": 20})
    async with browsing(app) as browser:
        page = browser.page
        await browser.go("")
        await page.locator("#chart .u-over").hover(position={"x": 1, "y": 50})
        await expect(page.locator("#at")).to_have_text(re.compile(r"^\d\d:\d\d:\d0 UTC: in 5.5, done 0, failed 2$"))
        await page.mouse.move(5, 5)
        await expect(page.locator("#at")).to_have_text("UTC")
        assert browser.complaints == []


async def test_a_form_is_not_taken_away(app: FastAPI, client: Client, mixed: str) -> None:
    """Purge: what was typed stays while the page is live; the right name purges."""
    async with browsing(app) as browser:
        page = browser.page
        await browser.go("/queues")
        row = page.locator("#q-default")
        await row.get_by_text("Purge…").click()
        await row.locator("input").fill("default")
        await page.mouse.move(5, 5)
        await page.wait_for_timeout(4500)
        await expect(row.locator("input")).to_have_value("default")
        await row.get_by_role("button", name="Purge default").click()
        await expect(page.locator("#toast")).to_contain_text("forgotten")
        await expect(row.locator("td[data-label=Ready]")).to_have_text("0")
        await row.get_by_role("button", name="Pause").click()
        await expect(row.locator(".status.paused")).to_be_visible()
        assert "said" not in page.url
        assert browser.complaints == []


async def test_an_action_is_shown_under_the_pointer(app: FastAPI, mixed: str) -> None:
    """However long its answer takes: what is held still for who points at it shows what he asked for."""
    async with browsing(app) as browser:
        page = browser.page

        async def slowly(route: Route) -> None:
            await page.wait_for_timeout(5000)
            await route.continue_()

        await browser.go("/queues")
        await page.route("**/pause", slowly)
        row = page.locator("#q-default")
        await row.get_by_role("button", name="Pause").click()
        await expect(row.locator(".status.paused")).to_be_visible()
        assert browser.complaints == []


async def test_hidden_pages_ask_for_nothing(app: FastAPI, mixed: str) -> None:
    """A hidden tab stops asking, and asks at once when it is seen again."""
    async with browsing(app) as browser:
        page, asked = browser.page, []
        await browser.go("/queues")
        page.on("request", lambda request: asked.append(request.url))
        hide = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
        hide += " document.dispatchEvent(new Event('visibilitychange')) }"
        await page.evaluate(hide, True)
        await page.wait_for_timeout(4500)
        assert len(asked) <= 1  # one that was under way
        asked.clear()
        await page.evaluate(hide, False)
        await page.wait_for_timeout(500)
        assert len(asked) == 1


async def test_readable_without_scripts(app: FastAPI, mixed: str) -> None:
    """Without JavaScript everything can be read, and a job retried."""
    async with browsing(app, java_script_enabled=False) as browser:
        page = browser.page
        await browser.go("/jobs?status=failed")
        await page.locator("tbody a").first.click()
        await page.get_by_role("button", name="Retry").click()
        await expect(page.locator("#said")).to_contain_text("in its queue again")
        await expect(page.locator("h1 .status")).to_have_text("pending")
