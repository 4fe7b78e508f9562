"""Takes the pictures of the README: `python docs/screenshots.py [folder]`.

Needs requirements-dev.txt and Debian's chromium. Server, API and worker are its own, in a temporary folder.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import structlog
import uvicorn
from playwright.async_api import Browser, async_playwright
from redis.asyncio import Redis

sys.path.insert(0, str(Path(__file__).parent.parent))  # of a checkout that is not installed

from jobq import Client, Registry, Retry, Settings, current
from jobq.http.app import create_app
from jobq.store.statistics import HISTORY, SLOT
from jobq.worker import Worker

PICTURES = Path(__file__).parent / "pictures"
RUNNING = 8
"""Jobs that run in the pictures: all that the worker has slots for."""

log = logging.getLogger("shop")
registry = Registry()


@registry.task
def send_email(to: str) -> dict[str, Any]:
    if to.endswith(".invalid"):
        raise ValueError(f"550 5.1.2 <{to}>: the domain does not exist")
    return {"to": to}


@registry.task(queue="billing", retry=Retry(2, backoff=0.3))
async def charge_card(order: int, amount: str) -> dict[str, Any]:
    log.info("order %s: asking the bank for %s", order, amount)
    if order % 100 == 0:
        await asyncio.sleep(0.2)
        log.warning("order %s: the bank does not answer", order)
        raise ConnectionError(f"bank.example.com did not answer, order {order}")
    return {"order": order, "paid": amount}


@registry.task(queue="images")
async def make_thumbnail(picture: str) -> None:
    current().progress(0.4, "row 320 of 800")
    await asyncio.sleep(300)


@registry.task(queue="reports")
def monthly_report(month: str) -> None:
    """Its queue is paused."""


async def main(folder: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("this needs Chromium: apt-get install chromium")
    async with service() as (client, origin), async_playwright() as playwright:
        failed = await fill(client)
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        await take(browser, f"{origin}/dashboard", "light", "#failures", folder / "dashboard.png")
        await take(browser, f"{origin}/dashboard/jobs/{failed}", "dark", "#timeline", folder / "job.png")
        await browser.close()


@asynccontextmanager
async def service() -> AsyncIterator[tuple[Client, str]]:
    """A service with a worker, and where it answers."""
    with TemporaryDirectory(prefix="jobq-", ignore_cleanup_errors=True) as place:
        settings = Settings(
            project=place,
            data_dir=".jobq",
            redis_url=None,
            api_key=None,
            concurrency=RUNNING,
            drain_timeout=0,
        )
        async with Client(settings=settings, registry=registry) as client:
            app = create_app(settings, registry)
            app.state.jobq = client
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
            worker = Worker(settings, registry)
            with socket.create_server(("127.0.0.1", 0)) as listener:
                tasks = [asyncio.create_task(server.serve(sockets=[listener])), asyncio.create_task(worker.run())]
                try:
                    yield client, f"http://127.0.0.1:{listener.getsockname()[1]}"
                finally:
                    server.should_exit = True
                    worker.stop()
                    await asyncio.gather(*tasks)


async def fill(client: Client) -> str:
    """Jobs of every kind, at rest; the id of one that failed after its retries."""
    await client.pause("reports")
    jobs = [client.spec("send_email", {"to": f"ada{n}@example.com"}) for n in range(1500)]
    jobs += [client.spec("charge_card", {"order": 7000 + n, "amount": "49.90 EUR"}) for n in range(1, 100)]
    jobs += [client.spec("send_email", {"to": "grace@typo.invalid"}).with_options(max_retries=0)]
    jobs += [client.spec("monthly_report", {"month": f"2026-{n:02}"}) for n in range(1, 13)]
    jobs += [client.spec("send_email", {"to": "edsger@example.com"}).with_options(delay=3600) for _ in range(24)]
    await client.submit_many(jobs)
    failed = await client.submit("charge_card", {"order": 4200, "amount": "129.00 EUR"})
    await until(client, lambda now: now.finished["failed"] == 2)
    pictures = [client.spec("make_thumbnail", {"picture": f"photo-{n}.jpg"}) for n in range(60)]
    await client.submit_many([job.with_options(priority=n % 2 * 5) for n, job in enumerate(pictures)])
    await until(client, lambda now: now.processing == RUNNING)
    await make_up_an_hour(client)
    return failed.job_id


async def until(client: Client, holds: Callable[[Any], bool]) -> None:
    for _ in range(600):
        if holds(await client.inspect.overview(registry.queues())):
            return
        await asyncio.sleep(0.1)
    raise TimeoutError


async def make_up_an_hour(client: Client) -> None:
    """A chart wants an hour of statistics, and nobody wants to wait so long."""
    store: Any = client._store
    redis: Redis = store._client
    now, chance = (await redis.time())[0] // SLOT, random.Random(1)  # noqa: S311 - always the same chart
    async with redis.pipeline(transaction=False) as pipe:
        for ago in range(-6, HISTORY + 1):  # some slots ahead, for it takes a moment to get to the pictures
            level = 1 + 0.35 * math.sin(ago / 45) + chance.uniform(-0.08, 0.08)
            trouble = 10 if 120 < ago < 150 else 1
            counts = {
                "default|in": 300 * level, "default|completed": 298 * level, "default|failed": 2,
                "billing|in": 80 * level, "billing|completed": 76 * level, "billing|failed": 3 * trouble,
                "billing|retried": 9 * trouble, "images|in": 20 * level, "images|completed": 20, "reports|in": 1,
            }  # fmt: skip
            whole = {name: int(number) for name, number in counts.items()}
            pipe.delete(f"job_stats:{now - ago}")
            pipe.hset(f"job_stats:{now - ago}", mapping=whole)
        await pipe.execute()


async def take(browser: Browser, url: str, theme: Any, last: str, file: Path) -> None:
    """The page down to that element."""
    page = await browser.new_page(viewport={"width": 1200, "height": 1400}, color_scheme=theme)
    await page.goto(url, wait_until="networkidle")
    # Not where whoever takes the pictures keeps this file.
    await page.evaluate(
        "([from, to]) => { for (const e of document.querySelectorAll('pre'))"
        " e.textContent = e.textContent.replaceAll(from, to) }",
        [__file__, "/srv/shop/tasks.py"],
    )
    box = await page.locator(last).bounding_box()
    assert box
    await page.screenshot(
        path=file, clip={"x": 0, "y": 0, "width": 1200, "height": round(box["y"] + box["height"]) + 12}
    )
    await page.close()


if __name__ == "__main__":
    pictures = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES
    pictures.mkdir(parents=True, exist_ok=True)
    logging.getLogger().addHandler(logging.NullHandler())
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    asyncio.run(main(pictures))
