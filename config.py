"""The settings of this service: the engine's (JOBQ_…) and its own. An environment variable wins over a default.

Change a default here, and `python -m jobq up`, `uvicorn api:app` and `python worker.py` follow. Any other setting of
`jobq.settings.Settings` may be given a new default in the same way.
"""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from jobq.settings import Port, ProjectPath, Settings, Slots


def _smtp_url(url: SecretStr) -> SecretStr | None:
    parts = urlsplit(url.get_secret_value())
    if not parts.geturl():
        return None
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.port == 0:
        raise ValueError("expected smtp://user:password@host:port, or smtps://… for TLS from the first byte")
    return url


def _sender(address: str) -> str:
    if not address.isprintable() or not all(address.rpartition("@")[::2]):
        raise ValueError("expected an address such as jobs@example.com")
    return address


class ServiceSettings(Settings):
    """Relative paths are meant relative to the folder of this file."""

    project: Path = Path(__file__).parent
    data_dir: ProjectPath = Path(".jobq")
    host: str = "127.0.0.1"
    port: Port = 8000
    concurrency: Slots = 32

    smtp_url: Annotated[SecretStr, AfterValidator(_smtp_url)] | None = Field(None, validation_alias="SMTP_URL")
    """Where mail goes. Unset: into the outbox."""
    outbox: ProjectPath = Field(Path("outbox"), validation_alias="OUTBOX")
    """The folder that mail is written to as .eml files, which every mail program opens."""
    mail_from: Annotated[str, AfterValidator(_sender)] = Field("jobq@localhost", validation_alias="MAIL_FROM")
    pictures: ProjectPath = Field(Path("pictures"), validation_alias="PICTURES")
    """The folder whose pictures make_thumbnail reads, and no others."""
    thumbnails: ProjectPath = Field(Path("outbox/thumbnails"), validation_alias="THUMBNAILS")
    """The folder that thumbnails are written to."""
    fetch_private: bool = Field(False, validation_alias="FETCH_PRIVATE")
    """Whether fetch_url may reach this machine and private networks. Whoever may submit jobs can then look around."""
    simulated_failure_rate: float = Field(0.0, ge=0, le=1, validation_alias="SIMULATED_FAILURE_RATE")
    """The part of all attempts that fails for no reason, to watch retries at work."""


settings = ServiceSettings.load_or_exit()
