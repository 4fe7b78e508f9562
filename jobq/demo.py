"""`up --demo`: one job of each task, through the HTTP API as any stranger would, shown from submit to result."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any

from jobq.job import Status
from jobq.task import Registry, Task

LIMIT = 60.0
"""Seconds in which the jobs must be over."""
POLL = 0.2
WIDEST = 300
"""Characters shown of an outcome."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Api:
    """The HTTP API at this address. Answers are status and JSON, or 0 and nothing when it does not answer."""

    host: str
    port: int
    key: str | None = None

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        return await asyncio.to_thread(self._call, "GET", path)

    async def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        return await asyncio.to_thread(self._call, "POST", path, json.dumps(body).encode())

    def curl(self, body: Mapping[str, Any]) -> str:
        """The command line that submits a job."""
        text = shlex.quote(json.dumps(body, ensure_ascii=False))
        key = ' -H "Authorization: Bearer $JOBQ_API_KEY"' if self.key else ""
        return f"curl -X POST {self.url}/submit-job{key} -H 'Content-Type: application/json' -d {text}"

    def _call(self, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
        connection = HTTPConnection(self.host, self.port, timeout=5)
        try:
            headers = {"Content-Type": "application/json"} if body else {}
            if self.key:
                headers["Authorization"] = f"Bearer {self.key}"
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, json.load(response)
        except (OSError, HTTPException, ValueError):
            return 0, {}
        finally:
            connection.close()


@dataclass
class Shown:
    """A job of the demo, as far as it is known."""

    task: str
    job_id: str
    status: Status | None = None
    retries: int = 0
    outcome: str = ""

    @property
    def over(self) -> bool:
        return self.status is not None and self.status.over

    def learn(self, status: Status, retries: int) -> bool:
        """Whether this is news."""
        known = self.status, self.retries
        self.status, self.retries = status, retries
        return known != (status, retries)


async def demo(api: Api, registry: Registry, say: Say) -> bool:
    """Whether all jobs were accepted, and over in time."""
    submitted = [await _submit(api, example(task), say) for task in registry]
    jobs = [job for job in submitted if job]
    say("")
    try:
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*(_follow(api, job, say) for job in jobs))
    except TimeoutError:
        say(f"not all jobs were over within {LIMIT:g} s")
    say(table(jobs))
    return len(jobs) == len(submitted) and all(job.over for job in jobs)


def example(task: Task[..., Any]) -> dict[str, Any]:
    """A request that shows the task."""
    payload = dict(task.defaults.example)
    return {"task": task.name, "payload": payload} if payload else {"task": task.name}


def table(jobs: list[Shown]) -> str:
    """The jobs and what became of them, a line each."""
    rows = [("task", "status", "retries", "outcome")]
    rows += [(job.task, job.status or "unknown", str(job.retries), job.outcome) for job in jobs]
    *narrow, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, (*narrow, 0), strict=True)) for row in rows]
    return "\n".join(("", *lines, ""))


async def _submit(api: Api, body: Mapping[str, Any], say: Say) -> Shown | None:
    say(f"\n$ {api.curl(body)}")
    code, answer = await api.post("/submit-job", body)
    say(json.dumps(answer, ensure_ascii=False))
    return Shown(body["task"], answer["job_id"]) if code == 200 else None


async def _follow(api: Api, job: Shown, say: Say) -> None:
    """Say what is new until the job is over."""
    while not job.over:
        code, answer = await api.get(f"/job-status/{job.job_id}")
        if code == 200 and job.learn(Status(answer["status"]), answer["retries"]):
            say(f"{job.task}: {job.status}{f' (retries: {job.retries})' if job.retries else ''}")
        if not job.over:
            await asyncio.sleep(POLL)
    _, details = await api.get(f"/v1/jobs/{job.job_id}")
    job.outcome = _outcome(details)


def _outcome(details: Mapping[str, Any]) -> str:
    if error := details.get("error"):
        text = f"gave up: {error.get('type')}: {error.get('message')}"
    else:
        text = json.dumps(details.get("result"), ensure_ascii=False)
    return text if len(text) <= WIDEST else f"{text[:WIDEST]}…"
