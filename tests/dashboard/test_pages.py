"""The pages of the dashboard as they come from the server: what works without JavaScript."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from redis.asyncio import Redis
from starlette.types import ASGIApp, Receive, Scope, Send

from jobq import Client, Settings
from jobq.dashboard import files, guard
from jobq.dashboard.page import PAGES
from jobq.dashboard.shared import Shared
from jobq.dashboard.show import age, pretty, rate, steps
from jobq.errors import JobNotFound
from jobq.http.timeline import Event
from jobq.job import Status
from jobq.store.inspect import Inspector
from jobq.store.statistics import Slot
from tests.dashboard.support import NASTY, make_app, registry, run_all
from tests.support.servers import Valkey

PATHS = ["/dashboard", *(f"/dashboard/{page.path}" for page in PAGES)]
ABSENT = "11111111-2222-4333-8444-555555555555"
KEY = "a key of this test"


class Links(HTMLParser):
    """What a page refers to, and what its rows are."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.rows: list[str] = []
        self.inline: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.urls += [v for k in ("href", "src", "hx-get") if (v := given.get(k)) is not None]
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        if tag in ("script", "style") and not given.get("src"):
            self.inline.append(tag)
        if tag == "tr" and (row := given.get("id") or ""):
            self.rows.append(row)


async def failed_job(client: Client, settings: Settings, to: str = "broken@example.com") -> str:
    handle = await client.submit("send_email", {"to": to}, max_retries=1)
    await run_all(settings)
    return handle.job_id


@pytest.mark.parametrize("path", PATHS)
async def test_pages_without_data(http: httpx.AsyncClient, path: str) -> None:
    """Every page of the navigation shows itself when there is nothing to show."""
    page = await http.get(path)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-store"
    assert 'aria-current="page"' in page.text
    assert Links(page.text).inline == []


@pytest.mark.parametrize("path", PATHS)
async def test_pages_with_data(http: httpx.AsyncClient, client: Client, settings: Settings, path: str) -> None:
    """Every page shows itself with jobs in all states, and permits no script but its own."""
    await failed_job(client, settings)
    await client.submit("send_email", priority=9)
    await client.submit("send_email", delay=60)
    await client.cancel((await client.submit("draw")).job_id)
    page = await http.get(path)
    assert page.status_code == 200
    assert Links(page.text).inline == []
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"


async def test_numbers_lead_to_what_they_count(http: httpx.AsyncClient, client: Client) -> None:
    """The overview's backlog and a queue's depth link to lists with as many rows."""
    for priority in (0, 0, 3):
        await client.submit("draw", priority=priority)
    await client.submit("send_email")
    overview = (await http.get("/dashboard")).text
    assert re.search(r"Backlog</span><b>4<", overview)
    assert 'href="dashboard/jobs?status=pending"' in overview
    assert len(Links((await http.get("/dashboard/jobs?status=pending")).text).rows) == 4
    assert 'href="dashboard/jobs?status=pending&amp;queue=images">3</a>' in overview
    assert len(Links((await http.get("/dashboard/jobs?status=pending&queue=images")).text).rows) == 3


async def test_scheduled_jobs(http: httpx.AsyncClient, client: Client) -> None:
    """They have a list of their own, the next one first, over as many pages as it takes, and count as pending once."""
    later = [(await client.submit("draw", delay=seconds)).job_id for seconds in (60, 30)]
    await client.submit("draw")
    await client.submit_many([client.spec("send_email").with_options(delay=10) for _ in range(50)])
    first = (await http.get("/dashboard/jobs?status=scheduled")).text
    assert re.search(r">all <small>53<", first)
    assert re.search(r">pending <small>53<", first)
    assert re.search(r'aria-current="true">scheduled <small>52<', first)
    following = re.search(r'href="([^"]*)">Next page', first)
    assert following
    second = await http.get(urljoin("/dashboard/jobs", following[1].replace("&amp;", "&")))
    assert [f"j-{job_id}" for job_id in reversed(later)] == Links(second.text).rows
    only = await http.get("/dashboard/jobs?status=scheduled&queue=images")
    assert [f"j-{job_id}" for job_id in reversed(later)] == Links(only.text).rows


