"""What all pages have in common: navigation, templates, headers, and errors for people."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, NamedTuple

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException

from jobq import telemetry
from jobq.dashboard import show
from jobq.dashboard.files import static_url
from jobq.dashboard.guard import COOKIE, SignInFirst
from jobq.errors import JobqError
from jobq.http.timeline import printable


class Entry(NamedTuple):
    """A page that the navigation names: its path below `/dashboard`, and what it is called."""

    path: str
    title: str


PAGES: Final = (Entry("", "Overview"), Entry("queues", "Queues"), Entry("jobs", "Jobs"), Entry("workers", "Workers"))

SAID: Final = {
    "retried": "It is in its queue again, with all its retries.",
    "cancelled": "Cancelled: it will not run.",
    "asked": "Its worker has been asked to stop it.",
    "deleted": "The job was deleted.",
    "paused": "Paused: what runs goes on, nothing more is claimed.",
    "resumed": "Resumed.",
    "purged": "The jobs that were ready in that queue are forgotten.",
    "ordered": "The worker hears it within two seconds.",
}
"""What an action tells on the page it leads to, by the word in that page's URL."""

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {
    "age": show.age, "clip": show.clip, "note": show.note, "pretty": show.pretty, "printable": printable,
    "rate": show.rate, "took": show.took, "utc": show.utc,
}  # fmt: skip
_TEMPLATES.globals |= {
    "pages": PAGES, "said": SAID, "query": show.query, "relative": show.relative, "static": static_url,
    "LARGEST": show.LARGEST, "WORDS": show.WORDS,
}  # fmt: skip


class PageRoute(APIRoute):
    """A route for people: its errors are pages too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await handle(request)
            except SignInFirst:
                return render(request, "login", 401, title="Sign in", next=_below(request), wrong=False)
            except JobqError as error:
                return _failed(request, error.status, error.title, printable(str(error)))
            except RequestValidationError:
                return _failed(request, 422, "Not understood", "A part of this address is not what it should be.")
            except HTTPException as error:
                return _failed(request, error.status_code, "Not found", error.detail)
            except Exception as error:
                telemetry.logger().error("dashboard page failed", exc_info=error)
                return _failed(request, 500, "Something went wrong here", "The log of the service has the details.")

        return handler


def render(request: Request, template: str, code: int = 200, **values: Any) -> HTMLResponse:
    """The page. Every URL in it is relative: that holds below any prefix, also one that only a proxy knows."""
    depth = len(_segments(request))
    text = _TEMPLATES.get_template(f"{template}.html").render(
        base="../" * (depth - 1) if depth else "dashboard/",
        signed_in=COOKIE in request.cookies,
        told=SAID.get(request.query_params.get("said", ""), ""),
        **values,
    )
    return HTMLResponse(text, code, HEADERS)


def go(url: str) -> RedirectResponse:
    """After a form: to a page, relative to where the form was sent."""
    return RedirectResponse(url, 303)


def _failed(request: Request, status: int, title: str, detail: str) -> HTMLResponse:
    return render(request, "error", status, title=title, detail=detail)


def _segments(request: Request) -> list[str]:
    """Of the route below `/dashboard`, with its parameters by name."""
    return str(request.scope["route"].path).rpartition("/dashboard")[2].split("/")[1:]


def _below(request: Request) -> str:
    """The page that was asked for, as the login leads back to it."""
    if request.method != "GET":
        return ""
    depth = len(_segments(request))
    path = "/".join(request.scope["path"].split("/")[-depth:]) if depth else ""
    return f"{path}?{request.url.query}" if request.url.query else path
