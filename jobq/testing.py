"""For tests of programs that use jobq: run what they have submitted, here and now, without a worker.

The fixtures `jobq_client`, `jobq_sync_client` and their like are in `testing_plugin.py`; pytest finds them by itself.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import replace

from jobq.client import Client
from jobq.errors import CorruptRecord, JobqError
from jobq.job import Job, Status
from jobq.policy import Outcome, Released, Rules, Unknown, settle
from jobq.record import inline_payload, is_canonical, parse
from jobq.store.store import Claim, Settlement
from jobq.sync import SyncClient
from jobq.task import Registry
from jobq.worker.attempt import Run
from jobq.worker.capture import capturing
from jobq.worker.emitter import Emitter
from jobq.worker.executor import Executor
from jobq.worker.pump import ServerClock

LEASE = 3_600_000
"""Ms: nobody extends it, and a test may stand in a debugger."""


class TooManyAttempts(JobqError, AssertionError):
    """`run_all` made as many attempts as it may, and there is more to do."""


async def run_all(client: Client, registry: Registry, *, limit: int = 1000) -> list[Job]:
    """Run every job that is due, with its retries and the jobs it submits, until none is left. Answers what ended.

    By the rules of a worker, but one attempt at a time, and a retry is due at once, whatever its back-off. A job whose
    `delay` or `run_at` is still ahead stays, and so does a paused queue. A task must not wait for another job's result:
    nobody would run that one.

    The jobs are in the order in which they ended, as they are stored then, failed ones among them. Raises UnknownTask
    for a job whose task is not in the registry (it is parked, as by a worker); TooManyAttempts after `limit` of them.
    """
    bench = _Bench(client, registry)
    over: list[Job] = []
    await bench.unpark()
    try:
        while (claim := await bench.claim()) is not None:
            if limit <= 0:
                await bench.give_back(claim)
                raise TooManyAttempts("more attempts than the limit: does a job submit itself again and again?")
            limit -= 1
            if await bench.run(claim) and (job := await client.get(claim.job_id)).status.over:
                over.append(job)
        return over
    finally:
        await bench.close()


def run_all_sync(client: SyncClient, registry: Registry, *, limit: int = 1000) -> list[Job]:
    """As `run_all`, for synchronous tests; it starts an event loop for the time of the call.

    `def` tasks run in another thread all the same, as in a worker. Not to be called where an event loop runs.
    """

    async def run() -> list[Job]:
        async with Client(settings=client.settings, registry=client.registry) as own:
            return await run_all(own, registry, limit=limit)

    return asyncio.run(run())


class _Bench:
    """A worker reduced to one slot: no heartbeat, no duties, and what it does is done when the call returns."""

    def __init__(self, client: Client, registry: Registry) -> None:
        self._client = client
        self._store = client._open_store
        self._registry = registry
        self._executor = Executor()
        self._emitter = Emitter(self._store)
        self._id = secrets.token_hex(16)
        self._seq = 0
        self._clock = ServerClock.read(0)

    async def unpark(self) -> None:
        """What another registry had no task for may be ours."""
        await self._store.unpark(await self._queues(), self._registry.names())

    async def claim(self) -> Claim | None:
        """The next job that is due."""
        await self._store.stage()
        claims = await self._pump((), 1)
        return claims[0] if claims else None

    async def run(self, claim: Claim) -> bool:
        """One attempt, to the point where it is settled. False when the job is none that waits to be run."""
        try:
            job = parse(claim.job_id, claim.record)
        except CorruptRecord as error:
            await self._pump([Settlement(claim.job_id, claim.token, "quarantine", body=str(error))])
            raise
        if not is_canonical(claim.record):
            if job.status is not Status.PENDING:
                await self._pump([Settlement(job.job_id, claim.token, "drop")])
                return False
            job = await self._adopt(claim, job)
        task = self._registry.get(job.task)
        rules = Rules.of(job.stated(), task, self._client.settings)
        if task is None:
            await self._settle(job, claim.token, Unknown(), rules)
            self._registry.require(job.task)
            return False
        payload = claim.payload if claim.payload is not None else inline_payload(job)
        run = Run(job, claim.token, payload, task, rules, self._emitter.open(job, claim.token))
        run.future = asyncio.create_task(self._carry_out(run))
        try:
            await asyncio.wait([run.future])
        except asyncio.CancelledError:
            # It is us who shall end, so the job goes back; a plain cancel would count as an error of the task's.
            run.interrupt(Released())
            await asyncio.wait([run.future])
            raise
        run.future.result()
        return True

    async def give_back(self, claim: Claim) -> None:
        await self._pump([Settlement(claim.job_id, claim.token, "release", claim.record.decode("utf-8", "replace"))])

    async def close(self) -> None:
        await self._executor.processes.close()

    async def _adopt(self, claim: Claim, job: Job) -> Job:
        """Bring a foreign producer's record into canonical form."""
        adopted = replace(
            job, status=Status.PROCESSING, attempt=job.attempt + 1, started_at=self._clock.now(), worker=self._id
        )
        await self._store.adopt(job.job_id, claim.token, claim.record, adopted.text())
        return adopted

    async def _carry_out(self, run: Run) -> None:
        with capturing():
            outcome = await self._executor.execute(run)
        await self._emitter.finish(run.log)
        await self._settle(run.job, run.token, outcome, run.rules)

    async def _settle(self, job: Job, token: str, outcome: Outcome, rules: Rules) -> None:
        to = settle(job, outcome, rules, self._clock.now())
        # Without `to.due`: a retry is not waited for.
        await self._pump([Settlement(job.job_id, token, to.outcome, to.job.text(), to.body)])

    async def _pump(self, settles: Sequence[Settlement], want: int = 0) -> list[Claim]:
        self._seq += 1
        pumped = await self._store.pump(
            (self._id, "0"), self._seq, settles, want,
            lease=LEASE, result_ttl=self._client.settings.result_ttl * 1000, queues=",".join(await self._queues()),
        )  # fmt: skip
        self._clock = ServerClock.read(pumped.now)
        return pumped.claims

    async def _queues(self) -> list[str]:
        """A worker's, in its order, and then all others: a test says nowhere which ones it serves."""
        own = self._registry.queues()
        return own + [name for name in await self._client.inspect.queue_names() if name not in own]
