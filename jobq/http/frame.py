"""What our own applications have around the routes. Applications of others bring theirs."""

from __future__ import annotations

import sys

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobq.errors import ConfigError, JobqError
from jobq.http import problems
from jobq.http.errors import answer
from jobq.http.request import request_id


def install_problems(app: FastAPI) -> None:
    """Make every error of this application a problem that names its request, and serve the pages that explain them."""
    for kind in (HTTPException, RequestValidationError, JobqError):
        app.add_exception_handler(kind, _report)
    app.add_middleware(Frame)
    app.include_router(problems.router)


async def _report(request: Request, error: Exception) -> Response:
    return answer(request, error)


class Frame:
    """Names each request, answers for errors nobody expected, and tells in one line why the start failed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        else:
            await self._app(scope, receive, _in_one_line(send))

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        name, started = request_id(scope), False

        async def named(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["X-Request-ID"] = name
            await send(message)

        try:
            await self._app(scope, receive, named)
        except ClientDisconnect:
            return
        except Exception as error:
            if started:
                raise  # the server breaks the connection off: half an answer must not look whole
            await answer(Request(scope), error)(scope, receive, named)


def _in_one_line(send: Send) -> Send:
    """Starlette reports a failed start with its traceback. A ConfigError is for people, who need its text only."""

    async def told(message: Message) -> None:
        error = sys.exception()
        if message["type"] == "lifespan.startup.failed" and isinstance(error, ConfigError):
            message["message"] = str(error)
        await send(message)

    return told