async def test_what_failed_last(http: httpx.AsyncClient, client: Client, settings: Settings) -> None:
    """The overview shows the latest failures with their reasons, the newest first, and no panel when there is none."""
    assert "Failed last" not in (await http.get("/dashboard")).text
    await client.submit_many(
        [client.spec("send_email", {"to": "broken"}).with_options(max_retries=0, queue="default") for _ in range(6)]
    )
    await run_all(settings)
    job_id = await failed_job(client, settings, "broken-at-last@example.com")
    for _ in range(100):
        page = (await http.get("/dashboard")).text
        if job_id in page:
            break
        await asyncio.sleep(0.05)
    rows = [row for row in Links(page).rows if row.startswith("f-")]
    assert (5, f"f-{job_id}") == (len(rows), rows[0])
    assert "no mail to broken-at-last@example.com" in page
    assert f'href="dashboard/jobs/{job_id}"' in page


async def test_lists_show_no_payloads(http: httpx.AsyncClient, client: Client, settings: Settings) -> None:
    """What may be secret is on the job's own page and on no other."""
    job_id = (await client.submit("keep", {"value": "hunter2"})).job_id
    await client.submit("keep", {"value": "hunter2"}, delay=60)
    await run_all(settings)
    for path in (*PATHS, "/dashboard/jobs?status=completed", "/dashboard/jobs?status=scheduled"):
        assert "hunter2" not in (await http.get(path)).text, path
    assert "hunter2" in (await http.get(f"/dashboard/jobs/{job_id}")).text


async def slots_of(redis: Redis, counts: dict[int, dict[str, int]]) -> int:
    """Write statistics of so many slots of ten seconds ago; the number of the slot that runs, which has just begun."""
    seconds: int
    while (seconds := (await redis.time())[0]) % 10 > 7:
        await asyncio.sleep(0.1)
    for ago, words in counts.items():
        await redis.hset(f"job_stats:{seconds // 10 - ago}", mapping=words)
    return seconds // 10


def chart_of(page: str) -> tuple[int, list[list[int]]]:
    found = re.search(r'data-from="(\d+)" data-points="([^"]*)"', page)
    assert found
    return int(found[1]), json.loads(found[2])


async def test_the_chart_of_a_new_process(http: httpx.AsyncClient, redis: Redis) -> None:
    """It begins with what Redis keeps of the last hour, from where anything happened."""
    counts = {40: {"default|in": 20, "images|in": 10}, 2: {"default|completed": 25, "default|failed": 5}}
    now = await slots_of(redis, counts)
    begins, points = chart_of((await http.get("/dashboard")).text)
    assert now - 40 == begins // 10
    assert [[30, *[0] * 39], [*[0] * 38, 25, 0], [*[0] * 38, 5, 0]] == points


async def test_the_chart_of_a_new_service(http: httpx.AsyncClient, redis: Redis) -> None:
    """Where nothing happened yet, it shows five minutes of nothing."""
    now = await slots_of(redis, {})
    assert (10 * (now - 30), [[0] * 30] * 3) == chart_of((await http.get("/dashboard")).text)


