"""JobRoute: looks at a request before FastAPI does, and answers errors itself.

That way the routers behave alike in our own application and in anyone else's, whose error handlers stay as they are.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from jobq.errors import JobqError
from jobq.http import strict
from jobq.http.errors import API_HEADERS, BodyTooLarge, Misfit, NotJson, WrongMediaType, answer
from jobq.http.examples import example_body
from jobq.http.request import shown_url

MAX_BODY = 128 * 1024
"""Bytes of a request for one job: the payload's limit, and room for the rest."""


class JobRequest(Request):
    """A request whose body is read once, up to a limit, as strict JSON."""

    async def body(self) -> bytes:
        """Raises BodyTooLarge, without reading more than the limit."""
        if not hasattr(self, "_body"):
            declared = self.headers.get("content-length", "")
            if declared.isdecimal() and (len(declared) > 9 or int(declared) > MAX_BODY):
                raise _too_large()
            body = bytearray()
            async for chunk in self.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise _too_large()
            self._body = bytes(body)
        return self._body

    async def json(self) -> Any:
        """Raises NotJson."""
        if not hasattr(self, "_json"):
            try:
                self._json = strict.loads(await self.body())
            except ValueError as error:
                raise NotJson(f"the body cannot be read as JSON: {error}") from None
        return self._json


class JobRoute(APIRoute):
    """A route with the rules of this API about bodies and errors."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(plain: Request) -> Response:
            request = JobRequest(plain.scope, plain.receive)
            try:
                self._check_extras(request)
                await self._check_body(request)
                response = await handle(request)
            except (JobqError, RequestValidationError) as error:
                response = answer(request, error)
            for name, value in API_HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return handler

    def _check_extras(self, request: Request) -> None:
        """What is not built must not be accepted and ignored: a caller would rely on it."""
        if "idempotency-key" in request.headers:
            raise Misfit([(("header", "Idempotency-Key"), "Not supported yet: give the job a job_id of your own")])
        known = {field.alias for field in self.dependant.query_params}
        if unknown := request.query_params.keys() - known:
            raise Misfit([(("query", name), "Extra inputs are not permitted") for name in sorted(unknown)])

    async def _check_body(self, request: JobRequest) -> None:
        if self.body_field is None:
            return
        if await request.body():
            if not _is_plain_json(request):
                raise WrongMediaType(f"send the body as application/json, in UTF-8: {self._curl(request)}")
            await request.json()
        elif self.body_field.field_info.is_required():
            raise NotJson(f"the body is missing: {self._curl(request)}")

    def _curl(self, request: Request) -> str:
        """A line that works."""
        assert self.body_field is not None
        client = getattr(request.app.state, "jobq", None)
        body = json.dumps(example_body(self.body_field.field_info.annotation, client.registry if client else None))
        return (
            f"curl -X {request.method} {shown_url(request)} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
        )


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"the limit is {MAX_BODY} bytes")


def _is_plain_json(request: Request) -> bool:
    """FastAPI would guess at `application/vnd.x+json`, and at what a client means that says it twice."""
    types, codings = request.headers.getlist("content-type"), request.headers.getlist("content-encoding")
    return len(types) == 1 and bool(_JSON.fullmatch(types[0])) and set(codings) <= {"identity", ""}


_JSON = re.compile(r"\s*application/json\s*(;\s*charset\s*=\s*(utf-?8|\"utf-?8\")\s*)?;?\s*", re.IGNORECASE)
