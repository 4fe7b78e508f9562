"""The tasks of this service: a mail really goes out, and what could not is refused at submit."""

from __future__ import annotations

import email
import email.policy
import hashlib
import io
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from aiosmtplib import SMTPAuthenticationError
from PIL import Image
from pydantic import SecretStr

import tasks
from config import settings
from jobq import Client, Context, Discard, InvalidPayload, Settings
from jobq.context import running
from jobq.worker import Worker
from models import Fetched, Receipt, Thumbnail
from tests.support.processes import ROOT, free_port
from tests.support.servers import Valkey

JOB = Context("0190a7b2-0000-7000-8000-000000000001", "send_email", "default", attempt=1, retries=0)
takes_passwords_in_clear = pytest.mark.filterwarnings("ignore:Requiring AUTH:UserWarning")
BODY = "Grüße aus Köln\n" + "ä" * 1000


@pytest.fixture
def outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "post" / "out"
    monkeypatch.setattr("tasks.settings", settings.having(outbox=folder).model_copy(update={"smtp_url": None}))
    return folder


@dataclass
class Mailbox:
    """An SMTP server that takes mail from those who know the password."""

    port: int
    mails: list[EmailMessage] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"

    def check(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=data == LoginPassword(b"me@home", b"p/w"), handled=False)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox(free_port())
    controller = Controller(
        box,
        hostname="127.0.0.1",
        port=box.port,
        authenticator=box.check,
        auth_required=True,
        auth_require_tls=False,
    )
    controller.start()
    yield box
    controller.stop()