async def test_slots_are_read_once(client: Client, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over is not read again, and what came since is added at the end."""
    shared, asked = Shared(client), list[int]()
    history = Inspector.history

    async def counted(self: Inspector, since: int = 0) -> list[Slot]:
        asked.append(since)
        return [Slot(400_000, {"in": 9})] if since else (await history(self))[-2:]

    monkeypatch.setattr(Inspector, "history", counted)
    first = (await shared.snapshot()).history
    shared.forget()
    second = (await shared.snapshot()).history
    assert [0, first[-1].at + 1] == asked
    assert [*first, Slot(400_000, {"in": 9})] == second


async def test_a_page_reads_everything_once(http: httpx.AsyncClient, redis: Redis) -> None:
    """A look at the overview asks for the workers once, and for the queues once, whoever needs them."""
    before = await redis.info("commandstats")
    await http.get("/dashboard")
    after = await redis.info("commandstats")
    asked = {name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after}
    lists = 2 * len(registry.queues())  # each once its length and once its head, at ten priorities
    assert (1, 10 * lists) == (asked["cmdstat_zrange"], asked["cmdstat_llen"] + asked["cmdstat_lrange"])


async def test_paused_jobs_do_not_drain(client: Client, redis: Redis) -> None:
    """How long the backlog takes is told of what workers may claim."""
    await slots_of(redis, {2: {"default|completed": 60}})
    await client.submit_many([client.spec("draw") for _ in range(30)])
    await client.submit_many([client.spec("send_email") for _ in range(6)])
    await client.pause("images")
    snapshot = await Shared(client).snapshot()
    assert (30, 6.0) == (snapshot.paused, snapshot.seconds_to_drain)


async def test_filters_and_cursor(http: httpx.AsyncClient, client: Client) -> None:
    """A list goes on where it ended until every job that fits was shown once."""
    ids = {handle.job_id for handle in await client.submit_many([client.spec("send_email") for _ in range(120)])}
    await client.submit("draw")
    rows: list[str] = []
    url = "/dashboard/jobs?status=pending&task=send_email&queue=default"
    for _ in range(3):
        page = (await http.get(url)).text
        rows += Links(page).rows
        following = re.search(r'href="([^"]*)">Next page', page)
        if following is None:
            break
        url = urljoin(url, following[1].replace("&amp;", "&"))
    assert len(rows) == 120
    assert {row.removeprefix("j-") for row in rows} == ids
    assert Links((await http.get("/dashboard/jobs?status=failed")).text).rows == []


@pytest.mark.parametrize("query", ["status=nope", "task=%3Cscript%3E", "queue=a b", "after=nonsense"])
async def test_wrong_filters(http: httpx.AsyncClient, query: str) -> None:
    """What no list can mean is answered with a page that says so."""
    page = await http.get(f"/dashboard/jobs?{query}")
    assert page.status_code in (400, 422)
    assert page.headers["content-type"].startswith("text/html")
    assert "<script>" not in page.text.replace("<script src", "")


async def test_text_of_jobs_is_inert(http: httpx.AsyncClient, client: Client, settings: Settings) -> None:
    """Payloads, results and errors are text, whatever they hold."""
    failed = await failed_job(client, settings, f"broken{NASTY}@example.com")
    kept = (await client.submit("keep", {"value": NASTY})).job_id
    await run_all(settings)
    for path in (f"jobs/{failed}", f"jobs/{kept}", "jobs", "jobs?status=failed"):
        page = (await http.get(f"/dashboard/{path}")).text
        assert "<script>" not in page
        assert Links(page).inline == []
    page = (await http.get(f"/dashboard/jobs/{failed}")).text
    assert "ConnectionError" in page
    assert "Traceback (most recent call last)" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "Past attempts" in page


async def test_big_numbers_stay(http: httpx.AsyncClient, client: Client, settings: Settings) -> None:
    """What no double can hold is shown as it is stored."""
    job_id = (await client.submit("keep", {"value": 123456789012345678901234567890})).job_id
    await client.submit("send_email", job_id=ABSENT)
    await run_all(settings)
    page = (await http.get(f"/dashboard/jobs/{job_id}")).text
    assert page.count("123456789012345678901234567890") == 2
    assert "9007199254740993" in (await http.get(f"/dashboard/jobs/{ABSENT}")).text


async def test_large_results_are_files(http: httpx.AsyncClient, client: Client, settings: Settings) -> None:
    """More than 64 KiB is not put into the page, and can be saved."""
    handle = await client.submit("keep", {"value": "x" * 40_000})
    await run_all(settings)
    store: Any = client._store
    await store._client.set(f"job:{handle.job_id}:result", json.dumps("y" * 70_000))
    page = (await http.get(f"/dashboard/jobs/{handle.job_id}")).text
    assert "yyy" not in page
    assert f'href="{handle.job_id}/result"' in page
    file = await http.get(f"/dashboard/jobs/{handle.job_id}/result")
    assert file.json() == "y" * 70_000
    assert file.headers["content-disposition"].startswith("attachment")


async def test_retry_cancel_delete(http: httpx.AsyncClient, client: Client, settings: Settings) -> None:
    """The buttons of a job do what they say, lead back to a page, and say why when they cannot."""
    job_id = await failed_job(client, settings)
    url = f"/dashboard/jobs/{job_id}"
    retried = await http.post(f"{url}/retry", follow_redirects=True)
    assert retried.url.path == url
    assert (await client.get(job_id)).status is Status.PENDING
    refused = await http.post(f"{url}/retry")
    assert (refused.status_code, "is pending and cannot be retried" in refused.text) == (409, True)
    await http.post(f"{url}/cancel", data={"reason": NASTY})
    job = await client.get(job_id)
    assert job.status is Status.CANCELLED
    assert NASTY in (job.error_text or "").encode().decode("unicode_escape")
    deleted = await http.post(f"{url}/delete", follow_redirects=True)
    assert deleted.url.path == "/dashboard/jobs"
    assert "The job was deleted" in deleted.text
    with pytest.raises(JobNotFound):
        await client.get(job_id)
    assert (await http.get(url)).status_code == 404


async def test_a_running_job(http: httpx.AsyncClient, client: Client, settings: Settings) -> None:
    """Progress, log, and the worker that runs it are shown; a cancel is asked of it."""
    from jobq.worker import Worker

    job_id = (await client.submit("draw")).job_id
    worker = Worker(settings, registry)
    running = asyncio.create_task(worker.run())
    try:
        for _ in range(100):
            page = (await http.get(f"/dashboard/jobs/{job_id}")).text
            if "<progress" in page and "almost" in page:
                break
            await asyncio.sleep(0.05)
        assert '<progress value="0.4"' in page
        assert "<script>" not in page
        workers = (await http.get("/dashboard/workers")).text
        assert f'href="jobs/{job_id}"' in workers
        assert (await http.post(f"/dashboard/workers/{worker.id}/quiet")).status_code == 303
        assert (await http.post(f"/dashboard/workers/{worker.id}/resume")).status_code == 303
        asked = await http.post(f"/dashboard/jobs/{job_id}/cancel")
        assert asked.headers["location"].endswith("?said=asked")
        for _ in range(100):
            if (await client.get(job_id)).status is Status.CANCELLED:
                break
            await asyncio.sleep(0.05)
        assert (await client.get(job_id)).status is Status.CANCELLED
        assert (await http.post(f"/dashboard/workers/{worker.id}/stop")).status_code == 303
        await asyncio.wait_for(running, 10)
    finally:
        worker.stop()
        await running
    assert (await http.post(f"/dashboard/workers/{ABSENT}/stop")).status_code == 404


async def test_pause_and_purge(http: httpx.AsyncClient, client: Client) -> None:
    """A queue is purged only by whoever types its name."""
    await client.submit("draw")
    await http.post("/dashboard/queues/images/pause")
    assert "Resume" in (await http.get("/dashboard/queues")).text
    await http.post("/dashboard/queues/images/resume")
    assert "Resume" not in (await http.get("/dashboard/queues")).text
    for confirm in ({}, {"confirm": ""}, {"confirm": "image"}, {"confirm": "x" * 20_000}):
        assert (await http.post("/dashboard/queues/images/purge", data=confirm)).status_code == 422
    assert (await http.post("/dashboard/queues/images/purge", data={"confirm": "images"})).status_code == 303
    assert Links((await http.get("/dashboard/jobs?queue=images")).text).rows == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Origin": "http://service"}, 303),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://service"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
    ],
)
async def test_posts_from_elsewhere(app: FastAPI, client: Client, headers: dict[str, str], status: int) -> None:
    """Only a page of the dashboard itself can change anything."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http:
        answer = await http.post("/dashboard/queues/images/pause", headers=headers)
        assert answer.status_code == status
        [queue] = [view for view in await client.inspect.queues(["images"]) if view.name == "images"]
        assert queue.paused is (status == 303)


def below_prefix(client: Client) -> ASGIApp:
    outer = FastAPI()
    outer.mount("/ops/queue", make_app(client))
    return outer


def behind_proxy(client: Client) -> ASGIApp:
    """A proxy takes the prefix away and does not tell."""
    app = make_app(client)

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["path"].startswith("/ops/queue/"), f"left the prefix: {scope['path']}"
        await app({**scope, "path": scope["path"].removeprefix("/ops/queue")}, receive, send)

    return proxy


@pytest.mark.parametrize("place", [below_prefix, behind_proxy])
async def test_below_a_prefix(client: Client, settings: Settings, place: Any) -> None:
    """Every link of every page, followed as a browser would, leads to a page or file below the prefix."""
    await failed_job(client, settings)
    seen, waiting = set[str](), ["/ops/queue/dashboard", "/ops/queue/dashboard/"]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(place(client)), base_url="http://service") as http:
        while waiting:
            url = waiting.pop()
            page = await http.get(url)
            assert page.status_code == 200, url
            seen.add(url)
            if page.headers["content-type"].startswith("text/html"):
                links = {urljoin(url, link).partition("#")[0] for link in Links(page.text).urls}
                assert all(link.startswith("/ops/queue/dashboard") for link in links), links
                waiting += sorted(links - seen - set(waiting))
        moved = await http.post("/ops/queue/dashboard/queues/images/pause", headers={"Origin": "http://service"})
        assert urljoin("/ops/queue/dashboard/queues/images/pause", moved.headers["location"]).startswith(
            "/ops/queue/dashboard/queues?"
        )
    assert any("/jobs/" in url for url in seen)
    assert any("static/htmx" in url for url in seen)


