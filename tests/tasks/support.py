"""A real SMTP server to send to."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from pydantic import SecretStr

from config import settings
from tests.support.processes import free_port

takes_passwords_in_clear = pytest.mark.filterwarnings("ignore:Requiring AUTH:UserWarning")


@dataclass
class Mailbox:
    """An SMTP server that takes mail from those who know the password."""

    port: int
    mails: list[EmailMessage] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    """For each login, whether STARTTLS came before it."""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"

    def check(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        self.encrypted.append(session.ssl is not None)
        return AuthResult(success=data == LoginPassword(b"me@home", b"p/w"), handled=False)


@contextmanager
def receiving(**options: Any) -> Iterator[Mailbox]:
    """A mailbox on loopback that would take passwords in clear."""
    box = Mailbox(free_port())
    asking = {"authenticator": box.check, "auth_required": True, "auth_require_tls": False}
    controller = Controller(box, hostname="127.0.0.1", port=box.port, **{**asking, **options})
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


def send_through(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.settings", settings.having(smtp_url=SecretStr(url)))
