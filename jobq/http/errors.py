"""Every error as problem+json (RFC 9457). Nothing of the input is echoed, and no traceback leaves the house."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Match

from jobq import telemetry
from jobq.errors import BadRequest, Conflict, InvalidPayload, JobFailed, JobqError, StoreUnavailable
from jobq.http.request import problem_page, request_id, shown_path
from jobq.http.timeline import error_view, printable

MEDIA_TYPE = "application/problem+json"
API_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""On every answer of the API: jobs are nobody's cache's business, and JSON is not to be taken for a page."""

Errors = Iterable[tuple[Iterable[str | int], str]]
"""Pairs of location and message."""


class NotJson(JobqError):
    """The body is missing, or it is not JSON that means one thing only.

    Refused are also two members of the same name, `NaN` and `Infinity`, numbers too large to be read, half surrogate
    pairs, and nesting of more than 32 levels.
    """

    status = 400
    slug = "not-json"
    title = "The body is not JSON"


class WrongMediaType(JobqError):
    """Bodies are `application/json` in UTF-8, without a content encoding."""

    status = 415
    slug = "unsupported-media-type"
    title = "The body is of the wrong media type"


class BodyTooLarge(JobqError):
    """The body has more bytes than are read."""

    status = 413
    slug = "body-too-large"
    title = "Body too large"


class BodyTooSlow(JobqError):
    """The body did not arrive in time. Nothing was done: send it again, on a connection of its own."""

    status = 408
    slug = "body-too-slow"
    title = "Body too slow"


class Unauthorized(JobqError):
    """The request brings no key, or not the service's. Send it as `Authorization: Bearer <key>`, and nowhere else."""

    status = 401
    slug = "unauthorized"
    title = "Not authorized"


class BadIdempotencyKey(JobqError):
    """The Idempotency-Key is empty, longer than 128 characters, not printable, or there are two."""

    status = 400
    slug = "bad-idempotency-key"
    title = "Idempotency-Key cannot be used"


class BadCursor(JobqError):
    """The cursor is not one that this list gave out, for the same filter."""

    status = 400
    slug = "bad-cursor"
    title = "Cursor cannot be used"


class QueueNotFound(JobqError):
    """Nobody ever submitted to a queue of this name, no task names it, and no worker serves it."""

    status = 404
    slug = "queue-not-found"
    title = "Queue not found"


class WorkerNotFound(JobqError):
    """No worker of this id is there, or no longer."""

    status = 404
    slug = "worker-not-found"
    title = "Worker not found"


class TaskNotFound(JobqError):
    """The service has no task of this name."""

    status = 404
    slug = "task-not-found"
    title = "Task not found"


class Misfit(BadRequest):
    """The request does not have the shape that the route asks for."""

    def __init__(self, errors: Errors) -> None:
        self.errors = list(errors)
        super().__init__("the request does not have the right shape")


class NoSuchPath(JobqError):
    """There is nothing at this path."""

    status = 404
    slug = "not-found"
    title = "Not found"


class MethodNotAllowed(JobqError):
    """The path exists, but not with this method. The `Allow` header names those it has."""

    status = 405
    slug = "method-not-allowed"
    title = "Method not allowed"


def answer(request: Request, error: Exception) -> JSONResponse:
    """The problem that reports this error."""
    match error:
        case RequestValidationError():
            return answer(request, Misfit((e["loc"], e["msg"]) for e in error.errors()))
        case HTTPException():
            return _from_http(request, error)
        case JobqError() if error.status != JobqError.status:
            return _respond(problem_of(request, error), _headers(error))
        case _:
            return _unexpected(request, error)


def told(error: JobqError) -> dict[str, Any]:
    """The problem without what it has of its request."""
    kind, more = type(error), _more(error)
    detail = _summary(more["errors"]) if more.get("errors") else printable(str(error))
    return {"title": kind.title, "status": kind.status, "detail": detail, **more}


def problem_of(request: Request, error: JobqError) -> dict[str, Any]:
    """The whole problem."""
    return {"type": problem_page(request, error.slug), **told(error), **_where(request)}


def _where(request: Request) -> dict[str, str]:
    return {"instance": shown_path(request), "request_id": request_id(request.scope)}


def _respond(problem: dict[str, Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(problem, problem["status"], {**API_HEADERS, **(headers or {})}, MEDIA_TYPE)


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    name = request_id(request.scope)
    telemetry.logger().error("request failed", path=shown_path(request), request_id=name, exc_info=error)
    told_instead = JobqError("something went wrong here; the log has it under the request_id")
    return _respond(problem_of(request, told_instead))


def _more(error: JobqError) -> dict[str, Any]:
    """What an error knows beyond its text."""
    match error:
        case Misfit():
            return {"errors": _located(error.errors)}
        case InvalidPayload():
            return {"errors": _located((("body", "payload", *location), message) for location, message in error.errors)}
        case Conflict():
            return {"job_status": error.job_status}
        case JobFailed():
            return {"error": error_view({"type": error.type, "message": str(error), "reason": error.reason})}
        case _:
            return {}


def _headers(error: JobqError) -> dict[str, str]:
    match error:
        case StoreUnavailable():
            return {"Retry-After": str(error.retry_after)}
        case BodyTooLarge() | BodyTooSlow():
            return {"Connection": "close"}  # what was not read would be taken for the next request
        case Unauthorized():
            return {"WWW-Authenticate": "Bearer", "Connection": "close"}
        case _:
            return {}


def _from_http(request: Request, error: HTTPException) -> JSONResponse:
    match error.status_code:
        case 404:
            missing = NoSuchPath("there is nothing at this path; /docs shows what there is")
            return _respond(problem_of(request, missing), error.headers)
        case 405:
            wrong = MethodNotAllowed("this path has other methods; the Allow header names them")
            return _respond(problem_of(request, wrong), {"Allow": ", ".join(_methods(request))})
        case status:
            phrase = HTTPStatus(status).phrase
            problem = {"type": "about:blank", "title": phrase, "status": status, "detail": phrase}
            return _respond({**problem, **_where(request)}, error.headers)


def _methods(request: Request) -> list[str]:
    """All that this path has. The error knows those of the first route alone."""

    def fits(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes)

    return [method for method in ("GET", "POST", "PUT", "PATCH", "DELETE") if fits(method)]


def _summary(errors: list[dict[str, Any]]) -> str:
    """For those who read the detail alone."""
    return "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in errors[:5])


_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def _located(errors: Errors) -> list[dict[str, Any]]:
    """A location may hold the name of a member that the client made up."""
    return [
        {"loc": [_plain(part) for part in location], "msg": message.removeprefix("Value error, ")}
        for location, message in errors
    ]


def _plain(part: str | int) -> str | int:
    return part if isinstance(part, int) or _WORD.fullmatch(part) else "?"
