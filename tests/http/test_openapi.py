"""The OpenAPI document: what `/docs` offers, and what clients are generated from."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, EmailStr, Field

from jobq import Registry, Settings
from jobq.http.app import create_app
from jobq.http.examples import submits

OPERATIONS = {
    ("post", "/submit-job"): "submit_job",
    ("get", "/job-status/{job_id}"): "get_job_status",
    ("post", "/v1/jobs"): "create_job",
    ("get", "/v1/jobs/{job_id}"): "get_job",
    ("get", "/v1/jobs/{job_id}/result"): "get_job_result",
    ("post", "/v1/jobs/{job_id}/cancel"): "cancel_job",
    ("post", "/v1/jobs/{job_id}/retry"): "retry_job",
    ("get", "/v1/jobs"): "list_jobs",
    ("delete", "/v1/jobs/{job_id}"): "delete_job",
    ("post", "/v1/jobs/batch"): "submit_batch",
    ("get", "/v1/jobs/{job_id}/logs"): "get_job_logs",
    ("get", "/v1/queues"): "list_queues",
    ("get", "/v1/queues/{queue}"): "get_queue",
    ("post", "/v1/queues/{queue}/pause"): "pause_queue",
    ("post", "/v1/queues/{queue}/resume"): "resume_queue",
    ("post", "/v1/queues/{queue}/purge"): "purge_queue",
    ("get", "/v1/workers"): "list_workers",
    ("post", "/v1/workers/{worker}/quiet"): "quiet_worker",
    ("post", "/v1/workers/{worker}/stop"): "stop_worker",
    ("get", "/v1/tasks"): "list_tasks",
    ("get", "/v1/tasks/{task}"): "get_task",
    ("get", "/healthz"): "healthz",
    ("get", "/readyz"): "readyz",
}
SUBMITS = ["/submit-job", "/v1/jobs"]


@pytest.fixture
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(method, path): one for path, methods in document["paths"].items() for method, one in methods.items()}


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        here = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return here.union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


async def test_document_is_served(http: httpx.AsyncClient, document: dict[str, Any]) -> None:
    """The document is OpenAPI 3.1, where /docs looks for it."""
    served = (await http.get("/openapi.json")).json()
    assert served["openapi"].startswith("3.1")
    assert served == document


def test_operation_ids(document: dict[str, Any]) -> None:
    """Generated clients have methods of these names."""
    assert {key: one["operationId"] for key, one in operations(document).items()} == OPERATIONS


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_are_described(document: dict[str, Any], operation: tuple[str, str]) -> None:
    """Each has a summary, a description and a success, and none has FastAPI's own validation error."""
    described = operations(document)[operation]
    assert described["summary"]
    assert described["description"]
    assert {"200", "202", "204"} & described["responses"].keys()
    assert "HTTPValidationError" not in str(described)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_problems_are_documented(document: dict[str, Any], operation: tuple[str, str]) -> None:
    """Each error is problem+json alone, with an example of each kind."""
    errors = {int(s): r for s, r in operations(document)[operation]["responses"].items() if int(s) >= 400}
    for status, response in errors.items():
        [(media_type, content)] = response["content"].items()
        assert (media_type, content["schema"]) == ("application/problem+json", {"$ref": "#/components/schemas/Problem"})
        assert {example["value"]["status"] for example in content["examples"].values()} == {status}


def test_all_references_lead_somewhere(document: dict[str, Any]) -> None:
    """No schema is missing."""
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= schemas


@pytest.mark.parametrize("path", SUBMITS)
async def test_every_task_can_be_tried_out(document: dict[str, Any], http: httpx.AsyncClient, path: str) -> None:
    """There is one example for each task, and each is accepted as it stands."""
    examples = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert {name: example["value"] for name, example in examples.items()} == {
        "send_email": {"task": "send_email"},
        "add": {"task": "add", "payload": {"left": 1, "right": 2}},
        "draw": {"task": "draw", "payload": {"shape": {"kind": "circle", "radius": 1}}},
        "keep": {"task": "keep"},
    }
    assert examples["send_email"]["description"] == "Pretend to send a mail."
    for example in examples.values():
        assert (await http.post(path, json=example["value"])).status_code in (200, 202)


async def test_batch_can_be_tried_out(document: dict[str, Any], http: httpx.AsyncClient) -> None:
    """Its example has a job of each task, and all are stored."""
    [example] = body_examples(document, "/v1/jobs/batch")
    answer = await http.post("/v1/jobs/batch", json=example)
    assert (len(answer.json()["accepted"]), answer.json()["rejected"]) == (4, [])


async def test_purge_can_be_tried_out(document: dict[str, Any], http: httpx.AsyncClient) -> None:
    """Its example fits the queue of the example."""
    [example] = body_examples(document, "/v1/queues/{queue}/purge")
    assert (await http.post("/v1/queues/default/purge", json=example)).json() == {"purged": 0}


def body_examples(document: dict[str, Any], path: str) -> list[Any]:
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return [example["value"] for example in body["examples"].values()]


def test_key_is_optional_where_there_is_none(document: dict[str, Any]) -> None:
    """Without JOBQ_API_KEY the document says that the scheme may be left out."""
    assert operations(document)["get", "/v1/jobs"]["security"] == [{"bearer": []}, {}]


def test_path_parameters_have_examples(document: dict[str, Any]) -> None:
    """So that a page that shows the document can fill them in."""
    for operation in operations(document).values():
        assert all("examples" in p for p in operation.get("parameters", ()) if p["in"] == "path"), operation


def test_application_without_tasks(settings: Settings) -> None:
    """A service that has no tasks has a document, too."""
    assert create_app(settings, Registry()).openapi()["paths"].keys() == {path for _, path in OPERATIONS}


class Address(BaseModel):
    street: Annotated[str, Field(min_length=6)]
    code: Annotated[int, Field(gt=10)]
    country: str = "NL"


def demanding(
    to: EmailStr,
    address: Address,
    when: Literal["now", "later"],
    job: UUID,
    rate: Annotated[float, Field(lt=0.5)],
    names: Annotated[list[str], Field(min_length=2)],
    flag: bool,
    either: int | str,
    maybe: str | None,
    pair: tuple[int, str],
    hint: Annotated[str, Field(examples=["a good one"])],
    default: int = 3,
) -> None:
    """Asks for everything."""


def test_payload_made_from_a_signature() -> None:
    """A task without an example gets one with what it requires, and it fits."""
    registry = Registry()
    task = registry.task(demanding)
    payload = submits(registry)["demanding"]["payload"]
    assert payload == {
        "to": "you@example.com", "address": {"street": "textxx", "code": 11}, "when": "now",
        "job": "019ab9c0-6f2e-7c51-9d53-4f1c2a7be001", "rate": -0.5, "names": ["text", "text"], "flag": False,
        "either": 1, "maybe": "text", "pair": [1, "text"], "hint": "a good one",
    }  # fmt: skip
    assert task.parameters.model_validate(payload)
