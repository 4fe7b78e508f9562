"""The OpenAPI document, completed by what only the application knows: which tasks there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from jobq.http.errors import MEDIA_TYPE
from jobq.http.examples import submits
from jobq.http.schemas import NewJob, SubmitJob
from jobq.task import Registry


def describe(app: FastAPI, registry: Registry) -> None:
    """Fill in the document of this application: `/docs` then offers a request for each task."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        made_before = app.openapi_schema is not None
        document = plain()
        if not made_before:
            for operation in _operations(document):
                _problems_only(operation)
                _offer(operation, registry)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def _problems_only(operation: dict[str, Any]) -> None:
    """FastAPI lists the model of a response under JSON too; problems come as problem+json alone."""
    for response in operation["responses"].values():
        if MEDIA_TYPE in (content := response.get("content", {})):
            content.pop("application/json", None)


def _offer(operation: dict[str, Any], registry: Registry) -> None:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    if body.get("schema", {}).get("$ref") in _SUBMITS:
        summaries = {task.name: task.doc.partition("\n")[0] for task in registry}
        body["examples"] = {
            name: {"summary": name, "description": summaries[name], "value": value}
            for name, value in submits(registry).items()
        }


_SUBMITS = [f"#/components/schemas/{model.__name__}" for model in (SubmitJob, NewJob)]