class TestWithKey:
    """With JOBQ_API_KEY set."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"api_key": SecretStr(KEY)})

    async def test_sign_in(self, http: httpx.AsyncClient) -> None:
        """Every page asks for the key, once; then leads where one wanted to go."""
        for path in PATHS:
            assert (await http.get(path)).status_code == 401
        asked = await http.get("/dashboard/jobs?status=failed")
        assert 'name="next" value="jobs?status=failed"' in asked.text
        assert (await http.post("/dashboard/queues/images/pause")).status_code == 401
        wrong = await http.post("/dashboard/login", data={"key": "wrong"})
        assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
        right = await http.post("/dashboard/login", data={"key": KEY, "next": "jobs?status=failed"})
        assert right.headers["location"] == "./jobs?status=failed"
        cookie = right.headers["set-cookie"].lower()
        assert all(word in cookie for word in ("httponly", "samesite=strict", "max-age=43200"))
        assert "path=" not in cookie  # so it is the dashboard's, below any prefix
        assert KEY not in cookie
        for path in PATHS:
            assert (await http.get(path)).status_code == 200
        await http.post("/dashboard/logout")
        assert (await http.get("/dashboard")).status_code == 401

    @pytest.mark.parametrize("following", ["//evil.example", "https://evil.example", "/\\evil", "\r\nX: y"])
    async def test_leads_nowhere_else(self, http: httpx.AsyncClient, following: str) -> None:
        """The login leads to the dashboard, whatever it is told."""
        answer = await http.post("/dashboard/login", data={"key": KEY, "next": following})
        there = urlsplit(urljoin("http://service/dashboard/login", answer.headers["location"]))
        assert (there.netloc, "x" in answer.headers) == ("service", False)

    async def test_forged_and_old_sessions(self, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
        """A cookie counts only when this key signed it, less than twelve hours ago."""
        http.cookies.set(guard.COOKIE, "in.aaaaaa.bbbbbbbbbbbb")
        assert (await http.get("/dashboard")).status_code == 401
        http.cookies.set(guard.COOKIE, guard._signer("another key, as long").sign("in").decode())
        assert (await http.get("/dashboard")).status_code == 401
        http.cookies.set(guard.COOKIE, guard._signer(KEY).sign("in").decode())
        assert (await http.get("/dashboard")).status_code == 200
        monkeypatch.setattr(guard, "SESSION", -1)
        assert (await http.get("/dashboard")).status_code == 401


async def test_many_viewers_read_once(http: httpx.AsyncClient, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty viewers at once cost one snapshot, and no viewer costs nothing."""
    reads = 0
    overview = Inspector.overview

    async def counted(self: Inspector, queues: Any) -> Any:
        nonlocal reads
        reads += 1
        return await overview(self, queues)

    monkeypatch.setattr(Inspector, "overview", counted)
    await asyncio.gather(*(http.get("/dashboard") for _ in range(50)))
    assert reads == 1
    await asyncio.sleep(1.2)
    assert reads == 1
    await http.get("/dashboard/queues")
    assert reads == 2


