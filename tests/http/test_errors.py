"""Bad input is the client's error: a problem that says what is wrong, and repeats nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fakeredis import FakeAsyncRedis
from fastapi import FastAPI, HTTPException

from jobq import Client
from jobq.errors import ConfigError, JobqError
from tests.http.support import registry

JSON = {"Content-Type": "application/json"}
OWN = "11111111-2222-4333-8444-555555555555"
BODIES = ["/submit-job", "/v1/jobs", f"/v1/jobs/{OWN}/cancel", "/v1/queues/default/purge"]
SUBMITS = BODIES[:2]
MARK = "pssst"
"""Stands where a secret might; no answer may hold it."""
MEMBERS = {"type", "title", "status", "detail", "instance", "request_id"}


def assert_problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """An answer is a whole problem of this kind, and says nothing that was said to it."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem: dict[str, Any] = answer.json()
    assert MEMBERS <= problem.keys() <= MEMBERS | {"errors", "job_status", "error"}
    assert (problem["type"], problem["status"]) == (f"/problems/{slug}", status)
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert (answer.headers["cache-control"], answer.headers["x-content-type-options"]) == ("no-store", "nosniff")
    assert MARK not in answer.text
    return problem


NOT_JSON = {
    "words": b"pssst",
    "truncated": b'{"task":"keep","payload":{"value":"pssst"',
    "garbage after it": b'{"task":"keep"} pssst',
    "single quotes": b"{'task':'keep'}",
    "byte order mark": b'\xef\xbb\xbf{"task":"keep"}',
    "UTF-16": '{"task":"keep"}'.encode("utf-16"),
    "not UTF-8": b'{"task":"keep","payload":{"value":"pssst\xff"}}',
    "NUL": b'{"task":"keep"}\x00',
    "control character": b'{"task":"keep","payload":{"value":"a\nb"}}',
    "lone surrogate": b'{"task":"keep","payload":{"value":"pssst\\ud800"}}',
    "lone surrogate as name": b'{"task":"keep","payload":{"\\uDFFFpssst":1}}',
    "NaN": b'{"task":"keep","payload":{"value":NaN}}',
    "Infinity": b'{"task":"keep","delay":Infinity}',
    "-Infinity": b'{"task":"keep","payload":{"value":[-Infinity]}}',
    "1e999": b'{"task":"keep","payload":{"value":1e999}}',
    "-1e999": b'{"task":"keep","delay":-1e999}',
    "5,000 digits": b'{"task":"keep","payload":{"value":' + b"9" * 5_000 + b"}}",
    "33 deep": b'{"task":"keep","payload":{"value":' + b"[" * 31 + b"]" * 31 + b"}}",
    "60,000 deep": b"[" * 60_000 + b"]" * 60_000,
    "60,000 deep, not closed": b'{"a":' * 20_000,
    "same member twice": b'{"task":"keep","task":"pssst"}',
    "same member twice, deep": b'{"task":"keep","payload":{"value":[{"a":1,"\\u0061":"pssst"}]}}',
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
async def test_body_that_is_not_json(http: httpx.AsyncClient, path: str, body: bytes) -> None:
    """What is not JSON, or not JSON that means one thing only, is 400."""
    assert_problem(await http.post(path, content=body, headers=JSON), 400, "not-json")


async def test_deepest_body(http: httpx.AsyncClient) -> None:
    """32 levels are fine."""
    body = b'{"task":"keep","payload":{"value":' + b"[" * 30 + b"]" * 30 + b"}}"
    assert (await http.post("/submit-job", content=body, headers=JSON)).status_code == 200


@pytest.mark.parametrize("path", SUBMITS)
@pytest.mark.parametrize("headers", [{}, JSON])
async def test_body_missing(http: httpx.AsyncClient, path: str, headers: dict[str, str]) -> None:
    """No body at all is 400, and says what to send."""
    problem = assert_problem(await http.post(path, headers=headers), 400, "not-json")
    assert f"curl -X POST http://service{path} -H 'Content-Type: application/json' -d" in problem["detail"]


MEDIA_TYPES: dict[str, dict[str, str]] = {
    "none": {},
    "curl -d": {"Content-Type": "application/x-www-form-urlencoded"},
    "text": {"Content-Type": "text/plain"},
    "multipart": {"Content-Type": "multipart/form-data; boundary=x"},
    "other JSON": {"Content-Type": "application/vnd.api+json"},
    "UTF-16": {"Content-Type": "application/json; charset=utf-16"},
    "pssst": {"Content-Type": "pssst"},
    "two": {"Content-Type": "application/json, application/json"},
    "gzip": {**JSON, "Content-Encoding": "gzip"},
    "br": {**JSON, "Content-Encoding": "br"},
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("headers", MEDIA_TYPES.values(), ids=MEDIA_TYPES.keys())
async def test_wrong_media_type(http: httpx.AsyncClient, path: str, headers: dict[str, str]) -> None:
    """Anything but plain JSON is 415, whatever the body reads like."""
    assert_problem(await http.post(path, content=b'{"task":"keep"}', headers=headers), 415, "unsupported-media-type")


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON", "application/json; charset=UTF-8"])
async def test_right_media_type(http: httpx.AsyncClient, kind: str) -> None:
    """JSON may be spelt as RFC 9110 allows."""
    answer = await http.post("/submit-job", content=b'{"task":"keep"}', headers={"Content-Type": kind})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("path", "host", "line"),
    [
        ("/submit-job", "127.0.0.1:8000", "http://127.0.0.1:8000/submit-job"),
        ("/v1/jobs", "jobs.example.com", "http://jobs.example.com/v1/jobs"),
        ("/v1/jobs", "[::1]:80", "http://[::1]:80/v1/jobs"),
        ("/submit-job", "a.b'; rm -rf ~", "http://127.0.0.1:8000/submit-job"),
    ],
)
async def test_curl_line_works(http: httpx.AsyncClient, path: str, host: str, line: str) -> None:
    """`curl -d` alone gets the line that would have worked, on the host it asked if that has a plain name."""
    answer = await http.post(path, data={"task": "send_email"}, headers={"Host": host})
    detail = assert_problem(answer, 415, "unsupported-media-type")["detail"]
    expected = f"curl -X POST {line} -H 'Content-Type: application/json' -d '{{\"task\": \"send_email\"}}'"
    assert detail.endswith(expected)
    body = detail.rpartition("-d ")[2].strip("'")
    assert (await http.post(path, content=body, headers=JSON)).status_code < 300


async def test_curl_line_of_cancel(http: httpx.AsyncClient) -> None:
    """Another route, another body; and an id that cannot be is not repeated."""
    detail = (await http.post(f"/v1/jobs/{MARK}/cancel", content=b"x")).json()["detail"]
    assert detail.endswith(
        "curl -X POST http://service/v1/jobs/:job_id/cancel -H 'Content-Type: application/json'"
        ' -d \'{"reason": "no longer needed"}\''
    )


MISFITS: dict[str, tuple[Any, list[str | int]]] = {
    "array": ([MARK], ["body"]),
    "string": (MARK, ["body"]),
    "number": (1, ["body"]),
    "null": (None, ["body"]),
    "no task": ({}, ["body", "task"]),
    "null task": ({"task": None}, ["body", "task"]),
    "number for task": ({"task": 1}, ["body", "task"]),
    "empty task": ({"task": ""}, ["body", "task"]),
    "long task": ({"task": "a" * 65}, ["body", "task"]),
    "colon in task": ({"task": "pssst:x"}, ["body", "task"]),
    "line in task": ({"task": "pssst\n"}, ["body", "task"]),
    "NUL in task": ({"task": "pssst\0"}, ["body", "task"]),
    "braces in task": ({"task": "{pssst}"}, ["body", "task"]),
    "right to left in task": ({"task": "pssst\u202e"}, ["body", "task"]),
    "unknown member": ({"task": "keep", "whatever": MARK}, ["body", "whatever"]),
    "made-up member": ({"task": "keep", f"{MARK} {MARK}": 1}, ["body", "?"]),
    **{
        f"{member}, which is not built": ({"task": "keep", member: MARK}, ["body", member])
        for member in ("unique_key", "unique_for", "unique", "tags", "group", "depends_on", "callback_url", "deadline")
    },
    "array for payload": ({"task": "keep", "payload": [MARK]}, ["body", "payload"]),
    "string for payload": ({"task": "keep", "payload": MARK}, ["body", "payload"]),
    "id not a UUID": ({"task": "keep", "job_id": MARK}, ["body", "job_id"]),
    "id in upper case": ({"task": "keep", "job_id": "A" + OWN[1:]}, ["body", "job_id"]),
    "id in braces": ({"task": "keep", "job_id": f"{{{OWN}}}"}, ["body", "job_id"]),
    "queue that cannot be": ({"task": "keep", "queue": "pssst:0"}, ["body", "queue"]),
    "priority 10": ({"task": "keep", "priority": 10}, ["body", "priority"]),
    "priority -1": ({"task": "keep", "priority": -1}, ["body", "priority"]),
    "priority 1.0": ({"task": "keep", "priority": 1.0}, ["body", "priority"]),
    "priority true": ({"task": "keep", "priority": True}, ["body", "priority"]),
    "priority text": ({"task": "keep", "priority": "5"}, ["body", "priority"]),
    "priority huge": ({"task": "keep", "priority": 2**53}, ["body", "priority"]),
    "delay negative": ({"task": "keep", "delay": -1}, ["body", "delay"]),
    "delay true": ({"task": "keep", "delay": True}, ["body", "delay"]),
    "delay text": ({"task": "keep", "delay": "5"}, ["body", "delay"]),
    "delay 20 years": ({"task": "keep", "delay": 20 * 366 * 86_400}, ["body", "delay"]),
    "delay huge": ({"task": "keep", "delay": 10**400}, ["body", "delay"]),
    "max_retries 1.5": ({"task": "keep", "max_retries": 1.5}, ["body", "max_retries"]),
    "max_retries huge": ({"task": "keep", "max_retries": 10**400}, ["body", "max_retries"]),
    "max_retries -1": ({"task": "keep", "max_retries": -1}, ["body", "max_retries"]),
    "backoff 601": ({"task": "keep", "backoff": 601}, ["body", "backoff"]),
    "timeout 0": ({"task": "keep", "timeout": 0}, ["body", "timeout"]),
    "expires_in 0": ({"task": "keep", "expires_in": 0}, ["body", "expires_in"]),
    "run_at without zone": ({"task": "keep", "run_at": "2030-01-01T00:00:00"}, ["body", "run_at"]),
    "run_at a date": ({"task": "keep", "run_at": "2030-01-01"}, ["body", "run_at"]),
    "run_at a number": ({"task": "keep", "run_at": 1_900_000_000}, ["body", "run_at"]),
    "run_at a number as text": ({"task": "keep", "run_at": "1900000000"}, ["body", "run_at"]),
    "run_at a leap second": ({"task": "keep", "run_at": "2030-06-30T23:59:60Z"}, ["body", "run_at"]),
    "run_at the 31st of February": ({"task": "keep", "run_at": "2030-02-31T00:00:00Z"}, ["body", "run_at"]),
    "run_at with its zone far off": ({"task": "keep", "run_at": "2030-01-01T00:00:00+99:00"}, ["body", "run_at"]),
    "run_at words": ({"task": "keep", "run_at": MARK}, ["body", "run_at"]),
}


@pytest.mark.parametrize("path", SUBMITS)
@pytest.mark.parametrize(("body", "location"), MISFITS.values(), ids=MISFITS.keys())
async def test_body_of_the_wrong_shape(
    http: httpx.AsyncClient, redis: FakeAsyncRedis, path: str, body: Any, location: list[str | int]
) -> None:
    """JSON that is not a submit is 422 with the place where it is wrong; nothing is stored."""
    problem = assert_problem(await http.post(path, content=json.dumps(body), headers=JSON), 422, "invalid")
    assert [error["loc"] for error in problem["errors"]] == [location]
    assert await redis.keys() == []


@pytest.mark.parametrize(
    "options",
    [
        {"run_at": "2001-01-01T00:00:00Z"},
        {"run_at": "9999-12-31T23:59:59Z"},
        {"run_at": "2030-01-01T00:00:00Z", "delay": 1},
    ],
)
async def test_options_that_cannot_be_carried_out(
    http: httpx.AsyncClient, redis: FakeAsyncRedis, options: dict[str, Any]
) -> None:
    """Times long past or far ahead, and two of them, are 422."""
    assert_problem(await http.post("/submit-job", json={"task": "keep", **options}), 422, "invalid")
    assert await redis.keys() == []


@pytest.mark.parametrize("path", SUBMITS)
async def test_unknown_task(http: httpx.AsyncClient, redis: FakeAsyncRedis, path: str) -> None:
    """A task the service does not have is 422 with those it has, and is not repeated."""
    problem = assert_problem(await http.post(path, json={"task": f"{MARK}_{MARK}"}), 422, "unknown-task")
    assert all(name in problem["detail"] for name in registry.names())
    assert await redis.keys() == []


async def test_unknown_task_may_be_accepted(http: httpx.AsyncClient, client: Client) -> None:
    """With JOBQ_UNKNOWN_TASKS=accept any legal name is stored for whoever knows it."""
    client.settings = client.settings.model_copy(update={"unknown_tasks": "accept"})
    answer = await http.post("/v1/jobs", json={"task": "elsewhere", "payload": {"a": [1]}})
    assert (answer.status_code, answer.json()["task"], answer.json()["payload"]) == (202, "elsewhere", {"a": [1]})


async def test_payload_that_does_not_fit(http: httpx.AsyncClient, redis: FakeAsyncRedis) -> None:
    """Arguments are checked against the task's signature before anything is stored."""
    body = {"task": "add", "payload": {"left": MARK, "extra": MARK}}
    problem = assert_problem(await http.post("/submit-job", json=body), 422, "invalid-payload")
    locations = [error["loc"] for error in problem["errors"]]
    assert locations == [["body", "payload", name] for name in ("left", "right", "extra")]
    assert await redis.keys() == []


async def test_payload_with_made_up_members(http: httpx.AsyncClient) -> None:
    """The name of a member is the client's, too."""
    body = {"task": "add", "payload": {"left": 1, "right": 2, f"{MARK} \x1b": 1}}
    problem = assert_problem(await http.post("/submit-job", json=body), 422, "invalid-payload")
    assert problem["detail"] == "body.payload.?: Extra inputs are not permitted"


async def test_payload_of_another_kind(http: httpx.AsyncClient) -> None:
    """Pydantic would quote the tag of a union that it does not know."""
    body = {"task": "draw", "payload": {"shape": {"kind": MARK}}}
    problem = assert_problem(await http.post("/submit-job", json=body), 422, "invalid-payload")
    assert problem["errors"] == [{"loc": ["body", "payload", "shape"], "msg": "Input tag is none of the expected tags"}]


async def test_payload_too_large(http: httpx.AsyncClient) -> None:
    """A payload over its limit in a body under the cap is 413."""
    body = {"task": "keep", "payload": {"value": "x" * 65_536}}
    assert_problem(await http.post("/submit-job", json=body), 413, "payload-too-large")


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 1024):
        yield b" " * 1024


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("chunked", [False, True])
async def test_body_too_large(http: httpx.AsyncClient, path: str, chunked: bool) -> None:
    """A body over the cap is 413, whether its length was announced or not, and the connection is closed."""
    size = 128 * 1024 + 1024
    answer = await http.post(path, content=chunks(size) if chunked else b" " * size, headers=JSON)
    assert_problem(answer, 413, "body-too-large")
    assert answer.headers["connection"] == "close"


