from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from jobq import Registry, Settings
from jobq.worker import Worker
from tests.support.tasks import registry as all_tasks

Running = Callable[..., AbstractAsyncContextManager[Worker]]


@pytest.fixture
def working(settings: Settings) -> Running:
    """`async with working(…) as worker`: a worker in this process, stopped at the end. Keywords override settings."""

    @contextlib.asynccontextmanager
    async def start(
        registry: Registry = all_tasks, before: Callable[[], None] | None = None, **overrides: Any
    ) -> AsyncIterator[Worker]:
        worker = Worker(settings.model_copy(update=overrides), registry, before=before)
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            worker.stop()
            assert await asyncio.wait_for(task, 10) in (0, 75)

    return start