async def test_what_others_wrote(http: httpx.AsyncClient, redis: Redis) -> None:
    """Records and workers that somebody else made up break no page."""
    await redis.set(f"job:{ABSENT}", '{"task": "<b>x</b>", "created_at": 1e300, "error": [1], "payload": {"a": [NaN]}}')
    await redis.rpush("job_queue", ABSENT, "nonsense")
    for path in (*PATHS, f"/dashboard/jobs/{ABSENT}"):
        page = await http.get(path)
        assert page.status_code in (200, 409), path
        assert "<b>x</b>" not in page.text


async def test_unknown_jobs_and_addresses(http: httpx.AsyncClient) -> None:
    """What does not exist is answered with a page."""
    for path, status in ((f"jobs/{ABSENT}", 404), ("jobs/nonsense", 422), (f"jobs/{ABSENT}/result", 404)):
        page = await http.get(f"/dashboard/{path}")
        assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")


async def test_a_server_that_is_away(own_valkey: Valkey) -> None:
    """Without Redis every page says so, and none breaks."""
    async with Client(settings=Settings(redis_url=own_valkey.url), registry=registry) as client:
        own_valkey.kill()
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(make_app(client)), base_url="http://service"
        ) as http:
            for path in (*PATHS, f"/dashboard/jobs/{ABSENT}"):
                page = await http.get(path)
                assert (page.status_code, "The job store is unavailable" in page.text) == (503, True)


