"""`/docs` and `/redoc`: every byte comes from this service, wherever it is mounted."""

from __future__ import annotations

import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urljoin, urlsplit

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobq.http import docs

STATIC = Path(docs.__file__).parent / "static"
MANIFEST: dict[str, dict[str, Any]] = json.loads((STATIC / "MANIFEST.json").read_bytes())
PAGES = ["/docs", "/redoc"]
TYPES = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "png": "image/png"}


class References(HTMLParser):
    """Collects what a page refers to: the loaded files, and the URL of the OpenAPI document."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.files: list[str] = []
        self.documents: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and tag != "a" and name in ("src", "href"):
                self.files.append(value)
            elif value and name in ("spec-url", "href"):
                self.documents.append(value)
            elif value and name == "data-settings":
                self.documents.append(json.loads(value)["url"])


def make_app(**options: Any) -> FastAPI:
    return FastAPI(docs_url=None, redoc_url=None, title="A <title>", **options)


def make_documented(**options: Any) -> FastAPI:
    app = make_app(**options)
    app.include_router(docs.router)
    return app


def client_for(app: ASGIApp, root_path: str = "") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, root_path=root_path), base_url="http://service")


def below_prefix() -> ASGIApp:
    app = make_app()
    app.include_router(docs.router, prefix="/deep/jobs")
    return app


def mounted() -> ASGIApp:
    outer = FastAPI()
    outer.mount("/jobs", make_documented())
    return outer


def behind_proxy(root_path: str) -> ASGIApp:
    """A proxy that serves the application below `/api`, takes that away from the path, and tells `root_path`."""
    app = make_documented()

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["path"].startswith("/api/"), f"left the prefix: {scope['path']}"
        await app({**scope, "root_path": root_path, "path": scope["path"].removeprefix("/api")}, receive, send)

    return proxy


PLACES = {
    "at the root": (make_documented(), "", "", "/openapi.json"),
    "elsewhere": (make_documented(openapi_url="/v1/spec.json"), "", "", "/v1/spec.json"),
    "below a prefix": (below_prefix(), "", "/deep/jobs", "/openapi.json"),
    "mounted": (mounted(), "", "/jobs", "/jobs/openapi.json"),
    "with the server's root_path": (make_documented(), "/api", "/api", "/api/openapi.json"),
    "below a prefix with root_path": (below_prefix(), "/api", "/api/deep/jobs", "/api/openapi.json"),
    "behind a proxy that tells": (behind_proxy("/api"), "", "/api", "/api/openapi.json"),
    "behind a proxy that does not tell": (behind_proxy(""), "", "/api", "/api/openapi.json"),
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(("app", "root_path", "prefix", "document"), PLACES.values(), ids=PLACES.keys())
async def test_everything_a_page_refers_to_is_served_by_us(
    app: ASGIApp, root_path: str, prefix: str, document: str, page: str
) -> None:
    async with client_for(app, root_path) as client:
        answer = await client.get(prefix + page)
        assert answer.status_code == 200
        references = References(answer.text)
        assert references.files
        assert references.documents
        for reference in references.files + references.documents:
            assert urlsplit(reference)[:2] == ("", ""), reference
        for reference in references.documents:
            assert urljoin(prefix + page, reference) == document
        assert (await client.get(document)).json()["openapi"].startswith("3.1")
        for reference in references.files:
            url = urljoin(prefix + page, reference)
            assert url.startswith(prefix + "/docs/static/")
            file = await client.get(url)
            assert file.status_code == 200, url
            assert file.headers["content-type"] == TYPES[urlsplit(url).path.rpartition(".")[2]]


@pytest.mark.parametrize("page", PAGES)
async def test_page_names_no_host_at_all(page: str) -> None:
    async with client_for(make_documented()) as client:
        text = (await client.get(page)).text
    assert "//" not in text


@pytest.mark.parametrize("page", PAGES)
async def test_page_permits_itself_only(page: str) -> None:
    async with client_for(make_documented()) as client:
        answer = await client.get(page)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = dict(part.split(maxsplit=1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"].startswith("'self'")
    assert "unsafe" not in policy["script-src"]
    assert not any("http" in sources or "*" in sources for sources in policy.values())


@pytest.mark.parametrize("page", PAGES)
async def test_title_is_escaped(page: str) -> None:
    async with client_for(make_documented()) as client:
        assert "<title>A &lt;title&gt; - " in (await client.get(page)).text


async def test_try_it_out_is_on_and_no_validator_is_asked() -> None:
    async with client_for(make_documented()) as client:
        text = (await client.get("/docs")).text
    assert "&quot;tryItOutEnabled&quot;: true" in text
    assert "&quot;validatorUrl&quot;: null" in text


@pytest.mark.parametrize("page", PAGES)
async def test_no_page_without_a_document(page: str) -> None:
    async with client_for(make_documented(openapi_url=None)) as client:
        assert (await client.get(page)).status_code == 404


async def test_pages_are_not_in_the_document() -> None:
    assert make_documented().openapi()["paths"] == {}


@pytest.mark.parametrize("name", MANIFEST)
async def test_file_is_the_one_of_the_manifest(name: str) -> None:
    entry = MANIFEST[name]
    assert all(entry[key] for key in ("package", "version", "licence"))
    async with client_for(make_documented()) as client:
        file = await client.get(f"/docs/static/{name}")
    assert file.status_code == 200
    assert hashlib.sha256(file.content).hexdigest() == entry["sha256"]
    assert file.headers["content-type"] == TYPES.get(name.rpartition(".")[2], "text/plain; charset=utf-8")
    assert file.headers["x-content-type-options"] == "nosniff"


def test_manifest_is_complete() -> None:
    present = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()}
    assert present == {"MANIFEST.json", *MANIFEST}
    assert {"swagger-ui/LICENSE", "swagger-ui/NOTICE", "redoc/LICENSE"} <= present


@pytest.mark.parametrize("name", [name for name, entry in MANIFEST.items() if "changed" in entry])
def test_what_was_changed_is_all_that_was_changed(name: str) -> None:
    changed = MANIFEST[name]["changed"]
    original = (STATIC / name).read_bytes().replace(changed["to"].encode(), changed["from"].encode())
    assert hashlib.sha256(original).hexdigest() == changed["sha256_before"]


async def test_only_the_url_with_the_hash_is_cached_for_ever() -> None:
    async with client_for(make_documented()) as client:
        for reference in References((await client.get("/docs")).text).files:
            url = "/" + reference
            path, version = urlsplit(url).path, parse_qs(urlsplit(url).query)["v"][0]
            assert MANIFEST[path.removeprefix("/docs/static/")]["sha256"].startswith(version)
            hashed = (await client.get(url)).headers["cache-control"]
            assert hashed == "public, max-age=31536000, immutable"
            for other in (path, path + "?v=0123456789abcdef"):
                assert (await client.get(other)).headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "MANIFEST.json",
        "swagger-ui",
        "swagger-ui/",
        "swagger-ui/absent.js",
        "swagger-ui//swagger-ui.css",
        "../docs.py",
        "..%2fdocs.py",
        "%2e%2e/docs.py",
        "swagger-ui/../MANIFEST.json",
        "swagger-ui/..%2f..%2fdocs.py",
        "..%5cdocs.py",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "swagger-ui/LICENSE%00",
    ],
)
async def test_nothing_else_is_served(name: str) -> None:
    """The path goes in as it stands and unquoted: an HTTP client would tidy `..` away."""
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    for path in ("/docs/static/" + name, unquote("/docs/static/" + name)):
        scope: Scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
        await make_documented()(scope, receive, send)
    assert statuses == [404, 404]
