"""The pages that a problem's `type` leads to, and the problems as OpenAPI shows them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request

from jobq.errors import JobqError
from jobq.http.errors import MEDIA_TYPE, NoSuchPath
from jobq.http.request import here
from jobq.http.route import OpenRoute
from jobq.http.schemas import Problem

router = APIRouter(route_class=OpenRoute, include_in_schema=False)


@router.get("/problems/{slug}")
async def explain_problem(slug: str, request: Request) -> dict[str, Any]:
    """What a problem of this type means."""
    for kind in _kinds(JobqError):
        if kind.slug == slug:
            return {"type": here(request), "title": kind.title, "status": kind.status, "description": _text(kind)}
    raise NoSuchPath("there is no such type of problem")


def responses(*kinds: type[JobqError]) -> dict[int | str, dict[str, Any]]:
    """The problems a route may answer with, for its `responses`."""
    documented: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        entry = documented.setdefault(
            kind.status,
            # The model is what makes FastAPI put the schema into the document.
            {
                "description": kind.title,
                "model": Problem,
                "content": {MEDIA_TYPE: {"schema": _PROBLEM, "examples": {}}},
            },
        )
        entry["content"][MEDIA_TYPE]["examples"][kind.slug] = {"summary": kind.title, "value": _example(kind)}
    return documented


_PROBLEM = {"$ref": "#/components/schemas/Problem"}


def _example(kind: type[JobqError]) -> dict[str, Any]:
    return {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": _text(kind).partition("\n\n")[0].replace("\n", " "),
        "instance": "/",
        "request_id": "3f0a8f6bb2a34c0f9d4e3a1c5d7e9b20",
    }


def _kinds(root: type[JobqError]) -> Iterator[type[JobqError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _kinds(kind)


def _text(kind: type[JobqError]) -> str:
    return inspect.getdoc(kind) or kind.title