async def test_announced_length_is_believed(http: httpx.AsyncClient) -> None:
    """Too large a Content-Length is refused without reading the body."""

    async def never() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    answer = await http.post("/submit-job", content=never(), headers={**JSON, "Content-Length": "9" * 5_000})
    assert_problem(answer, 413, "body-too-large")


@pytest.mark.parametrize("body", [{"reason": 1}, {"reason": "x" * 501}, {"because": MARK}, [], ""])
async def test_cancel_with_a_wrong_body(http: httpx.AsyncClient, body: Any) -> None:
    """The optional body of a cancel is checked when there is one."""
    assert_problem(await http.post(f"/v1/jobs/{OWN}/cancel", json=body), 422, "invalid")


@pytest.mark.parametrize("path", [*SUBMITS, f"/v1/jobs/{OWN}/retry"])
async def test_unknown_query_parameter(http: httpx.AsyncClient, path: str) -> None:
    """A parameter that has no effect is refused and not ignored."""
    problem = assert_problem(await http.post(f"{path}?await=5", json={"task": "keep"}), 422, "invalid")
    assert problem["errors"][0]["loc"] == ["query", "await"]


@pytest.mark.parametrize(
    "path", [f"/{MARK}", "/", "/submit-job/", "/v1/jobs/", f"/v1/jobs/{OWN}/{MARK}", "/v1/limits", f"/problems/{MARK}",
             f"/job-status/..%2f{MARK}", "/docs/static/pssst"],
)  # fmt: skip
async def test_unknown_path(http: httpx.AsyncClient, path: str) -> None:
    """Paths that are not there are 404, without a redirect and without repeating them."""
    assert_problem(await http.get(path), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/submit-job", "POST"),
        ("DELETE", f"/job-status/{OWN}", "GET"),
        ("PUT", "/v1/jobs", "GET, POST"),
        ("PATCH", f"/v1/jobs/{OWN}", "GET, DELETE"),
        ("GET", "/v1/queues/default/pause", "POST"),
        ("OPTIONS", "/submit-job", "POST"),
        ("TRACE", "/submit-job", "POST"),
        ("PSSST", "/healthz", "GET"),
    ],
)
async def test_wrong_method(http: httpx.AsyncClient, method: str, path: str, allowed: str) -> None:
    """Another method is 405 with those there are; nothing says anything about other origins."""
    answer = await http.request(method, path)
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == allowed
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_instance_is_the_path(http: httpx.AsyncClient) -> None:
    """`instance` is the path that was asked, with an id only if there could be such a job."""
    asked = [f"/job-status/{OWN}", f"/job-status/{MARK}", f"/v1/jobs/{MARK}/result"]
    instances = [(await http.get(path)).json()["instance"] for path in asked]
    assert instances == [f"/job-status/{OWN}", "/job-status/:job_id", "/v1/jobs/:job_id/result"]


