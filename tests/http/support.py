"""Tasks to talk about over HTTP, and a worker that is driven by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from jobq import Job, Registry, Settings
from jobq.policy import Outcome, Rules, settle
from jobq.record import parse
from jobq.store.store import Claim, Settlement, Store

registry = Registry()


@registry.task
def send_email(to: str = "you@example.com", subject: str = "Hello") -> str:
    """Pretend to send a mail.

    Second paragraph.
    """
    return to


@registry.task(queue="numbers", example={"left": 1, "right": 2})
def add(left: int, right: int) -> int:
    return left + right


class Circle(BaseModel):
    kind: Literal["circle"]
    radius: float


class Square(BaseModel):
    kind: Literal["square"]
    side: float


@registry.task
def draw(shape: Annotated[Circle | Square, Field(discriminator="kind")]) -> None:
    """Draw nothing."""


@registry.task
def keep(value: Any = None, **more: Any) -> Any:
    """Take anything."""
    return value


@dataclass
class Hand:
    """A worker that does one thing at a time, when told to."""

    store: Store
    settings: Settings
    name: str = "hand"
    seq: int = 0

    async def claim(self, queues: str = "default,numbers") -> tuple[Job, Claim]:
        [claim] = (await self._pump([], 1, queues)).claims
        return parse(claim.job_id, claim.record), claim

    async def settle(self, job: Job, claim: Claim, outcome: Outcome) -> str:
        rules = Rules.of(job.stated(), registry.get(job.task), self.settings)
        change = settle(job, outcome, rules, now=job.started_at or 0)
        row = Settlement(job.job_id, claim.token, change.outcome, change.job.text(), change.body, change.due or "")
        verdict: str
        [verdict] = (await self._pump([row], 0, "default")).verdicts
        return verdict

    async def run(self, outcome: Outcome) -> str:
        """Claim one job and settle it so; its id."""
        job, claim = await self.claim()
        assert await self.settle(job, claim, outcome) == "ok"
        return job.job_id

    async def _pump(self, settles: list[Settlement], want: int, queues: str) -> Any:
        self.seq += 1
        return await self.store.pump(
            (self.name, "0"), self.seq, settles, want, lease=15_000, result_ttl=60_000, queues=queues
        )
