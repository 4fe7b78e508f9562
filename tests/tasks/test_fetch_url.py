"""fetch_url: what it tells of an answer, and which addresses it refuses, however they are written or reached."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

import tasks
from config import settings
from jobq import Discard, InvalidPayload
from models import Fetched


class Site(BaseHTTPRequestHandler):
    """A small site, with ways into trouble."""

    BODY = b"hello " * 1000

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Host"), self.headers.get("Accept-Encoding")))
        match self.path.partition("/to/"):
            case ("", _, target) if target:
                self._answer(302, location=target)
            case ("/loop", *_):
                self._answer(302, location="/loop")
            case ("/slow", *_):
                time.sleep(2)
            case ("/missing", *_):
                self._answer(404, b"nothing here")
            case ("/endless", *_):
                self.send_response(200)
                self.end_headers()
                with suppress(ConnectionError):
                    while True:
                        self.wfile.write(b"x" * 65536)
            case _:
                self._answer(200, self.BODY)

    seen: ClassVar[list[tuple[str, str | None, str | None]]] = []

    def _answer(self, status: int, body: bytes = b"", location: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def site() -> Iterator[str]:
    Site.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.settings", settings.having(fetch_private=True))


def resolving(monkeypatch: pytest.MonkeyPatch, **names: list[str]) -> list[str]:
    """Names resolve to these addresses. The list of what was asked."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        asked.append(name)
        found = names.get(name.replace(".", "_"), [name])
        return [entry for address in found for entry in real(address, port, *args, **options)]

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    return asked


@pytest.mark.usefixtures("private")
async def test_fetch_url_tells_what_came(site: str) -> None:
    """Status, size, SHA-256, type and the address after a redirect; the body is asked for as it is."""
    url = f"http://{site}/page"
    expected = Fetched(
        status=200, size=6000, sha256=hashlib.sha256(Site.BODY).hexdigest(), content_type="text/plain", url=url
    )
    assert expected == await tasks.fetch_url(f"http://{site}/to/http://{site}/page")
    assert (await tasks.fetch_url(f"http://{site}/missing")).status == 404
    assert Site.seen[-1] == ("/missing", site, "identity")


@pytest.mark.usefixtures("private")
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/loop", "Exceeded maximum allowed redirects"),
        ("/endless", "more than 100000 bytes"),
        ("/to/file:///etc/passwd", "only http:// and https://"),
        ("/to/http://me:secret@127.0.0.1/", "user name or password"),
    ],
)
async def test_what_no_retry_helps_is_discarded(site: str, path: str, message: str) -> None:
    """A loop, too many bytes, another scheme, credentials."""
    with pytest.raises(Discard, match=message):
        await tasks.fetch_url(f"http://{site}{path}", max_bytes=100_000)
    assert len(Site.seen) <= 1 + 5


@pytest.mark.usefixtures("private")
async def test_fetch_url_keeps_its_time(site: str) -> None:
    """The limit holds for all of it together."""
    before = time.monotonic()
    with pytest.raises(TimeoutError, match=r"not fetched within 0\.2 s"):
        await tasks.fetch_url(f"http://{site}/slow", timeout=0.2)
    assert time.monotonic() - before < 1


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "2130706433", "0x7f.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "[::1]", "[::]", "[fe80::1]", "[fc00::1]",
        "[fec0::1]", "[ff02::1]", "[::ffff:127.0.0.1]", "[::ffff:8.8.8.8]", "[2002:7f00:1::]", "[64:ff9b::7f00:1]",
        "[64:ff9b:1::1]", "[2001:db8::1]", "[2001::1]",
    ],
)  # fmt: skip
async def test_private_addresses_are_refused(host: str) -> None:
    """However they are written."""
    with pytest.raises(Discard, match="private network"):
        await tasks.fetch_url(f"http://{host}/")


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_public(address: str) -> None:
    assert tasks._is_public(address)


async def test_names_of_private_addresses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One private address among public ones is enough, and `localhost` is none."""
    resolving(monkeypatch, mixed_example=["8.8.8.8", "10.0.0.1"])
    for name in ("mixed.example", "localhost"):
        with pytest.raises(Discard, match=f"{name} is an address of this machine"):
            await tasks.fetch_url(f"http://{name}/")


async def test_redirects_are_checked_again(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a public address that leads to a private one."""
    monkeypatch.setattr("tasks._is_public", lambda address: address == "127.0.0.1")
    with pytest.raises(Discard, match=r"169\.254\.169\.254"):
        await tasks.fetch_url(f"http://{site}/to/http://169.254.169.254/latest/meta-data")
    assert len(Site.seen) == 1


async def test_the_checked_address_is_the_one_used(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is resolved once; the server gets its name, and an address that does not answer is passed over."""
    monkeypatch.setattr("tasks._is_public", lambda address: True)
    asked = resolving(monkeypatch, some_example=["127.0.0.2", "127.0.0.1"])
    port = site.rpartition(":")[2]
    await tasks.fetch_url(f"http://some.example:{port}/")
    assert (asked.count("some.example"), Site.seen[-1][1]) == (1, f"some.example:{port}")


@pytest.mark.parametrize("url", ["ftp://example.com/", "file:///etc/passwd", "example.com", "http://a:b@c.example/"])
def test_odd_addresses_are_refused_at_submit(url: str) -> None:
    with pytest.raises(InvalidPayload) as refused:
        tasks.fetch_url.job(url)
    assert "a:b" not in str(refused.value)
