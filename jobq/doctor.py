"""`jobq doctor`: examines server and queue. Each finding says what is so, why it matters and the exact repair."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence

from jobq.errors import ConfigError, StoreUnavailable
from jobq.settings import Settings
from jobq.store.checks import Finding
from jobq.store.connect import Server, find
from jobq.store.inspect import Inspector, Overview, QueueView, WorkerView
from jobq.store.store import RETRIABLE, Store

PINGS = 20
SLOW_MS = 5.0
"""A round trip beyond this costs throughput: each claim and each settle is one."""
CLOCKS_APART = 1.0
"""Seconds by which this computer's clock may differ from the server's."""

UNREACHABLE: tuple[type[Exception], ...] = (*RETRIABLE, StoreUnavailable)


async def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order in which one would repair them."""
    try:
        server = await find(settings)
    except ConfigError as error:
        return [_no_server(error)]
    store, inspector = server.store(), server.inspector()
    try:
        findings = await server.findings(settings)
        findings += [await _round_trip(inspector), await _scripts(store), await _clock(inspector)]
        findings += await _submit(store)
        workers = await inspector.workers()
        queues = await inspector.queues()
        overview = await inspector.overview([])
        return [*findings, *_workers(workers, queues), *_set_aside(server, overview)]
    except ConfigError as error:
        return [_no_server(error)]
    except UNREACHABLE as error:
        why = "without a server no job is accepted and none is run"
        fix = f"look into its log, and try {server.shown_cli} PING"
        return [Finding("server", "error", f"it stopped answering: {error}", why, fix)]
    finally:
        await inspector.close()
        await store.close()
        server.close()


def _no_server(error: ConfigError) -> Finding:
    return Finding("server", "error", str(error), "without a server no job is accepted and none is run")


async def _submit(store: Store) -> list[Finding]:
    try:
        await store.writable()
    except StoreUnavailable as error:
        return [Finding("submit", "error", f"a submit would be refused: {error}", "no job is accepted", "see above")]
    return []


async def _round_trip(inspector: Inspector) -> Finding:
    times = []
    for _ in range(PINGS):
        began = time.perf_counter()
        await inspector.now()
        times.append((time.perf_counter() - began) * 1000)
    took = statistics.median(times)
    what = f"{took:.2f} ms"
    if took <= SLOW_MS:
        return Finding("round trip", "ok", what)
    return Finding(
        "round trip",
        "warning",
        what,
        "each claim and each settle is one round trip",
        "run workers and API near the server, in the same zone",
    )


async def _scripts(store: Store) -> Finding:
    try:
        return Finding("scripts", "ok", f"all {await store.load()} load")
    except StoreUnavailable as error:
        what = f"the server does not load our scripts: {error}"
        return Finding("scripts", "error", what, "every change to a job is a script", "see the permissions above")


async def _clock(inspector: Inspector) -> Finding:
    before = time.time()
    server = await inspector.now() / 1000
    ahead = (before + time.time()) / 2 - server
    what = f"{abs(ahead):.3f} s {'ahead of' if ahead > 0 else 'behind'} the server's"
    if abs(ahead) <= CLOCKS_APART:
        return Finding("clock", "ok", what)
    return Finding(
        "clock",
        "warning",
        what,
        "the server's clock decides when a job is due: a run_at made here means another time there",
        "keep both clocks with NTP",
    )


def _workers(workers: Sequence[WorkerView], queues: Sequence[QueueView]) -> Iterator[Finding]:
    if workers:
        yield Finding("workers", "ok", f"{len(workers)} running")
    else:
        yield Finding("workers", "warning", "none is running", "what is submitted waits", "jobq worker")
    served = {name for worker in workers for name in worker.queues}
    for queue in queues:
        if queue.depth and workers and queue.name not in served:
            yield Finding(
                "queues",
                "warning",
                f"{queue.depth} wait in {queue.name}, which no worker serves",
                "they wait until one does",
                f"jobq worker --queues {queue.name}",
            )
        if queue.depth and queue.paused:
            yield Finding(
                "queues",
                "warning",
                f"{queue.name} is paused, {queue.depth} wait in it",
                "nothing of it is started",
                f"jobq queues resume {queue.name}",
            )


def _set_aside(server: Server, overview: Overview) -> Iterator[Finding]:
    zrange, hgetall = f"{server.shown_cli} ZRANGE job_missing 0 -1", f"{server.shown_cli} HGETALL job_quarantine"
    known = (
        ("parked", overview.parked, "no worker knows their task", "run one that does: they come back within a second"),
        ("missing", overview.missing, "their ids are in a queue without a record", f"find who wrote them: {zrange}"),
        ("quarantined", overview.quarantined, "their records are unreadable", f"find who wrote them: {hgetall}"),
    )
    for name, count, why, fix in known:
        yield Finding(name, "warning", f"{count} set aside", why, fix) if count else Finding(name, "ok", "none")
