"""Workers that die, stand still, stop, or are killed by what they run."""

from __future__ import annotations

import asyncio
import signal

from tests.chaos.checker import Limits
from tests.chaos.faults import fault
from tests.chaos.load import Load
from tests.chaos.scene import Scene
from tests.chaos.tasks import blocks


@fault("F1", "a worker is killed with -9", lambda lease: Limits(rerun=lease + 1))
async def worker_killed(scene: Scene) -> None:
    await scene.some_time(0.1, 1.0)
    scene.kill(scene.any_worker())


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


@fault(
    "F6",
    "a task blocks the event loop for five leases",
    Limits(duplicates=False, losses=False),
    load=Load(jobs=20, longest=0.2),
)
async def loop_blocked(scene: Scene) -> None:
    async with scene.client() as client:
        job = await client.submit(blocks.job(seconds=5 * scene.lease))
        scene.history.write("accepted", job=job.job_id)
    await asyncio.sleep(5 * scene.lease)


@fault("F8", "a worker is told to stop, and drains", Limits(duplicates=False, losses=False))
async def worker_stopped(scene: Scene) -> None:
    await scene.some_time(0.1, 1.0)
    worker = scene.any_worker()
    scene.workers.remove(worker)
    worker.signal(signal.SIGTERM)
    code = await worker.ended(30)
    if code != 0:
        scene.history.write("left", text=f"a worker that was told to stop ended with {code}")
