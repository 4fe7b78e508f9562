"""Who may look, and from where: `JOBQ_API_KEY` opens a session, and no other site can post here."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends, Request
from fastapi.responses import Response
from itsdangerous import BadSignature, TimestampSigner

from jobq.client import Client
from jobq.errors import BadRequest, JobqError
from jobq.http.deps import ClientDep
from jobq.http.route import BODY_SECONDS

COOKIE = "jobq_session"
SESSION = 12 * 3600
"""Seconds."""
MAX_FORM = 16 * 1024
"""Bytes of a posted form."""


class SignInFirst(JobqError):
    """This page needs the API key."""

    status = 401
    slug = "sign-in-first"
    title = "Sign in"


class CrossSite(JobqError):
    """The form was not sent from a page of this dashboard."""

    status = 403
    slug = "cross-site"
    title = "Refused"


async def same_origin(request: Request) -> None:
    """Let only our own pages change anything. Browsers say where a request is from, and scripts cannot lie about it."""
    if request.method in ("GET", "HEAD"):
        return
    site = request.headers.get("sec-fetch-site")
    if site is None:  # browsers leave it out on plain http to another host than localhost
        origin = request.headers.get("origin", "")
        allowed = bool(origin) and urlsplit(origin).netloc == request.headers.get("host")
    else:
        allowed = site == "same-origin"
    if not allowed:
        raise CrossSite("this was not sent from a page of this dashboard, so nothing was done")


async def signed_in(request: Request, client: ClientDep) -> None:
    key = api_key(client)
    if key is None:
        return
    try:
        _signer(key).unsign(request.cookies.get(COOKIE, ""), max_age=SESSION)
    except BadSignature:
        raise SignInFirst("the API key is needed") from None


def sign_in(request: Request, response: Response, key: str) -> None:
    _set(request, response, _signer(key).sign("in").decode(), SESSION)


def sign_out(request: Request, response: Response) -> None:
    _set(request, response, "", 0)


def _set(request: Request, response: Response, value: str, seconds: int) -> None:
    secure = request.url.scheme == "https"
    # Without a path it holds for the folder of the request, whatever a proxy calls that: the dashboard.
    response.set_cookie(COOKIE, value, max_age=seconds, path=None, secure=secure, httponly=True, samesite="strict")


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a posted form. Raises BadRequest when they are too many bytes, or take too long."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_FORM:
                    raise BadRequest("the form is too large")
    except TimeoutError:
        raise BadRequest(f"the form has to arrive within {BODY_SECONDS:g} s") from None
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def api_key(client: Client) -> str | None:
    return client.settings.api_key.get_secret_value() if client.settings.api_key else None


FormDep = Annotated[dict[str, str], Depends(read_form)]


def _signer(key: str) -> TimestampSigner:
    # The key itself signs: every process of the service knows it, and a new key ends all sessions.
    return TimestampSigner(key, salt="jobq.dashboard", digest_method=sha256)
