"""The tasks of this service. A new one is a function with type hints under `@registry.task`."""

import asyncio
import hashlib
import io
import ipaddress
import os
import random
import socket
import ssl
from contextlib import suppress
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import formatdate, parseaddr
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import aiosmtplib
import httpx
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import AfterValidator, EmailStr, Field

from config import settings
from jobq import Discard, Registry, Retry, current
from models import Fetched, Receipt, Thumbnail

registry = Registry()

SMTP_TIMEOUT = 30.0
LONGEST_LINE = 998
"""Of a mail, by RFC 5322."""
READABLE = EmailPolicy(utf8=True, max_line_length=LONGEST_LINE)
"""Text stays as it is, not encoded. For the wire the SMTP library writes what the server can take."""

MAX_REDIRECTS = 5
PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MAX_PIXELS = 50_000_000
"""A small file can hold a picture that fills the memory."""

OneLine = Annotated[str, Field(max_length=LONGEST_LINE, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")]
"""Text that cannot smuggle further headers into a mail."""


def _web_url(url: str) -> str:
    try:
        _refuse_unless_web(httpx.URL(url))
    except (Discard, httpx.InvalidURL) as error:
        raise ValueError(str(error)) from None
    return url


WebUrl = Annotated[str, Field(max_length=2048), AfterValidator(_web_url)]
RelativePath = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00]*$")]


class SimulatedFailure(Exception):
    """Nothing is wrong: the service was asked to fail now and then."""


@registry.task(example={"to": "you@example.com", "subject": "Hello", "body": "Sent by jobq."})
async def send_email(
    to: EmailStr = "you@example.com", subject: OneLine = "Hello", body: str = "Sent by jobq."
) -> Receipt:
    """Send a mail through `SMTP_URL`; where that is not set, write it to the outbox as an .eml file."""
    mail_id = _mail_id()
    mail = _address(mail_id, to, subject)
    if settings.smtp_url is None:
        mail.set_content(body, cte="8bit")  # to be read as it is, however long its lines
        path = await asyncio.to_thread(_replace, settings.outbox / f"{mail_id}.eml", mail.as_bytes())
        return Receipt(message_id=mail["Message-ID"], to=to, via="outbox", path=str(path))
    mail.set_content(body)
    await _send(mail, settings.smtp_url.get_secret_value())
    return Receipt(message_id=mail["Message-ID"], to=to, via="smtp", path=None)


@registry.task(example={"url": "https://example.com/", "timeout": 5}, retry=Retry(2))
async def fetch_url(
    url: WebUrl = "https://example.com/",
    max_bytes: Annotated[int, Field(ge=1, le=1 << 30)] = 10 << 20,
    timeout: Annotated[float, Field(gt=0, le=240)] = 30.0,
) -> Fetched:
    """Fetch an address within `timeout` seconds, redirects included, and tell what came; any HTTP status is an answer.

    Addresses of this machine and of private networks are refused unless `FETCH_PRIVATE=1`.
    """
    client = httpx.AsyncClient(
        transport=CheckedTransport(limits=httpx.Limits(max_keepalive_connections=0)),
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        trust_env=False,  # a proxy would resolve names itself
        headers={"User-Agent": "jobq", "Accept-Encoding": "identity"},
    )
    try:
        async with asyncio.timeout(timeout), client, client.stream("GET", url) as response:
            return await _digest(response, max_bytes)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as error:
        raise Discard(str(error)) from None
    except TimeoutError:
        raise TimeoutError(f"not fetched within {timeout:g} s") from None


@registry.task(process=True, memory=512, timeout=60, example={"path": "example.jpg", "width": 200})
def make_thumbnail(path: RelativePath = "example.jpg", width: Annotated[int, Field(ge=1, le=4096)] = 200) -> Thumbnail:
    """Make a picture below the folder `PICTURES` at most `width` wide, upright, in a file below `THUMBNAILS`."""
    source = _picture(path)
    picture, kind = _decode(source, path)
    _progress(0.5, f"read {picture.width} x {picture.height}")
    picture.thumbnail((width, picture.height))
    _progress(0.8, f"made {picture.width} x {picture.height}")
    content = io.BytesIO()
    picture.save(content, kind)
    place = source.relative_to(settings.pictures.resolve()).with_name(f"{source.stem}-{width}{source.suffix}")
    file = _replace(settings.thumbnails / place, content.getvalue())
    _progress(1.0, "written")
    return Thumbnail(path=str(file), width=picture.width, height=picture.height, bytes=file.stat().st_size)


@registry.task(example={"probability": 0.5})
def flaky(probability: Annotated[float, Field(ge=0, le=1)] = 0.5) -> str:
    """Fail with this probability: to watch retries, and jobs that fail for good."""
    if random.random() < probability:  # noqa: S311  # no secret depends on it
        raise SimulatedFailure(f"flaky fails with a probability of {probability:g}")
    return "it went well this time"


@registry.task(example={"seconds": 1.0})
async def sleep(seconds: Annotated[float, Field(ge=0, le=3600)] = 1.0) -> float:
    """Do nothing for a while, as slow work would. It returns the seconds; its timeout holds as for any task."""
    await asyncio.sleep(seconds)
    return seconds


def simulate_failure() -> None:
    """Fail the attempt that is about to begin, as often as `SIMULATED_FAILURE_RATE` says."""
    if random.random() < settings.simulated_failure_rate:  # noqa: S311  # no secret depends on it
        raise SimulatedFailure(f"SIMULATED_FAILURE_RATE is {settings.simulated_failure_rate:g}")


def _mail_id() -> str:
    """The job's id, so that a further attempt sends the same mail and not a second one."""
    try:
        return current().job_id
    except LookupError:
        return str(uuid4())


def _address(mail_id: str, to: str, subject: str) -> EmailMessage:
    mail = EmailMessage(READABLE)
    mail["From"] = settings.mail_from
    mail["To"] = to
    mail["Subject"] = subject
    mail["Date"] = formatdate(localtime=True)
    mail["Message-ID"] = f"<{mail_id}@{parseaddr(settings.mail_from)[1].rpartition('@')[2]}>"
    return mail


def _replace(file: Path, content: bytes) -> Path:
    """Replace `file` at once: nobody reads half of it, and two attempts at the same time do no harm."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{uuid4().hex}.tmp")
    draft.write_bytes(content)
    os.replace(draft, file)
    return file


async def _send(mail: EmailMessage, url: str) -> None:
    """Over TLS wherever the server has it. A private CA is trusted that SSL_CERT_FILE names, as everywhere."""
    server = urlsplit(url)
    host = server.hostname
    client = aiosmtplib.SMTP(hostname=host, port=server.port, use_tls=server.scheme == "smtps", timeout=SMTP_TIMEOUT)
    try:
        async with client:
            if server.username:
                _refuse_to_tell_passwords(client)
                await client.login(unquote(server.username), unquote(server.password or ""))
            await client.send_message(mail)
    except (ssl.SSLCertVerificationError, aiosmtplib.SMTPConnectError) as error:
        cause = error.__cause__ or error
        if not isinstance(cause, ssl.SSLCertVerificationError):
            raise
        hint = "a CA of your own has to be in the file that SSL_CERT_FILE names"
        raise ConnectionError(f"the certificate of {host} is not trusted ({cause.verify_message}): {hint}") from None


def _refuse_to_tell_passwords(client: aiosmtplib.SMTP) -> None:
    """Who is on the way can also take the offer of TLS out of what the server says."""
    if client.get_transport_info("sslcontext") is None and not _is_loopback(client.get_transport_info("peername")[0]):
        raise aiosmtplib.SMTPNotSupported(
            f"{client.hostname} offers no STARTTLS, and the password of SMTP_URL is not sent in clear: use smtps://,"
            " or a server with TLS"
        )


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


class CheckedTransport(httpx.AsyncHTTPTransport):
    """Connects to the very address that was checked: a name that resolves differently a second time gains nothing."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        _refuse_unless_web(request.url)
        host = request.url.raw_host.decode("ascii")
        named = {**request.extensions, "sni_hostname": host}  # what the certificate must be for
        failure: Exception | None = None
        for address in await _addresses(host):
            there = request.url.copy_with(host=address)
            try:
                return await super().handle_async_request(
                    httpx.Request(request.method, there, headers=request.headers, extensions=named)
                )
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = type(error)(f"{host} ({address}): {error}")
        raise failure or httpx.ConnectError(f"{host} has no address")


def _refuse_unless_web(url: httpx.URL) -> None:
    if url.scheme not in ("http", "https") or not url.host:
        raise Discard("only http:// and https:// addresses are fetched")
    if url.userinfo:
        raise Discard("an address with a user name or password is not fetched: the job's record would show it")


async def _addresses(host: str) -> list[str]:
    """All that the name resolves to. One that is private spoils them all."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise OSError(f"{host}: {error.strerror}") from None
    addresses = [str(address[0]) for *_, address in found]
    if not settings.fetch_private and not all(map(_is_public, addresses)):
        raise Discard(f"{host} is an address of this machine or of a private network: FETCH_PRIVATE=1 allows those")
    return addresses


NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in NAT64:  # how IPv4 is reached where there is only IPv6
            return _is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        # Other ways to write an IPv4 address; nothing public needs them.
        if ip.ipv4_mapped or ip.sixtofour or ip.teredo or ip.is_site_local:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


async def _digest(response: httpx.Response, max_bytes: int) -> Fetched:
    size, digest = 0, hashlib.sha256()
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > max_bytes:
            raise Discard(f"the answer has more than {max_bytes} bytes")
        digest.update(chunk)
    return Fetched(
        status=response.status_code,
        size=size,
        sha256=digest.hexdigest(),
        content_type=response.headers.get("content-type"),
        url=str(response.url),
    )


def _picture(path: str) -> Path:
    """The file, links followed, that must lie below the pictures' folder in the end."""
    folder = settings.pictures.resolve()
    file = (folder / path).resolve()
    if not file.is_relative_to(folder) or not file.is_file():
        raise Discard(f"there is no picture {path} in the folder PICTURES")
    return file


def _decode(file: Path, name: str) -> tuple[Image.Image, str]:
    """The picture, upright, and its format. What is broken is so for good."""
    try:
        with Image.open(file, formats=PICTURE_FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Discard(f"{name} has {picture.width} x {picture.height} pixels, {MAX_PIXELS} are the limit")
            _progress(0.1, f"opened {name}")
            kind = picture.format or "PNG"
            upright = ImageOps.exif_transpose(picture)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        why = (
            "too large" if isinstance(error, Image.DecompressionBombError) else "none of " + ", ".join(PICTURE_FORMATS)
        )
        raise Discard(f"{name} is {why}") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise Discard(f"{name} is broken: {error}") from None
    if upright.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):  # of others no mean of pixels can be taken
        upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    return upright, kind


def _progress(fraction: float, message: str) -> None:
    with suppress(LookupError):  # called directly, outside of a job
        current().progress(fraction, message)
