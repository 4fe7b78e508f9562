"""JobRoute: looks at a request before FastAPI does, and answers errors itself.

That way the routers behave alike in our own application and in anyone else's, whose error handlers stay as they are.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import cached_property
from typing import Any, ClassVar

from fastapi import Request, Response
from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel

from jobq.errors import JobqError
from jobq.http import auth, strict
from jobq.http.errors import API_HEADERS, BodyTooLarge, BodyTooSlow, Misfit, NotJson, WrongMediaType, answer
from jobq.http.examples import example_body
from jobq.http.request import shown_url

MAX_BODY = 128 * 1024
"""Bytes of a request for one job: the payload's limit, and room for the rest."""
BODY_SECONDS = 30.0
"""For a whole body to arrive. The server itself would wait as long as there is a byte now and then."""
IDEMPOTENCY_KEY = "Idempotency-Key"


class JobRequest(Request):
    """A request whose body is read once, up to a limit of bytes and of time, as strict JSON."""

    max_body = MAX_BODY
    body_seconds = BODY_SECONDS
    max_depth = strict.MAX_DEPTH

    async def body(self) -> bytes:
        """Raises BodyTooLarge, without reading more than the limit, and BodyTooSlow."""
        if not hasattr(self, "_body"):
            declared = self.headers.get("content-length", "")
            if declared.isdecimal() and (len(declared) > 9 or int(declared) > self.max_body):
                raise self._too_large()
            try:
                async with asyncio.timeout(self.body_seconds):
                    self._body = await self._read()
            except TimeoutError:
                raise BodyTooSlow(f"a body has to arrive within {self.body_seconds:g} s") from None
        return self._body

    async def _read(self) -> bytes:
        body = bytearray()
        async for chunk in self.stream():
            body += chunk
            if len(body) > self.max_body:
                raise self._too_large()
        return bytes(body)

    async def json(self) -> Any:
        """Raises NotJson."""
        if not hasattr(self, "_json"):
            try:
                self._json = strict.loads(await self.body(), self.max_depth)
            except ValueError as error:
                raise NotJson(f"the body cannot be read as JSON: {error}") from None
        return self._json

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the limit is {self.max_body} bytes")


class JobRoute(APIRoute):
    """A route with the rules of this API about keys, bodies and errors."""

    request_class: ClassVar[type[JobRequest]] = JobRequest
    guarded: ClassVar[bool] = True
    """Whether it asks for the service's key, where that has one."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(plain: Request) -> Response:
            request = self.request_class(plain.scope, plain.receive)
            try:
                self._check_key(request)
                self._check_extras(request)
                await self._check_body(request)
                response = await handle(request)
            except (JobqError, RequestValidationError) as error:
                response = answer(request, error)
            for name, value in API_HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return handler

    def _check_key(self, request: Request) -> None:
        client = getattr(request.app.state, "jobq", None)
        if self.guarded and client is not None:
            auth.check(request.headers, client.settings)

    def _check_extras(self, request: Request) -> None:
        """What has no effect must not be accepted and ignored: a caller would rely on it."""
        if IDEMPOTENCY_KEY in request.headers and IDEMPOTENCY_KEY not in self._header_names:
            raise Misfit([(("header", IDEMPOTENCY_KEY), "Not supported here")])
        given = Counter(name for name, _ in request.query_params.multi_items())
        if unknown := given.keys() - self._query_names:
            raise Misfit([(("query", name), "Extra inputs are not permitted") for name in sorted(unknown)])
        if repeated := sorted(name for name, times in given.items() if times > 1):
            raise Misfit([(("query", name), "Given more than once") for name in repeated])

    @cached_property
    def _query_names(self) -> set[str]:
        return {name for dependant in _all(self.dependant) for name in _names(dependant.query_params)}

    @cached_property
    def _header_names(self) -> set[str]:
        return {name for dependant in _all(self.dependant) for name in _names(dependant.header_params)}

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
        key = ' -H "Authorization: Bearer $JOBQ_API_KEY"' if client and client.settings.api_key else ""
        return (
            f"curl -X {request.method} {shown_url(request)}{key} -H 'Content-Type: application/json'"
            f" -d {shlex.quote(body)}"
        )


class OpenRoute(JobRoute):
    """One that anybody may ask."""

    guarded = False


def _all(dependant: Dependant) -> Iterator[Dependant]:
    """This one, and what it depends on."""
    yield dependant
    for below in dependant.dependencies:
        yield from _all(below)


def _names(fields: Iterable[ModelField]) -> set[str]:
    """What these parameters are called in a request. Those of a model are its fields."""
    names: set[str] = set()
    for field in fields:
        model: Any = field.field_info.annotation
        is_model = isinstance(model, type) and issubclass(model, BaseModel)
        names |= model.model_fields.keys() if is_model else {field.alias}
    return names


def _is_plain_json(request: Request) -> bool:
    """FastAPI would guess at `application/vnd.x+json`, and at what a client means that says it twice."""
    types, codings = request.headers.getlist("content-type"), request.headers.getlist("content-encoding")
    return len(types) == 1 and bool(_JSON.fullmatch(types[0])) and set(codings) <= {"identity", ""}


_JSON = re.compile(r"\s*application/json\s*(;\s*charset\s*=\s*(utf-?8|\"utf-?8\")\s*)?;?\s*", re.IGNORECASE)