async def test_routes_of_the_service_report_alike(app: FastAPI, http: httpx.AsyncClient) -> None:
    """Whoever adds a route of another kind to the application gets problems, too."""

    async def room(number: int) -> None:
        raise HTTPException(status_code=410)

    app.add_api_route("/rooms/{number}", room)
    app.add_api_route("/floors/{number:int}", room)
    for path in ("/rooms/7", "/floors/7"):
        answer = await http.get(path)
        assert (answer.status_code, answer.json()["type"], answer.json()["title"]) == (410, "about:blank", "Gone")
        assert answer.json()["instance"] == path.replace("7", ":number")
    assert_problem(await http.get(f"/rooms/{MARK}"), 422, "invalid")


@pytest.mark.parametrize("path", ["/healthz", f"/job-status/{OWN}", "/nope", "/docs", "/openapi.json"])
async def test_request_id_is_echoed(http: httpx.AsyncClient, path: str) -> None:
    """A well-formed X-Request-ID comes back on every answer."""
    assert (await http.get(path, headers={"X-Request-ID": "aZ9_.-"})).headers["x-request-id"] == "aZ9_.-"


@pytest.mark.parametrize("name", ["", "a b", "a" * 65, "pssst\u00e4", "pssst\tx", "<pssst>"])
async def test_request_id_is_replaced(http: httpx.AsyncClient, name: str) -> None:
    """A malformed one is replaced, and not reflected."""
    answer = await http.get("/nope", headers=[(b"X-Request-ID", name.encode())])
    assert_problem(answer, 404, "not-found")
    assert len(answer.headers["x-request-id"]) == 32


