"""The OpenAPI document, completed by what only the application knows: which tasks there are."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from fastapi import FastAPI

from jobq.http.errors import MEDIA_TYPE
from jobq.http.examples import submits
from jobq.http.schemas import BatchSubmit, NewJob, SubmitJob
from jobq.task import Registry


def describe(app: FastAPI, registry: Registry, prefix: str = "") -> None:
    """Fill in the document of this application, for what is below the prefix.

    `/docs` then offers a request for each task.
    """
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        made_before = app.openapi_schema is not None
        document = plain()
        if not made_before:
            for operation in _operations(document, prefix):
                _problems_only(operation, prefix)
                _offer(operation, registry)
                if not _has_key(app):
                    _key_optional(operation)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _operations(document: dict[str, Any], prefix: str) -> Iterator[dict[str, Any]]:
    for path, operations in document["paths"].items():
        if path.startswith(f"{prefix}/"):
            yield from operations.values()


def _problems_only(operation: dict[str, Any], prefix: str) -> None:
    """FastAPI lists the model of a response under JSON too; problems come as problem+json alone, explained below us."""
    for response in operation["responses"].values():
        if MEDIA_TYPE in (content := response.get("content", {})):
            content.pop("application/json", None)
            # A copy: applications of one process share the examples.
            content[MEDIA_TYPE] = shown = deepcopy(content[MEDIA_TYPE])
            for example in shown.get("examples", {}).values():
                example["value"]["type"] = prefix + example["value"]["type"]


def _has_key(app: FastAPI) -> bool:
    client = getattr(app.state, "jobq", None)
    return client is not None and client.settings.api_key is not None


def _key_optional(operation: dict[str, Any]) -> None:
    """Without security requirements, as OpenAPI writes that, for as long as the service has no key."""
    if "security" in operation:
        operation["security"].append({})


def _offer(operation: dict[str, Any], registry: Registry) -> None:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    model = body.get("schema", {}).get("$ref", "").rpartition("/")[2]
    examples = submits(registry)
    if model in (SubmitJob.__name__, NewJob.__name__):
        summaries = {task.name: task.doc.partition("\n")[0] for task in registry}
        body["examples"] = {
            name: {"summary": name, "description": summaries[name], "value": value} for name, value in examples.items()
        }
    if model == BatchSubmit.__name__:
        body["examples"] = {"one of each task": {"value": {"jobs": list(examples.values())}}} if examples else {}
