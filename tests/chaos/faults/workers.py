"""Workers that die, stand still, stop, or are killed by what they run."""

from __future__ import annotations

import asyncio
import signal
import time

from jobq.task import JobSpec
from tests.chaos.checker import Limits
from tests.chaos.faults import fault
from tests.chaos.load import Load, submit
from tests.chaos.scene import Member, Scene
from tests.chaos.tasks import blocks, holds, holds_apart

UNHURT = Limits(duplicates=0, losses=False)
DRAIN = 1.0
LAST_WORDS = 1.0
"""Seconds that interrupted jobs get to end."""


@fault("F1", "a worker is killed with -9", lambda lease: Limits(rerun=lease + 1))
async def worker_killed(scene: Scene) -> None:
    await scene.some_time(0.1, 1.0)
    scene.kill(scene.any_worker())


@fault("F2", "a worker dies between being handed jobs and starting them", lambda lease: Limits(rerun=lease + 1))
async def dies_with_claims(scene: Scene) -> None:
    await _dies(scene, f"after_claim:{scene.random.randint(1, 3)}")


@fault("F3", "a worker dies between the end of jobs and storing that", lambda lease: Limits(rerun=lease + 1))
async def dies_with_outcomes(scene: Scene) -> None:
    await _dies(scene, f"before_settle:{scene.random.randint(1, 5)}")


async def _dies(scene: Scene, death: str) -> None:
    doomed = await scene.start_worker(CHAOS_DIE=death)
    async with scene.client() as client:
        for _ in range(50):
            await submit(Load(jobs=4, over=0.05, longest=0.1), client, scene.history, scene.random)
            if not doomed.alive:
                break
    scene.workers.remove(doomed)
    if doomed.popen.poll() != -signal.SIGKILL:
        scene.broken(f"the round shows nothing: the worker that should die is at {doomed.popen.poll()}")
        doomed.kill()


@fault("F4", "all workers are killed with -9, and one is started", lambda lease: Limits(consume=lease + 1))
async def all_workers_killed(scene: Scene) -> None:
    await scene.some_time(0.1, 1.0)
    for worker in list(scene.workers):
        scene.kill(worker)
    await scene.start_worker()
    scene.healed()


@fault("F5", "a worker stands still for three leases, and goes on", lambda lease: Limits(rerun=lease + 1))
async def worker_frozen(scene: Scene) -> None:
    await scene.some_time(0.1, 0.8)
    worker = scene.any_worker()
    scene.hit(worker, "SIGSTOP")
    worker.signal_all(signal.SIGSTOP)
    await asyncio.sleep(3 * scene.lease)
    worker.signal_all(signal.SIGCONT)


@fault("F6", "a task blocks the event loop for five leases", UNHURT, load=Load(jobs=20, longest=0.2))
async def loop_blocked(scene: Scene) -> None:
    await _one_more(scene, blocks.job(seconds=5 * scene.lease))
    await asyncio.sleep(5 * scene.lease)


@fault(
    "F7",
    "a task holds the interpreter's lock for three leases",
    lambda lease: Limits(rerun=lease + 1),
    load=Load(jobs=60, over=0.3, longest=3.0),
)
async def lock_held(scene: Scene) -> None:
    """The heartbeat cannot beat: what this worker runs is run once more, and its late outcomes are refused."""
    await asyncio.sleep(0.6)
    seconds, noticed = round(3 * scene.lease), _noticed(scene)
    await _one_more(scene, holds.job(seconds=seconds))
    await asyncio.sleep(seconds + 1)
    if _noticed(scene) == noticed:
        scene.broken("the round shows nothing: the worker kept its leases")


def _noticed(scene: Scene) -> int:
    """How often a worker noticed that a lease is lost: with its heartbeat, or with an outcome."""
    return scene.said("lease lost, attempt abandoned") + scene.said("outcome refused: the lease had been lost")


@fault(
    "F7b",
    "a task with process=True holds the interpreter's lock for three leases",
    UNHURT,
    load=Load(jobs=60, over=0.3, longest=3.0),
)
async def lock_held_apart(scene: Scene) -> None:
    seconds = round(3 * scene.lease)
    await _one_more(scene, holds_apart.job(seconds=seconds))
    await asyncio.sleep(seconds)


@fault("F8", "a worker is told to stop, and drains", UNHURT)
async def worker_stopped(scene: Scene) -> None:
    await scene.some_time(0.1, 1.0)
    worker = scene.any_worker()
    worker.signal(signal.SIGTERM)
    await _stops(scene, worker, 30)


@fault(
    "F9",
    "a worker is told to stop, and its jobs take longer than it may drain",
    Limits(rerun=DRAIN + 1, losses=False),
    load=Load(jobs=100, over=0.5, longest=8.0),
    env={"JOBQ_DRAIN_TIMEOUT": str(DRAIN)},
)
async def drain_too_short(scene: Scene) -> None:
    await scene.some_time(0.3, 1.0)
    worker = scene.any_worker()
    scene.hit(worker, "SIGTERM")
    worker.signal(signal.SIGTERM)
    await _stops(scene, worker, DRAIN + LAST_WORDS + 1)


@fault(
    "F10",
    "a worker that drains is told once more to stop",
    Limits(rerun=2.0, losses=False),
    load=Load(jobs=100, over=0.5, longest=8.0),
)
async def told_twice(scene: Scene) -> None:
    """By SIGTERM twice, by Ctrl-C twice, or by one of each."""
    await scene.some_time(0.3, 1.0)
    worker = scene.any_worker()
    scene.hit(worker, "told twice to stop")
    worker.signal(scene.random.choice((signal.SIGTERM, signal.SIGINT)))
    await asyncio.sleep(0.2)
    worker.signal(scene.random.choice((signal.SIGTERM, signal.SIGINT)))
    await _stops(scene, worker, LAST_WORDS + 1)


@fault("F11", "workers are replaced five times under load", UNHURT, load=Load(jobs=300, over=8.0))
async def rolling_restarts(scene: Scene) -> None:
    for _ in range(5):
        oldest = scene.workers[0]
        oldest.signal(signal.SIGTERM)
        await asyncio.gather(scene.start_worker(), _stops(scene, oldest, 10))


async def _one_more(scene: Scene, spec: JobSpec[int]) -> None:
    async with scene.client() as client:
        job = await client.submit(spec)
        scene.history.write("accepted", job=job.job_id)


async def _stops(scene: Scene, worker: Member, seconds: float) -> None:
    """A worker that was told to is gone within so long, with 0."""
    scene.workers.remove(worker)
    began = time.monotonic()
    try:
        code = await worker.ended(seconds)
    except TimeoutError:
        scene.broken(f"a worker that was told to stop was there after {seconds:.1f} s")
        scene.kill(worker)
        return
    scene.note(f"the worker was gone after {time.monotonic() - began:.2f} s")
    if code != 0:
        scene.broken(f"a worker that was told to stop ended with {code}")
