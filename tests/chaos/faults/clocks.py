"""Wall clocks that are wrong, or are set while everything runs."""

from __future__ import annotations

import asyncio
import time

from tests.chaos.checker import Limits
from tests.chaos.faults import fault
from tests.chaos.load import Load
from tests.chaos.scene import Scene
from tests.chaos.servers import NO_FAKETIME, WithClock, faked

HOUR = 3600
FEW = 0.01


@fault(
    "F35",
    "the server's clock is set an hour ahead",
    Limits(duplicates=FEW, unanswered=False),
    load=Load(over=2.0, longest=4.0),
    make_server=WithClock,
    missing=NO_FAKETIME,
)
async def ahead(scene: Scene) -> None:
    await _set(scene, HOUR)
    await asyncio.sleep(2 * scene.lease)


@fault(
    "F35b",
    "a worker is killed, and the server's clock is set back by an hour",
    lambda lease: Limits(rerun=2 * lease + 1, unanswered=False),
    load=Load(over=2.0, longest=4.0),
    make_server=WithClock,
    missing=NO_FAKETIME,
)
async def back(scene: Scene) -> None:
    await _set(scene, -HOUR, kill=True)
    await asyncio.sleep(2 * scene.lease)


async def _set(scene: Scene, seconds: int, kill: bool = False) -> None:
    assert isinstance(scene.server, WithClock)
    await scene.some_time(0.5, 1.5)
    if kill:
        scene.kill(scene.any_worker())
    else:
        scene.hit(None, f"the server's clock is set by {seconds} s")
    async with scene.redis() as redis:
        offset = (await redis.time())[0] - time.monotonic()
        scene.server.step(seconds)
        began = time.monotonic()
        while abs((await redis.time())[0] - time.monotonic() - offset - seconds) > 5:
            if time.monotonic() > began + 2:
                scene.broken("the round shows nothing: the server's clock was not set")
                return
            await asyncio.sleep(0.01)
        scene.note(f"the server's clock was set within {time.monotonic() - began:.3f} s")


@fault(
    "F36",
    "the clocks of two workers are a day ahead and a day behind, and the third is killed",
    lambda lease: Limits(rerun=lease + 1),
    workers=0,
    load=Load(over=4.0),
    missing=NO_FAKETIME,
)
async def workers_off(scene: Scene) -> None:
    """What the third ran comes back in time, and nothing else does."""
    for offset in () if scene.workers else ("+1d", "-1d"):
        await scene.start_worker(**faked(offset))
    right = await scene.start_worker()
    await scene.some_time(0.3, 1.0)
    scene.kill(right)
