"""The tasks of this service. A new one is a function with type hints under `@registry.task`."""

import asyncio
import os
import random
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import formatdate, parseaddr
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import aiosmtplib
from pydantic import EmailStr, Field

from config import settings
from jobq import Registry, current
from models import Receipt

registry = Registry()

SMTP_TIMEOUT = 30.0
LONGEST_LINE = 998
"""Of a mail, by RFC 5322."""
READABLE = EmailPolicy(utf8=True, max_line_length=LONGEST_LINE)
"""Text stays as it is, not encoded. For the wire the SMTP library writes what the server can take."""

OneLine = Annotated[str, Field(max_length=LONGEST_LINE, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")]
"""Text that cannot smuggle further headers into a mail."""


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
        path = await asyncio.to_thread(_write, mail, settings.outbox / f"{mail_id}.eml")
        return Receipt(message_id=mail["Message-ID"], to=to, via="outbox", path=str(path))
    mail.set_content(body)
    await _send(mail, settings.smtp_url.get_secret_value())
    return Receipt(message_id=mail["Message-ID"], to=to, via="smtp", path=None)


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


def _write(mail: EmailMessage, file: Path) -> Path:
    """Replace `file` at once: nobody reads half a mail, and two attempts at the same time do no harm."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.stem}.{uuid4().hex}.tmp")
    draft.write_bytes(mail.as_bytes())
    os.replace(draft, file)
    return file


async def _send(mail: EmailMessage, url: str) -> None:
    server = urlsplit(url)
    await aiosmtplib.send(
        mail,
        hostname=server.hostname,
        port=server.port,
        username=unquote(server.username) if server.username else None,
        password=unquote(server.password) if server.password else None,
        use_tls=server.scheme == "smtps",
        timeout=SMTP_TIMEOUT,
    )