async def test_store_away(http: httpx.AsyncClient, redis: FakeAsyncRedis) -> None:
    """Without its server the service answers 503 and when to come back; it lives, but is not ready."""
    redis.connection_pool.connection_kwargs["server"].connected = False
    await redis.connection_pool.disconnect()
    for method, path in [("POST", "/submit-job"), ("GET", f"/job-status/{OWN}"), ("GET", "/readyz")]:
        answer = await http.request(method, path, json={"task": "keep"})
        assert_problem(answer, 503, "store-unavailable")
        assert answer.headers["retry-after"] == "1"
    assert (await http.get("/healthz")).json() == {"status": "ok"}


async def test_ready(http: httpx.AsyncClient) -> None:
    """A service whose server takes writes is ready."""
    answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("error", [RuntimeError(MARK), ConfigError(MARK), JobqError(MARK)])
async def test_unexpected_error(
    app: FastAPI, http: httpx.AsyncClient, capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    """A bug is a 500 that tells the client nothing but the id under which the log has it."""

    async def broken() -> None:
        raise error

    app.add_api_route("/broken", broken)
    problem = assert_problem(await http.get("/broken"), 500, "internal")
    log = capfd.readouterr()
    assert problem["request_id"] in log.out + log.err
    assert MARK in log.out + log.err


async def test_every_kind_of_problem_has_its_page(app: FastAPI, http: httpx.AsyncClient) -> None:
    """Each `type` that a route documents leads to a page that explains it."""
    kinds = set()
    for path in app.openapi()["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                examples = response.get("content", {}).get("application/problem+json", {}).get("examples", {})
                kinds |= {example["value"]["type"] for example in examples.values()}
    assert len(kinds) > 10
    for kind in kinds:
        page = await http.get(kind)
        assert (page.status_code, page.json()["type"]) == (200, kind)
        assert page.json()["description"]
