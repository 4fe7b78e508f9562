"""A TCP proxy in front of a server that can lose the replies to calls of one script."""

from __future__ import annotations

import asyncio
import threading
from typing import Self

from jobq.store import scripts


class Proxy:
    """Listens on a loopback port in its own thread.

    The replies to every second call of `script` are lost, `cuts` times, and their connections with them.
    """

    def __init__(self, socket_path: str, script: str) -> None:
        self.url = ""
        self.cuts = 0
        self.lost = 0
        """Replies lost so far."""
        self._calls = 0
        self._path = socket_path
        self._sha = scripts.load()[script].sha.encode()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def cut_next(self) -> None:
        """Lose the reply to the next call, and no other."""
        self._calls, self.cuts = 0, 1

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        server.close()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    async def _serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        server_in, server_out = await asyncio.open_unix_connection(self._path)
        doomed = asyncio.Event()

        async def up() -> None:
            while data := await client_in.read(1 << 20):
                self._calls += self._sha in data
                if self.cuts > 0 and self._sha in data and self._calls % 2:
                    self.cuts -= 1
                    doomed.set()
                server_out.write(data)

        async def down() -> None:
            while data := await server_in.read(1 << 20):
                if doomed.is_set():
                    self.lost += 1
                    return
                client_out.write(data)

        ways = [asyncio.ensure_future(up()), asyncio.ensure_future(down())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for writer in (client_out, server_out):
                writer.close()
