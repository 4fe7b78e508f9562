"""Lists of jobs and of what they logged, page by page; deleting."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from fakeredis import FakeAsyncRedis

from jobq.job import JobError
from jobq.policy import Completed, Failed
from jobq.store import pages
from jobq.store.store import Store
from tests.http.support import Hand

BROKEN = Failed(JobError("OSError", "no", "error", "Traceback …"), OSError("no"))
OWN = "11111111-2222-4333-8444-555555555555"


async def submit(http: httpx.AsyncClient, **job: Any) -> str:
    job_id: str = (await http.post("/v1/jobs", json={"task": "keep", **job})).json()["job_id"]
    return job_id


async def listed(http: httpx.AsyncClient, query: str = "") -> list[str]:
    return [job["job_id"] for job in (await http.get(f"/v1/jobs{query}")).json()["jobs"]]


async def test_summaries(http: httpx.AsyncClient, hand: Hand) -> None:
    """A list shows of each job what a read shows, without what may be large."""
    job_id = await submit(http, max_retries=0)
    await hand.run(BROKEN)
    page = (await http.get("/v1/jobs")).json()
    whole = (await http.get(f"/v1/jobs/{job_id}")).json()
    assert whole["error"].pop("traceback") == "Traceback …"
    for member in ("payload", "result", "timeline", "progress", "cancel_requested"):
        del whole[member]
    assert page == {"jobs": [whole], "next_cursor": None, "capped": False}


async def test_filters(http: httpx.AsyncClient, hand: Hand) -> None:
    """Each filter narrows the list, and together they narrow it further."""
    done = await submit(http)
    await hand.run(Completed(b"1"))
    waiting = await submit(http)
    numbers = await submit(http, task="add", payload={"left": 1, "right": 2})
    assert sorted(await listed(http)) == sorted([done, waiting, numbers])
    assert await listed(http, "?status=completed") == [done]
    assert await listed(http, "?status=pending&task=keep") == [waiting]
    assert await listed(http, "?queue=numbers") == [numbers]
    assert await listed(http, "?task=add&queue=default") == []
    assert await listed(http, "?created_after=2100-01-01T00:00:00Z") == []
    assert len(await listed(http, "?created_before=2100-01-01T00:00:00%2B01:00")) == 3


async def test_pages(http: httpx.AsyncClient) -> None:
    """Following `Link` gives each job once; the last page has none."""
    made = [await submit(http) for _ in range(7)]
    path, found, pages = "/v1/jobs?limit=3&status=pending", [], 0
    while path:
        answer = await http.get(path)
        found += [job["job_id"] for job in answer.json()["jobs"]]
        pages += 1
        link = answer.headers.get("link", "")
        assert bool(link) == bool(answer.json()["next_cursor"])
        assert not link or (answer.json()["next_cursor"] in link and 'rel="next"' in link and "limit=3" in link)
        path = link[1 : link.index(">")] if link else ""
    assert (sorted(found), pages) == (sorted(made), 3)


async def test_page_that_looked_long_enough(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that finds little ends the page early, says so, and can be followed."""
    monkeypatch.setattr(pages, "MOST_LOOKED_AT", 4)
    monkeypatch.setattr(pages, "BATCH", 2)
    for _ in range(5):
        await submit(http)
    wanted = await submit(http, task="send_email")
    first = (await http.get("/v1/jobs?task=send_email&status=pending")).json()
    assert (first["jobs"], first["capped"]) == ([], True)
    second = (await http.get(f"/v1/jobs?task=send_email&status=pending&cursor={first['next_cursor']}")).json()
    assert ([job["job_id"] for job in second["jobs"]], second["capped"]) == ([wanted], False)


def forged(cursor: str, change: Any) -> str:
    digest, place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    return base64.urlsafe_b64encode(json.dumps(change(digest, place)).encode()).decode().rstrip("=")


