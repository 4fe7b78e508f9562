"""The one key of the service: who may ask, and where it may listen without one."""

from __future__ import annotations

import hmac
import ipaddress
from hashlib import sha256

from fastapi import Request
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers

from jobq.errors import ConfigError
from jobq.http.errors import Unauthorized
from jobq.settings import Settings

bearer = HTTPBearer(scheme_name="bearer", description="The service's `JOBQ_API_KEY`, if it has one.", auto_error=False)
"""For OpenAPI alone: `check` is what looks, before the body is read."""


def check(headers: Headers, settings: Settings) -> None:
    """Raise Unauthorized unless these headers bring the key of the settings, if there is one."""
    if settings.api_key is None:
        return
    given = headers.getlist("authorization")
    scheme, _, key = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if not (is_key(settings, key) and scheme.lower() == "bearer"):
        raise Unauthorized("send the key of this service, as Authorization: Bearer <key>")


def is_key(settings: Settings, given: str) -> bool:
    """Whether this is the service's key. Takes as long for any other."""
    if settings.api_key is None:
        return False
    return hmac.compare_digest(_digest(given), _digest(settings.api_key.get_secret_value()))


async def authorized(request: Request) -> None:
    """`check` as a dependency, for routes that are not of JobRoute."""
    check(request.headers, request.app.state.jobq.settings)


def check_bind(settings: Settings, insecure: bool) -> None:
    """Raise ConfigError when other machines could ask without a key, unless that is wanted."""
    if settings.api_key is None and not insecure and not _is_loopback(settings.host):
        raise ConfigError(
            f"{settings.host or 'every address'} can be reached from other machines, and anybody there could use the"
            " queue: set JOBQ_API_KEY (16 characters or more), or allow it with --insecure"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogateescape")).digest()
