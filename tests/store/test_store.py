"""Store: what holds for its calls in general."""

from __future__ import annotations

import asyncio
import contextlib

from jobq.store.connect import Server
from tests.support.processes import eventually
from tests.support.servers import Valkey


async def test_closed_in_mid_call(valkey: Valkey) -> None:
    """The call of a caller that was cancelled comes to its end before `close` does, and leaves no connection behind."""
    store = Server(valkey.url, "").store()
    with valkey.client() as client:
        before = len(client.client_list())
        client.execute_command("CLIENT", "PAUSE", "200", "ALL")
    asked = [asyncio.create_task(store.pause(f"q{number}")) for number in range(5)]
    await asyncio.sleep(0.05)
    for task in asked:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await store.close()

    with valkey.client() as client:
        assert 5 == client.scard("job_paused")
        eventually(lambda: before == len(client.client_list()))
