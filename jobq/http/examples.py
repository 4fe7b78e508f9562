"""Request bodies to show and to try the service with."""

from __future__ import annotations

from typing import Any

from pydantic.errors import PydanticInvalidForJsonSchema

from jobq.http.schemas import BatchSubmit, NewJob, SubmitJob
from jobq.http.views import PurgeQueue
from jobq.task import Registry, Task


def submits(registry: Registry | None) -> dict[str, dict[str, Any]]:
    """A body for each task, by the task's name."""
    return {task.name: _submit(task) for task in registry or ()}


def example_body(model: Any, registry: Registry | None) -> dict[str, Any]:
    """A short body that the route of this model accepts."""
    if model is PurgeQueue:
        return {"confirm": "default"}
    if model is BatchSubmit:
        return {"jobs": [example_body(NewJob, registry)]}
    if not (isinstance(model, type) and issubclass(model, SubmitJob)):
        return {"reason": "no longer needed"}
    for task in registry or ():
        if not _required(task):
            return {"task": task.name}
    return next(iter(submits(registry).values()), {"task": "send_email"})


def _submit(task: Task[..., Any]) -> dict[str, Any]:
    payload = dict(task.defaults.example) or (_payload(task) if _required(task) else {})
    return {"task": task.name, "payload": payload} if payload else {"task": task.name}


def _required(task: Task[..., Any]) -> bool:
    return any(field.is_required() for field in task.parameters.model_fields.values())


def _payload(task: Task[..., Any]) -> dict[str, Any]:
    """The least that fits the task's signature, as far as JSON Schema tells."""
    try:
        schema = task.parameters.model_json_schema()
    except PydanticInvalidForJsonSchema:
        return {}
    payload: dict[str, Any] = _sample(schema, schema.get("$defs", {}))
    return payload


_STRINGS = {
    "date-time": "2030-01-31T12:00:00Z",
    "date": "2030-01-31",
    "time": "12:00:00Z",
    "duration": "PT1M",
    "uuid": "019ab9c0-6f2e-7c51-9d53-4f1c2a7be001",
    "email": "you@example.com",
    "uri": "https://example.com/",
    "binary": "",
}


def _sample(schema: Any, shared: dict[str, Any]) -> Any:
    """A value that fits the schema."""
    match schema:
        case {"examples": [first, *_]} | {"default": first} | {"const": first} | {"enum": [first, *_]}:
            return first
        case {"$ref": str(reference)}:
            return _sample(shared[reference.rpartition("/")[2]], shared)
        case {"anyOf": [first, *_]} | {"oneOf": [first, *_]} | {"allOf": [first, *_]}:
            return _sample(first, shared)
        case {"type": "object"}:
            properties = schema.get("properties", {})
            return {name: _sample(properties[name], shared) for name in schema.get("required", ())}
        case {"type": "array"}:
            items = [*schema.get("prefixItems", ())] or [schema.get("items", {})] * schema.get("minItems", 0)
            return [_sample(item, shared) for item in items]
        case {"type": "string"}:
            text: str = _STRINGS.get(schema.get("format", ""), "text")
            return text.ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]
        case {"type": "integer" | "number"}:
            return _number(schema)
        case {"type": "boolean"}:
            return False
        case _:
            return None


def _number(schema: dict[str, Any]) -> Any:
    if "minimum" in schema:
        return schema["minimum"]
    if "exclusiveMinimum" in schema:
        return schema["exclusiveMinimum"] + 1
    return min(1, schema.get("maximum", 1), schema.get("exclusiveMaximum", 2) - 1)
