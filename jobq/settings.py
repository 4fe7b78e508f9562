"""Settings of the engine, read from the environment with the prefix `JOBQ_`.

A service subclasses this in its `config.py` and adds its own fields; relative paths are anchored at
`project`, so that every process of the service meets at the same place whatever folder it starts from.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from jobq.errors import ConfigError

NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
"""What a task or a queue may be called: these names become part of Redis keys."""

WEIGHT = re.compile(r"[1-9][0-9]{0,5}")

KEY = re.compile(r"[!-~]{16,512}")

REDIS_SCHEMES = ("redis", "rediss", "valkey", "valkeys", "unix")


class Durability(StrEnum):
    """What a crash may cost."""

    FAST = "fast"
    """AOF everysec: any process of ours may be killed; two seconds are at risk with the machine's power, or with the
    server's process while its disk is slow."""
    FSYNC = "fsync"
    """AOF always: an accepted job is on disk."""


def _anchor(path: Path, info: ValidationInfo) -> Path:
    project: Path = info.data.get("project") or Path.cwd()
    return path if path.is_absolute() else project / path


def _comma_separated(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _fit_for_a_header(key: SecretStr) -> SecretStr:
    if not KEY.fullmatch(key.get_secret_value()):
        raise ValueError("expected 16 characters or more, of ASCII and without spaces")
    return key


ProjectPath = Annotated[Path, AfterValidator(_anchor)]
"""A path that, when relative, is meant relative to the project and not to the current folder."""

Port = Annotated[int, Field(ge=0, le=65535)]
Slots = Annotated[int, Field(ge=1, le=10_000)]

Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_separated)]


Allowed = Literal["version", "permissions", "eviction", "aof", "replay"]
"""Names of findings in `store/checks.py`."""


class Settings(BaseSettings):
    """Everything that can be set about jobq. Times are seconds."""

    model_config = SettingsConfigDict(env_prefix="JOBQ_", extra="ignore", validate_default=True, populate_by_name=True)

    project: Path = Field(default_factory=Path.cwd)

    redis_url: str | None = Field(None, validation_alias=AliasChoices("JOBQ_REDIS_URL", "REDIS_URL"))
    data_dir: ProjectPath = Path(".jobq")
    durability: Durability = Durability.FAST
    allow: Annotated[tuple[Allowed, ...], NoDecode, BeforeValidator(_comma_separated)] = ()
    """What a server may be although a start would refuse it."""
    app: str = "tasks:registry"

    host: str = "127.0.0.1"
    port: Port = 8000
    api_key: Annotated[SecretStr, AfterValidator(_fit_for_a_header)] | None = None
    """What every request has to bring, as `Authorization: Bearer <key>`. Unset: nothing."""
    unknown_tasks: Literal["reject", "accept"] = "reject"

    concurrency: Slots = 32
    queues: Names = ()
    lease: float = Field(15.0, ge=1.0, le=3600.0)
    timeout: float | None = Field(300.0, gt=0)
    drain_timeout: float = Field(30.0, ge=0)
    max_retries: int = Field(3, ge=0, le=1000)
    retry_backoff: float = Field(1.0, ge=0, le=600.0)
    max_lost: int = Field(3, ge=1, le=1000)
    max_queued: int = Field(1_000_000, ge=1)
    """Ready jobs of one queue, beyond which a submit to it is refused."""

    result_ttl: int = Field(86_400, ge=1)
    retention: int = Field(86_400, ge=1)
    retention_failed: int = Field(7 * 86_400, ge=1)
    max_finished: int = Field(1_000_000, ge=1)

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "pretty"] = "auto"

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, url: str | None) -> str | None:
        if url and urlsplit(url).scheme not in REDIS_SCHEMES:
            raise ValueError(f"expected a URL such as redis://localhost:6379/0 ({', '.join(REDIS_SCHEMES)})")
        return url or None

    @field_validator("queues")
    @classmethod
    def _legal_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        parts = [name.partition(":") for name in names]
        if not all(NAME.fullmatch(name) and (not colon or WEIGHT.fullmatch(weight)) for name, colon, weight in parts):
            raise ValueError("expected names such as mail,default (in strict order) or mail:3,default:1 (by weight)")
        if len({bool(weight) for _, _, weight in parts}) > 1:
            raise ValueError("give every queue a weight or none")
        return names

    @field_validator("timeout", mode="before")
    @classmethod
    def _no_timeout(cls, value: Any) -> Any:
        return None if isinstance(value, str) and value.lower() in ("none", "") else value

    @classmethod
    def load(cls, **values: Any) -> Self:
        """Read the settings, or raise a ConfigError of one line that names each wrong one."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError("; ".join(_explain(e["loc"], e["msg"]) for e in error.errors())) from None

    @classmethod
    def load_or_exit(cls, **values: Any) -> Self:
        """As `load`, for a module that programs import at their start: the process ends with the line on stderr."""
        try:
            return cls.load(**values)
        except ConfigError as error:
            raise SystemExit(f"jobq: {error}") from None

    def having(self, **values: Any) -> Self:
        """These settings with other values, as from a command line; None leaves one as it is. Raises ConfigError."""
        given = {name: value for name, value in values.items() if value is not None}
        return self.load(**{name: getattr(self, name) for name in self.model_fields_set} | given)


def _explain(location: tuple[int | str, ...], message: str) -> str:
    field = str(location[0]) if location else "settings"
    name = field if field.isupper() else f"JOBQ_{field.upper()}"
    return f"{name}: {message.removeprefix('Value error, ')}"