async def test_files(http: httpx.AsyncClient) -> None:
    """What others made is what the manifest says; all are cached for ever by their hash; nothing else is served."""
    manifest = json.loads((files.STATIC / "MANIFEST.json").read_bytes())
    ours = {"MANIFEST.json", "dashboard.css", "dashboard.js", "icon.svg"}
    assert {path.name for path in files.STATIC.iterdir()} == ours | set(manifest)
    for name, entry in manifest.items():
        assert hashlib.sha256((files.STATIC / name).read_bytes()).hexdigest() == entry["sha256"]
        assert all(entry[key] for key in ("package", "version", "licence"))
    for name in ("htmx.min.js", "dashboard.css"):
        hashed = await http.get(f"/dashboard/{files.static_url(name)}")
        assert (hashed.status_code, "immutable" in hashed.headers["cache-control"]) == (200, True)
        assert (await http.get(f"/dashboard/static/{name}?v=0")).headers["cache-control"] == "no-cache"
    for name in ("MANIFEST.json", "..%2ffiles.py", "absent.js"):
        assert (await http.get(f"/dashboard/static/{name}")).status_code == 404


def test_stylesheet_is_small() -> None:
    """Our own stylesheet has up to 13 KB."""
    assert (files.STATIC / "dashboard.css").stat().st_size <= 13 * 1024


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "250 ms"), (1, "1 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_age(seconds: float, text: str) -> None:
    """A number and a unit, never two."""
    assert age(seconds) == text


def test_rates() -> None:
    """Small rates keep a digit that says something."""
    assert [rate(n) for n in (0, 0.0166, 0.5, 3.14159, 1234.5)] == ["0", "0.017", "0.5", "3.1", "1,234"]


def test_steps() -> None:
    """Each event of a timeline has the time since the one before, and a word that is not misread."""
    at = "2026-01-02T03:04:{}Z".format
    events = [
        Event(event="created", at=at("05.000")),
        Event(event="retry", at=at("05.250")),
        Event(event="scheduled", at=at("15.007")),
    ]
    assert [
        ("created", "2026-01-02 03:04:05.000 UTC", ""),
        ("failed, to be tried again", "2026-01-02 03:04:05.250 UTC", "+250 ms"),
        ("due", "2026-01-02 03:04:15.007 UTC", "+9.8 s"),
    ] == [(step.word, step.at, step.since) for step in steps(events)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b'{"a":[],"b":{"c":[1,2]}}', '{\n  "a": [],\n  "b": {\n    "c": [\n      1,\n      2\n    ]\n  }\n}'),
        (b"{}", "{}"),
        (b'"a, {b}"', '"a, {b}"'),
        (b"1e400", "1e400"),
        (b'{"a":NaN}', '{"a":NaN}'),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_pretty(text: bytes, shown: str) -> None:
    """JSON gets its line breaks and keeps its numbers; anything else stays as it is."""
    assert pretty(text) == shown