def send_through(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.settings", settings.having(smtp_url=SecretStr(url)))


def read(file: Path) -> EmailMessage:
    mail = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
    assert isinstance(mail, EmailMessage)
    return mail


async def test_a_mail_in_the_outbox_is_readable(outbox: Path) -> None:
    with running(JOB):
        receipt = await tasks.send_email("you@example.com", "Grüße", BODY)
    file = outbox / f"{JOB.job_id}.eml"
    assert receipt == Receipt(
        message_id=f"<{JOB.job_id}@localhost>", to="you@example.com", via="outbox", path=str(file)
    )
    text = file.read_text("utf-8")
    assert "Subject: Grüße\n" in text
    assert BODY in text
    mail = read(file)
    assert (mail["From"], mail["To"], mail["Message-ID"]) == ("jobq@localhost", "you@example.com", receipt.message_id)
    assert mail["Date"].datetime.tzinfo is not None
    assert mail.get_content() == BODY + "\n"


async def test_a_second_attempt_replaces_the_mail(outbox: Path) -> None:
    with running(JOB):
        await tasks.send_email(subject="first")
        await tasks.send_email(subject="second")
    assert [file.name for file in outbox.iterdir()] == [f"{JOB.job_id}.eml"]
    assert read(outbox / f"{JOB.job_id}.eml")["Subject"] == "second"


async def test_outside_of_a_job_each_call_is_a_mail(outbox: Path) -> None:
    first, second = await tasks.send_email(), await tasks.send_email()
    assert first.message_id != second.message_id
    assert len(list(outbox.iterdir())) == 2


@takes_passwords_in_clear
async def test_a_mail_goes_through_smtp(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    send_through(f"smtp://me%40home:p%2Fw@127.0.0.1:{mailbox.port}", monkeypatch)
    with running(JOB):
        receipt = await tasks.send_email("you@example.com", "Grüße", BODY)
    assert receipt == Receipt(message_id=f"<{JOB.job_id}@localhost>", to="you@example.com", via="smtp", path=None)
    (mail,) = mailbox.mails
    assert (mail["To"], mail["Subject"], mail["Message-ID"]) == ("you@example.com", "Grüße", receipt.message_id)
    assert mail.get_content().strip() == BODY


@takes_passwords_in_clear
async def test_a_refused_login_fails_the_attempt_without_telling_the_password(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_through(f"smtp://me%40home:wr0ng@127.0.0.1:{mailbox.port}", monkeypatch)
    with pytest.raises(SMTPAuthenticationError) as refused:
        await tasks.send_email()
    assert "wr0ng" not in str(refused.value)
    assert mailbox.mails == []


async def test_smtps_is_tls_from_the_first_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    async def send(mail: EmailMessage, **options: Any) -> None:
        asked.update(options)

    monkeypatch.setattr("tasks.aiosmtplib.send", send)
    send_through("smtps://mail.example.com", monkeypatch)
    await tasks.send_email()
    assert (asked["use_tls"], asked["hostname"], asked["port"], asked["username"]) == (
        True,
        "mail.example.com",
        None,
        None,
    )


@pytest.mark.parametrize("to", ["you@example.com", "a@b.c", "first.last+tag@sub.example.org"])
def test_addresses_taken(to: str) -> None:
    assert tasks.send_email.job(to=to).payload == f'{{"to":"{to}"}}'.encode()


@pytest.mark.parametrize(
    "payload",
    [
        {"to": "nobody"},
        {"to": "a@b.c\r\nBcc: x@y.z"},
        {"to": ""},
        {"subject": "Hello\r\nBcc: x@y.z"},
        {"subject": "Hello\nBcc: x@y.z"},
        {"subject": "Hello\u2028Bcc: x@y.z"},
        {"subject": "Hello\x85Bcc: x@y.z"},
        {"subject": "x" * 999},
        {"bcc": "x@y.z"},
    ],
)
def test_payloads_refused_at_submit(payload: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayload):
        tasks.send_email.job(**payload)


@pytest.mark.parametrize("header", ["Hello\r\nBcc: x@y.z", "Hello\u2028Bcc: x@y.z"])
async def test_a_direct_call_injects_no_header_either(header: str, outbox: Path) -> None:
    with pytest.raises(ValueError, match="linefeed"):
        await tasks.send_email(subject=header)
    assert not outbox.exists()


def test_flaky_fails_as_often_as_asked() -> None:
    assert tasks.flaky(0.0)
    with pytest.raises(tasks.SimulatedFailure):
        tasks.flaky(1.0)


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_a_probability_is_from_0_to_1(probability: float) -> None:
    with pytest.raises(InvalidPayload):
        tasks.flaky.job(probability)


async def test_sleep_tells_how_long() -> None:
    assert await tasks.sleep(0.01) == 0.01
    for seconds in (-1, 3601):
        with pytest.raises(InvalidPayload):
            tasks.sleep.job(seconds)


def test_any_attempt_fails_at_the_simulated_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.settings", settings.having(simulated_failure_rate=0.0))
    tasks.simulate_failure()
    monkeypatch.setattr("tasks.settings", settings.having(simulated_failure_rate=1.0))
    with pytest.raises(tasks.SimulatedFailure):
        tasks.simulate_failure()


def test_every_task_works_without_a_payload_and_has_a_valid_example() -> None:
    for task in tasks.registry:
        assert task.arguments(b"") == {}
        assert task.defaults.example
        task.parameters.model_validate(task.defaults.example)


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


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    chosen = settings.having(pictures=folder, thumbnails=tmp_path / "small")
    monkeypatch.setattr("tasks.settings", chosen)
    return folder


def test_a_thumbnail_is_small_and_upright(pictures: Path) -> None:
    """Width as asked, height in proportion, turned as the camera says, and never enlarged."""
    turned = Image.Exif()
    turned[0x0112] = 6  # the top is on the right
    Image.new("RGB", (400, 200), "red").save(pictures / "deep" / "a.jpg", exif=turned)
    made = tasks.make_thumbnail("deep/a.jpg", width=50)
    file = pictures.parent / "small" / "deep" / "a-50.jpg"
    assert made == Thumbnail(path=str(file), width=50, height=100, bytes=file.stat().st_size)
    with Image.open(file) as picture:
        assert (picture.size, picture.format) == ((50, 100), "JPEG")
    assert tasks.make_thumbnail("deep/a.jpg", width=4096).width == 200
    assert [file.name for file in file.parent.iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGBA", "png"), ("P", "gif"), ("P", "png"), ("I;16", "png"), ("1", "png"), ("CMYK", "jpg"),
                         ("L", "webp")],
)  # fmt: skip
def test_all_kinds_of_pictures(pictures: Path, mode: str, suffix: str) -> None:
    Image.new(mode, (300, 100)).save(pictures / f"x.{suffix}")
    made = tasks.make_thumbnail(f"x.{suffix}", width=30)
    with Image.open(made.path) as picture:
        assert picture.size == (30, 10)


def test_broken_and_huge_pictures_are_discarded(pictures: Path) -> None:
    """At once and with the reason: no retry makes a picture whole."""
    good = io.BytesIO()
    Image.new("RGB", (500, 500), "red").save(good, "PNG")
    whole = good.getvalue()
    files = {
        "text": (b"no picture", "none of JPEG, PNG, WEBP, GIF"),
        "empty": (b"", "none of JPEG"),
        "cut": (whole[: len(whole) // 2], "broken"),
        "bomb": (_png_of(8000, 8000), "64"),
        "larger bomb": (_png_of(60_000, 60_000), "too large"),
    }
    for name, (content, _) in files.items():
        (pictures / name).write_bytes(content)
    for name, (_, message) in files.items():
        with pytest.raises(Discard, match="8000 x 8000 pixels" if message == "64" else message):
            tasks.make_thumbnail(name)


def _png_of(width: int, height: int) -> bytes:
    """The beginning of a picture that claims to be this large."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    parts = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (head, data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "link.png", "linked/secret.png", "deep", "none.png"])
def test_no_way_out_of_the_folder(pictures: Path, path: str) -> None:
    """Neither by dots nor by an absolute path nor by a link."""
    Image.new("RGB", (9, 9)).save(pictures.parent / "secret.png")
    (pictures / "link.png").symlink_to(pictures.parent / "secret.png")
    (pictures / "linked").symlink_to(pictures.parent)
    with pytest.raises(Discard, match="there is no picture"):
        tasks.make_thumbnail(path)


async def test_a_thumbnail_in_a_child_process(valkey: Valkey, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a job: made in a child, with its progress; a broken picture spends no retry."""
    monkeypatch.setenv("PICTURES", str(pictures))
    monkeypatch.setenv("THUMBNAILS", str(pictures.parent / "small"))
    Image.new("RGB", (400, 200), "red").save(pictures / "a.png")
    (pictures / "b.png").write_bytes(b"no picture")
    async with Client(valkey.url, registry=tasks.registry) as client:
        good = await client.submit(tasks.make_thumbnail.job("a.png", width=40))
        bad = await client.submit(tasks.make_thumbnail.job("b.png"))
        assert await Worker(Settings(redis_url=valkey.url), tasks.registry, burst=True).run() == 0
        assert ((await good.result(1)).width, (await bad.get()).attempt) == (40, 1)
        with valkey.client() as redis:
            told = [json.loads(entry[b"data"]) for _, entry in redis.xrange(f"job:{good.job_id}:events")]
    assert [entry["fraction"] for entry in told if "fraction" in entry][-1] == 1.0


def test_the_example_is_there() -> None:
    """So that the task works as the docs and the demo show it."""
    assert (ROOT / "pictures" / tasks.make_thumbnail.defaults.example["path"]).is_file()
