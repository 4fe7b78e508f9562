"""Jobs that kill their process, do not end, or leave behind what cannot be kept: next to jobs that notice nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import httpx
import psutil

from jobq.record import parse
from jobq.settings import Settings
from jobq.store import keys
from jobq.task import JobSpec
from tests.chaos.checker import Limits
from tests.chaos.faults import fault
from tests.chaos.history import Line, read
from tests.chaos.load import Load, all_over
from tests.chaos.scene import Scene
from tests.chaos.tasks import POISON_TIMEOUT, poison, raises, returns

DELAY = 1.0
"""Seconds in which the other jobs begin."""
KILLED = POISON_TIMEOUT + 2.0
"""Seconds in which a job that does not end is over."""
RECORD = 17 << 10
"""Bytes of a record: 8 KiB for the text of its error, as many for the traceback, and the rest."""


@fault(
    "F37",
    "jobs kill their process, again and again",
    Limits(fails=frozenset({"lost"}), delay=DELAY),
    load=Load(over=3.0, longest=0.5),
)
async def kill_their_process(scene: Scene) -> None:
    """Each is over after as many losses as a job may have."""
    jobs = await _take(scene, [poison.job(kind=kind) for kind in ("exit", "segv", "abort") for _ in range(2)])
    most = Settings.load().max_lost
    async with scene.redis() as redis:
        for job_id in jobs:
            job = parse(job_id, await redis.get(keys.job(job_id)) or b"")
            begun = len(_lines(scene, job_id, "start"))
            if (job.lost, job.retries, begun) != (most, 0, most):
                scene.broken(f"{job_id} has {job.lost} losses and {job.retries} retries after {begun} attempts")


@fault(
    "F38",
    "jobs take more memory than their limit",
    Limits(fails=frozenset({"error"}), duplicates=0, losses=False, delay=DELAY),
    load=Load(over=3.0, longest=0.5),
)
async def too_much_memory(scene: Scene) -> None:
    await _take(scene, [poison.job(kind="memory") for _ in range(4)])
    for worker in scene.workers:
        if worker.rss() > 256 << 20:
            scene.broken(f"a worker has {worker.rss() >> 20} MiB after it")


@fault(
    "F39",
    "jobs do not end, and nothing in them can be stopped",
    Limits(fails=frozenset({"timeout"}), duplicates=0, losses=False, delay=DELAY),
    load=Load(over=3.0, longest=0.5),
)
async def endless(scene: Scene) -> None:
    began = time.monotonic()
    jobs = await _take(scene, [poison.job(kind="loop") for _ in range(2)])
    took = time.monotonic() - min(line["t"] for job_id in jobs for line in _lines(scene, job_id, "start"))
    scene.note(f"over {took:.2f} s after the first began, {time.monotonic() - began:.2f} s after their submit")
    if took > KILLED:
        scene.broken(f"a job with a timeout of {POISON_TIMEOUT} s was over after {took:.2f} s")
    left = [pid for job_id in jobs for line in _lines(scene, job_id, "start") if psutil.pid_exists(pid := line["pid"])]
    if left:
        scene.broken(f"the processes {left} of jobs that ran out of time are still there")


@fault(
    "F40",
    "jobs return what cannot be kept",
    Limits(fails=frozenset({"invalid"}), duplicates=0, losses=False, delay=DELAY),
    load=Load(over=3.0, longest=0.5),
)
async def unfit_results(scene: Scene) -> None:
    await _shown(scene, [returns.job(kind=kind) for kind in ("nan", "infinity", "huge", "surrogate", "object")])


@fault(
    "F41",
    "jobs fail with 10 MiB of control characters",
    Limits(fails=frozenset({"error"}), duplicates=0, losses=False, delay=DELAY),
    load=Load(over=3.0, longest=0.5),
)
async def unfit_errors(scene: Scene) -> None:
    await _shown(scene, [raises.job(kind=kind) for kind in ("controls", "surrogate", "long")])


async def _shown(scene: Scene, specs: list[JobSpec[int]]) -> None:
    """Their records are small, and the API answers for each."""
    _, url = await scene.start_api()
    jobs = await _take(scene, specs)
    async with scene.redis() as redis, httpx.AsyncClient(base_url=url) as http:
        for job_id in jobs:
            if (size := await redis.strlen(keys.job(job_id))) > RECORD:
                scene.broken(f"the record of {job_id} has {size} bytes")
            for path in ("job-status/" + job_id, "v1/jobs/" + job_id, f"v1/jobs/{job_id}/result"):
                answer = await http.get(f"/{path}")
                if answer.status_code >= 500 or not answer.json():
                    scene.broken(f"/{path} was answered {answer.status_code}: {answer.text[:200]}")
    for api in scene.apis:
        api.kill()
    scene.apis.clear()


async def _take(scene: Scene, specs: Iterable[JobSpec[int]]) -> list[str]:
    """Submit them, and wait until they are over."""
    await asyncio.sleep(0.3)
    async with scene.client() as client, scene.redis() as redis:
        jobs = [job.job_id for job in await client.submit_many(specs)]
        for job_id in jobs:
            scene.history.write("accepted", job=job_id)
        await all_over(redis, jobs, patience=20)
    return jobs


def _lines(scene: Scene, job_id: str, what: str) -> list[Line]:
    return [line for line in read(scene.history.path) if line["what"] == what and line["job"] == job_id]
