"""Worker: composes pump, executor, leases and duties; starts and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from jobq.errors import CorruptRecord, StoreUnavailable
from jobq.job import Job, Status
from jobq.policy import Cancelled, Outcome, Released, Rules, Unknown, settle
from jobq.record import inline_payload, is_canonical, parse
from jobq.settings import Settings
from jobq.store.connect import Server, connect
from jobq.store.readiness import Readiness
from jobq.store.store import Claim, Settlement
from jobq.task import Registry
from jobq.telemetry import logger
from jobq.worker.attempt import Run
from jobq.worker.capture import capturing
from jobq.worker.duties import Duties, Duty, keep
from jobq.worker.emitter import Emitter
from jobq.worker.executor import Executor
from jobq.worker.journal import Journal
from jobq.worker.leases import Leases, Verdict
from jobq.worker.pump import Pump, Queues, ServerClock

LAST_WORDS = 1.0
"""Seconds that interrupted jobs get to end, before they are given back without having ended."""
PRESENCE_TTL = 10_000
"""Ms after which a worker that says nothing is no longer shown."""
FITNESS = 5.0
"""Seconds between looks at what the server is like, and whether it still has its data."""
EXIT_STUCK = 75
"""EX_TEMPFAIL: too many threads could not be ended; start the worker again."""


class Worker:
    """Serves a registry's tasks until stopped. With `burst`, until nothing is ready and nothing runs.

    `before` is called in each attempt before the task; raising there fails the attempt.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        *,
        burst: bool = False,
        before: Callable[[], None] | None = None,
    ) -> None:
        self.id = secrets.token_hex(16)
        self.settings = settings
        self.registry = registry
        self.burst = burst
        self.exit_code = 0
        self.executor = Executor(before)
        self.queues = Queues(settings.queues or registry.queues())
        self._runs: dict[str, Run] = {}
        self._journal = Journal()
        self._started_at = round(time.time() * 1000)
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self, server: Server | None = None) -> int:
        """Work until stopped; the exit code. Raises ConfigError when there is no server to work for."""
        server = server or await connect(self.settings)
        self._store = server.store()
        self._emitter = Emitter(self._store)
        loop = asyncio.get_running_loop()
        heart = server.heart(timeout=min(self.settings.lease / 3, 5.0))
        self._leases = Leases(heart, self.settings.lease, partial(self._pass_on, loop))
        self._pump = Pump(server, self.id, self.settings, self.queues, self._start, self._leases.drop)
        duties = Duties(self._store, self.settings, self.queues.names, self.registry).all()
        duties.append(Duty("present", 2.0, self._present))
        self._readiness = Readiness(self._store, self.settings, self._alarm)
        duties.append(Duty("fitness", FITNESS, self._look_at_server))
        self._announce(server)
        await self._store.present(self.id, self._about(), PRESENCE_TTL)
        self._leases.start()
        background = [asyncio.create_task(keep(duty)) for duty in duties]
        background += [asyncio.create_task(work) for work in (self._drain(), self._watch(), self._emitter.run())]
        try:
            with capturing():
                await self._pump.run()
        except StoreUnavailable as error:
            logger().error("the server is away, the rest is left to the other workers", error=str(error))
            self.exit_code = 1
        finally:
            await self.executor.processes.close()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await asyncio.to_thread(self._leases.stop)
            with contextlib.suppress(StoreUnavailable):
                await self._store.leave(self.id)
            await self._store.close()
            await asyncio.to_thread(server.close)
            self._journal.flush()
        logger().info("worker stopped", worker=self.id)
        return self.exit_code

    def stop(self) -> None:
        """Claim nothing more and finish within the drain limit. A second call gives back at once what still runs."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    @property
    def unfinished(self) -> bool:
        """Something could not be ended: a thread, or a coroutine that swallows its cancellation."""
        return bool(self.executor.abandoned or self._runs)

    def _about(self) -> str:
        """What others see of this worker."""
        about = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": self._started_at,
            "state": "stopping" if self._stopping.is_set() else "quiet" if self._pump.quiet else "running",
            "queues": self.queues.names,
            "concurrency": self.settings.concurrency,
            "tasks": self.registry.names(),
            "pumped_ms": round((time.monotonic() - self._pump.last_answer) * 1000),
            "beat_ms": round((time.monotonic() - self._leases.last_beat) * 1000),
        }
        return json.dumps(about)

    async def _present(self) -> int:
        """Say that we are there, and do as we are told."""
        order = await self._store.present(self.id, self._about(), PRESENCE_TTL)
        self._pump.quiet = order == "quiet"
        if order == "stop":
            self.stop()
        return 0

    async def _look_at_server(self) -> int:
        await self._readiness.check()
        return 0

    def _alarm(self, reason: str) -> None:
        logger().error("the server is not fit for use", reason=reason)

    def _announce(self, server: Server) -> None:
        embedded = "embedded" if server.embedded else "external"
        logger().info(
            f"worker serves {embedded} server, open it with: {server.cli}",
            worker=self.id,
            queues=",".join(self.queues.names),
            concurrency=self.settings.concurrency,
            tasks=",".join(self.registry.names()),
        )
        for warning in server.warnings:
            logger().warning(warning)
        if server.embedded and _answers(6379):
            logger().warning(
                "something answers on 127.0.0.1:6379, but the embedded server is used;"
                " to use that one set JOBQ_REDIS_URL=redis://127.0.0.1:6379"
            )

    def _start(self, claim: Claim, clock: ServerClock) -> None:
        """Called by the pump with each claim."""
        try:
            job = parse(claim.job_id, claim.record)
        except CorruptRecord as error:
            logger().error("unreadable record, set aside", job_id=claim.job_id, error=str(error))
            self._pump.report(Settlement(claim.job_id, claim.token, "quarantine", body=str(error)))
            return
        self._leases.hold(claim.token, claim.job_id, None)
        if is_canonical(claim.record):
            self._begin(claim, job, clock)
        else:
            task = asyncio.create_task(self._begin_foreign(claim, job, clock))
            task.add_done_callback(_raise)

    async def _begin_foreign(self, claim: Claim, job: Job, clock: ServerClock) -> None:
        """Bring a foreign producer's record into canonical form under our token, then run it like any other."""
        expected = claim.record
        while True:
            if job.status is not Status.PENDING:
                return self._pump.report(Settlement(job.job_id, claim.token, "drop"))
            if job.run_at and job.run_at > clock.now():
                return self._pump.report(Settlement(job.job_id, claim.token, "retry", job.text(), due=job.run_at))
            adopted = replace(
                job, status=Status.PROCESSING, attempt=job.attempt + 1, started_at=clock.now(), worker=self.id
            )
            try:
                verdict = await self._store.adopt(job.job_id, claim.token, expected, adopted.text())
                if verdict in ("ok", "repeat"):
                    return self._begin(claim, adopted, clock)
                if verdict == "stale":
                    return self._forget(claim.token)
                # Its producer wrote it again meanwhile: read that.
                expected = await self._store.record(job.job_id) or b""
                job = parse(job.job_id, expected)
            except StoreUnavailable:
                return self._pump.report(Settlement(job.job_id, claim.token, "release", job.text()))
            except CorruptRecord as error:
                return self._pump.report(Settlement(job.job_id, claim.token, "quarantine", body=str(error)))

    def _begin(self, claim: Claim, job: Job, clock: ServerClock) -> None:
        task = self.registry.get(job.task)
        rules = Rules.of(job.stated(), task, self.settings)
        if task is None:
            self._settle(claim.token, job, Unknown(), rules, clock)
            return
        self._leases.hold(claim.token, job.job_id, rules.timeout)
        payload = claim.payload if claim.payload is not None else inline_payload(job)
        run = Run(job, claim.token, payload, task, rules, self._emitter.open(job, claim.token))
        self._runs[claim.token] = run
        run.future = asyncio.create_task(self._carry_out(run, clock))
        run.future.add_done_callback(_raise)

    async def _carry_out(self, run: Run, clock: ServerClock) -> None:
        outcome = await self.executor.execute(run)
        if self._runs.pop(run.token, None) is None or run.lost:
            run.log.closed = True
            return
        # No longer among the runs, so nothing can cancel this: the outcome stands.
        await self._emitter.finish(run.log)
        self._settle(run.token, run.job, outcome, run.rules, clock)
        self._check_threads()

    def _settle(self, token: str, job: Job, outcome: Outcome, rules: Rules, clock: ServerClock) -> None:
        now = clock.now()
        transition = settle(job, outcome, rules, now)
        self._journal.settled(transition, now - (job.started_at or now))
        due = "" if transition.due is None else transition.due
        text = transition.job.text()
        self._pump.report(Settlement(job.job_id, token, transition.outcome, text, transition.body, due))

    def _forget(self, token: str) -> None:
        self._leases.drop(token)
        self._pump.forget()

    def _pass_on(self, loop: asyncio.AbstractEventLoop, verdicts: list[Verdict]) -> None:
        loop.call_soon_threadsafe(self._hear, verdicts)

    def _hear(self, verdicts: list[Verdict]) -> None:
        """From the heartbeat. A verdict about what has been settled meanwhile is ignored."""
        for verdict in verdicts:
            run = self._runs.get(verdict.token)
            if run is None:
                continue
            if verdict.word == "cancel":
                run.interrupt(Cancelled(verdict.reason))
            elif not run.lost:
                logger().warning("lease lost, attempt abandoned", job_id=run.job.job_id, attempt=run.job.attempt)
                run.lost = True
                self._runs.pop(verdict.token)
                self._forget(verdict.token)
                run.interrupt(Released())

    def _check_threads(self) -> None:
        if len(self.executor.abandoned) >= self.settings.concurrency and not self._stopping.is_set():
            logger().error(
                "too many threads could not be ended, the worker stops", threads=len(self.executor.abandoned)
            )
            self.exit_code = EXIT_STUCK
            self.stop()

    async def _drain(self) -> None:
        await self._stopping.wait()
        self._pump.drain()
        logger().info("worker stops", running=len(self._runs), drain_timeout=self.settings.drain_timeout)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), self.settings.drain_timeout)
        for run in list(self._runs.values()):
            run.interrupt(Released())
        await asyncio.sleep(LAST_WORDS)
        # What swallows its cancellation is given back all the same; its own report will be ignored.
        for token, run in list(self._runs.items()):
            run.lost = True
            self._pump.report(Settlement(run.job.job_id, token, "release", run.job.text()))
        self._pump.give_up()

    async def _watch(self) -> None:
        """Once a second: the journal's sum, and whether a burst is over."""
        while True:
            await asyncio.sleep(0.5 if self.burst else 1.0)
            self._journal.flush()
            if self.burst and not self._pump.held and time.monotonic() - self._pump.last_claim > 1.0:
                self.stop()


def _raise(task: asyncio.Task[None]) -> None:
    """A bug in the worker itself must be seen."""
    if not task.cancelled() and (error := task.exception()):
        logger().error("worker error", exc_info=error)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
