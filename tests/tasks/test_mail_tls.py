"""send_email over TLS, with certificates as they are and as they should not be."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import trustme
from aiosmtplib import SMTPNotSupported

import tasks
from tests.tasks.support import Mailbox, receiving, send_through, takes_passwords_in_clear

pytestmark = takes_passwords_in_clear
Server = Callable[[trustme.CA, str], AbstractContextManager[Mailbox]]


@pytest.fixture
def ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """A CA that is trusted as a private one would be."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return ca


@contextmanager
def smtp(ca: trustme.CA, name: str = "localhost") -> Iterator[Mailbox]:
    """A server that offers STARTTLS."""
    with receiving(tls_context=identity(ca, name)) as box:
        yield box


@contextmanager
def smtps(ca: trustme.CA, name: str = "localhost") -> Iterator[Mailbox]:
    """A server that speaks TLS from the first byte."""
    with receiving(ssl_context=identity(ca, name)) as box:
        yield box


def identity(ca: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(name).configure_cert(context)
    return context


async def test_starttls(ca: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server offers it, password and mail go over TLS, also to one that would take them in clear."""
    with smtp(ca) as box:
        send_through(f"smtp://me%40home:p%2Fw@localhost:{box.port}", monkeypatch)
        await tasks.send_email(subject="Grüße")
    assert [True] == box.encrypted
    assert ["Grüße"] == [mail["Subject"] for mail in box.mails]


async def test_smtps(ca: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """smtps:// is TLS from the first byte, which the other server does not answer."""
    with smtps(ca) as box:
        send_through(f"smtps://me%40home:p%2Fw@localhost:{box.port}", monkeypatch)
        await tasks.send_email(subject="Grüße")
    assert ["Grüße"] == [mail["Subject"] for mail in box.mails]


@pytest.mark.parametrize(("scheme", "server"), [("smtp", smtp), ("smtps", smtps)])
@pytest.mark.parametrize(
    ("trusted", "name", "why"),
    [(False, "localhost", "unable to get local issuer certificate"), (True, "mail.example", "'localhost'")],
)
async def test_certificate_that_is_not_trusted(
    ca: trustme.CA, monkeypatch: pytest.MonkeyPatch, scheme: str, server: Server, trusted: bool, name: str, why: str
) -> None:
    """From a CA nobody knows, or for another name: the attempt fails and says so, and nothing is sent."""
    with server(ca if trusted else trustme.CA(), name) as box:
        send_through(f"{scheme}://me%40home:p%2Fw@localhost:{box.port}", monkeypatch)
        with pytest.raises(ConnectionError, match="certificate of localhost is not trusted") as refused:
            await tasks.send_email()
    assert why in str(refused.value)
    assert "SSL_CERT_FILE" in str(refused.value)
    assert ([], []) == (box.encrypted, box.mails)


async def test_password_is_not_sent_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server elsewhere that offers no TLS gets neither password nor mail, though it asks for both."""
    monkeypatch.setattr("tasks._is_loopback", lambda address: False)
    with receiving() as box:
        send_through(f"smtp://me%40home:p%2Fw@localhost:{box.port}", monkeypatch)
        with pytest.raises(SMTPNotSupported, match="localhost offers no STARTTLS") as refused:
            await tasks.send_email()
    assert "p/w" not in str(refused.value)
    assert ([], []) == (box.encrypted, box.mails)


async def test_mail_without_a_password_may_go_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """As mail servers without TLS are reached: whoever listens can read it, but cannot send as us."""
    monkeypatch.setattr("tasks._is_loopback", lambda address: False)
    with receiving(auth_required=False) as box:
        send_through(f"smtp://localhost:{box.port}", monkeypatch)
        await tasks.send_email(subject="Hello")
    assert ["Hello"] == [mail["Subject"] for mail in box.mails]


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("8.8.8.8", False),
        ("fe80::1%eth0", False),
    ],
)
def test_addresses_of_this_machine(address: str, loopback: bool) -> None:
    """Only they are sent a password without TLS."""
    assert loopback == tasks._is_loopback(address)
