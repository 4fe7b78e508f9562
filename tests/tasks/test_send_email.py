"""send_email: a mail really goes out, and what could not is refused at submit."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtplib import SMTPAuthenticationError

import tasks
from config import settings
from jobq import Context, InvalidPayload
from jobq.context import running
from models import Receipt
from tests.tasks.support import Mailbox, receiving, send_through, takes_passwords_in_clear

JOB = Context("0190a7b2-0000-7000-8000-000000000001", "send_email", "default", attempt=1, retries=0)
BODY = "Grüße aus Köln\n" + "ä" * 1000


@pytest.fixture
def outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "post" / "out"
    monkeypatch.setattr("tasks.settings", settings.having(outbox=folder).model_copy(update={"smtp_url": None}))
    return folder


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with receiving() as box:
        yield box


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