async def test_bad_cursors(http: httpx.AsyncClient) -> None:
    """A cursor that is made up, cut, changed or of another list is 400."""
    for _ in range(3):
        await submit(http)
    cursor = (await http.get("/v1/jobs?limit=1")).json()["next_cursor"]
    assert (await http.get(f"/v1/jobs?limit=2&cursor={cursor}")).status_code == 200
    bad = [
        "x", "!", "\u00e4", "x" * 5_000, cursor[:-4], cursor[4:], "bnVsbA", "W10",
        forged(cursor, lambda digest, place: [digest, [*place[:1], 7, *place[2:]]]),
        forged(cursor, lambda digest, place: ["0" * 16, place]),
        forged(cursor, lambda digest, place: [digest, None]),
        forged(cursor, lambda digest, place: {"a": digest}),
    ]  # fmt: skip
    for text in bad:
        answer = await http.get("/v1/jobs", params={"limit": "1", "cursor": text})
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-cursor"), text
    other = await http.get(f"/v1/jobs?limit=1&status=pending&cursor={cursor}")
    assert other.status_code == 400
    assert (await http.get(f"/v1/jobs/{await submit(http)}/logs?cursor={cursor}")).status_code == 400


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=-1", "limit=1001", "limit=abc", "limit=1e9", "limit=5&limit=6", "status=done", "status=",
        "task=A", "queue=a%20b", "created_after=2030-01-01", "created_after=1900000000", "sort=task",
        "cursor=x&cursor=x",
    ],
)  # fmt: skip
async def test_queries_that_cannot_be(http: httpx.AsyncClient, query: str) -> None:
    """A filter that cannot be meant is 422, with the place where it is wrong."""
    answer = await http.get(f"/v1/jobs?{query}")
    assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, ["query", query.partition("=")[0]])


async def test_delete(http: httpx.AsyncClient, hand: Hand, redis: FakeAsyncRedis) -> None:
    """A job is erased with all that was kept of it, also a second time; one that runs is not."""
    job_id = await submit(http, payload={"value": 1})
    job, claim = await hand.claim()
    running = await http.delete(f"/v1/jobs/{job_id}")
    assert (running.status_code, running.json()["job_status"]) == (409, "processing")
    await hand.settle(job, claim, Completed(b"1"))
    assert [(await http.delete(f"/v1/jobs/{job_id}")).status_code for _ in range(2)] == [204, 204]
    assert (await http.get(f"/v1/jobs/{job_id}")).status_code == 404
    assert await redis.keys(f"job:{job_id}*") == []
    assert (await http.delete(f"/v1/jobs/{OWN}")).status_code == 404


async def logged(http: httpx.AsyncClient, store: Store, hand: Hand, lines: list[str]) -> str:
    job_id = await submit(http)
    _, claim = await hand.claim()
    await store.emit(job_id, claim.token, 1, [(n, "log", line) for n, line in enumerate(lines, start=1)])
    await store.emit(job_id, claim.token, 1, [(len(lines) + 1, "progress", '{"fraction":1}')])
    return job_id


async def test_logs(http: httpx.AsyncClient, store: Store, hand: Hand) -> None:
    """The lines of a job, oldest first, from a level on."""
    said = [{"level": level, "message": f"it is {level}", "logger": "mail"} for level in ("debug", "info", "error")]
    job_id = await logged(http, store, hand, [json.dumps(line) for line in said])
    lines = (await http.get(f"/v1/jobs/{job_id}/logs")).json()["lines"]
    assert [{k: line[k] for k in ("level", "message", "logger")} for line in lines] == said
    assert {line["attempt"] for line in lines} == {1}
    assert lines[0]["at"].endswith("Z")
    loud = (await http.get(f"/v1/jobs/{job_id}/logs?level=warning")).json()
    assert ([line["level"] for line in loud["lines"]], loud["next_cursor"]) == (["error"], None)


async def test_logs_page_by_page(
    http: httpx.AsyncClient, store: Store, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Following `Link` gives each line once, whatever is read at once."""
    monkeypatch.setattr("jobq.http.logs.AT_ONCE", 2)
    job_id = await logged(http, store, hand, [json.dumps({"level": "info", "message": str(n)}) for n in range(7)])
    path, found = f"/v1/jobs/{job_id}/logs?limit=3", []
    while path:
        answer = await http.get(path)
        found.append([line["message"] for line in answer.json()["lines"]])
        link = answer.headers.get("link", "")
        path = link[1 : link.index(">")] if link else ""
    assert found == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


async def test_logs_of_any_kind(http: httpx.AsyncClient, store: Store, hand: Hand) -> None:
    """Whatever a worker emitted as a line is shown somehow."""
    job_id = await logged(
        http, store, hand, ["plain words", '["a"]', '{"level":5}', "[" * 50_000, '{"message":"\\ud800"}']
    )
    lines = (await http.get(f"/v1/jobs/{job_id}/logs")).json()["lines"]
    assert [line["message"][:11] for line in lines] == ["plain words", "['a']", "", "[" * 11, "\\ud800"]
    assert [line["level"] for line in lines] == ["info", "info", "5", "info", "info"]


async def test_logs_of_no_job(http: httpx.AsyncClient) -> None:
    """A job nobody has is 404; one that logged nothing has no lines."""
    assert (await http.get(f"/v1/jobs/{OWN}/logs")).status_code == 404
    assert (await http.get(f"/v1/jobs/{await submit(http)}/logs")).json() == {"lines": [], "next_cursor": None}
