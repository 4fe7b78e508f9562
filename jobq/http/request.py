"""What a request is called: its id, and its path as others may see it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import NoMatchFound
from starlette.types import Scope

from jobq.client import JobHandle
from jobq.job import UUID

_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PLAIN_HOST = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9a-f:]{2,39}\])(:\d{1,5})?")


def request_id(scope: Scope) -> str:
    """The caller's X-Request-ID if it is well-formed, else one of ours; the same for the whole request."""
    if "jobq.request_id" not in scope:
        given = Headers(scope=scope).get("x-request-id", "")
        scope["jobq.request_id"] = given if _ID.fullmatch(given) else uuid4().hex
    name: str = scope["jobq.request_id"]
    return name


def here(request: Request) -> str:
    """The path as the client knows it, below any prefix, mount or root_path."""
    root, path = _root(request), request.scope["path"]
    return quote(path if path.startswith(f"{root}/") else root + path)


def problem_page(request: Request, slug: str) -> str:
    """Where this application explains such a problem, as the client knows it.

    Routers alone may be part of an application without these pages: then it is no more than a name.
    """
    try:
        return quote(_root(request) + request.app.url_path_for("explain_problem", slug=slug))
    except NoMatchFound:
        return f"/problems/{slug}"


def _root(request: Request) -> str:
    root: str = request.scope.get("root_path", "")
    return root.rstrip("/")


def next_page(request: Request, cursor: str | None) -> dict[str, str]:
    """The header that leads to the page behind the one asked for, if there is one."""
    if cursor is None:
        return {}
    query = urlencode({**request.query_params, "cursor": cursor})
    return {"Link": f'<{here(request)}?{query}>; rel="next"'}


def replayed(handle: JobHandle[Any]) -> dict[str, str]:
    """The header that tells a job which this Idempotency-Key made before."""
    return {"Idempotent-Replayed": "true"} if handle.replayed else {}


def shown_path(request: Request) -> str:
    """The path without anything the client made up: only ids that could exist are left in it."""
    if "route" not in request.scope:
        return "/"
    path = here(request)
    for name, value in request.path_params.items():
        text = quote(str(value))
        if text and not UUID.fullmatch(text):
            before, _, after = path.rpartition(text)
            path = f"{before}:{name}{after}"
    return path


def shown_url(request: Request) -> str:
    """The URL to write into a text. A Host header can hold anything, so only a plain one is repeated."""
    host = request.headers.get("host", "")
    authority = host if _PLAIN_HOST.fullmatch(host) else "127.0.0.1:8000"
    return f"{request.scope['scheme']}://{authority}{shown_path(request)}"
