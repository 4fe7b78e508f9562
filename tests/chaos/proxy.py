"""A TCP proxy in front of the server that harms connections in the ways in which networks do."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Collection
from typing import Self

from jobq.store import scripts

PIECE = 1 << 20
CALL = re.compile(rb"EVALSHA\r\n\$40\r\n([0-9a-f]{40})\r\n")
NAMES = {script.sha: name for name, script in scripts.load().items()}


class Proxy:
    """Listens on a loopback port, in its own thread. The attributes may be set at any time, from any thread."""

    def __init__(self, socket_path: str) -> None:
        self.url = ""
        self.delay = 0.0
        """Seconds by which each piece is held up, in each direction."""
        self.lose_replies = 0.0
        """The chance that a call of a script is carried out, but its reply is lost and the connection with it."""
        self.lose_requests = 0.0
        """The chance that a call of a script is cut off in the middle, and its connection with it."""
        self.cuts: Counter[str] = Counter()
        """How many calls of each script met one of the two fates so far."""
        self.dice = random.Random()
        """What decides which calls: seed it."""
        self._path = socket_path
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    @property
    def connections(self) -> int:
        return len(self._links)

    def listen(self) -> None:
        """Take connections, at the same port as before."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)

    def refuse(self) -> None:
        """Drop all connections and refuse new ones, until `listen`."""
        asyncio.run_coroutine_threadsafe(self._refuse(), self._loop).result(5)

    def drop(self) -> None:
        """End all connections."""
        self._with_links(_Link.end)

    def freeze(self, ports: Collection[int] | None = None) -> None:
        """Half-open: the connections there are (those from these ports) carry nothing any more. New ones work."""
        self._with_links(lambda link: link.freeze() if ports is None or link.port in ports else None)

    def fate(self, request: bytes) -> str:
        """What is to become of a request: `pass`, or the loss of its reply or of itself."""
        call = CALL.search(request)
        if call is None:
            return "pass"
        for word, chance in (("reply", self.lose_replies), ("request", self.lose_requests)):
            if self.dice.random() < chance:
                self.cuts[NAMES.get(call[1].decode(), "another")] += 1
                return word
        return "pass"

    def _with_links(self, act: Callable[[_Link], None]) -> None:
        async def acted() -> None:
            for link in list(self._links):
                act(link)

        asyncio.run_coroutine_threadsafe(acted(), self._loop).result(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        self.url = f"redis://127.0.0.1:{self._port}"

    async def _refuse(self) -> None:
        if self._server:
            self._server.close()
        for link in list(self._links):
            link.end()
        await asyncio.gather(*(link.ended.wait() for link in list(self._links)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.carry(self._path)
        finally:
            self._links.discard(link)
            link.ended.set()


class _Link:
    """One connection of a client, and ours to the server."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.ended = asyncio.Event()
        self.port: int = writer.get_extra_info("peername")[1]
        """The client's."""
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._flows = asyncio.Event()
        self._flows.set()
        self._over = asyncio.Event()
        self._mute = False

    def end(self) -> None:
        self._over.set()

    def freeze(self) -> None:
        self._flows.clear()

    async def carry(self, path: str) -> None:
        writers = [self._writer]
        ways: list[asyncio.Task[object]] = []
        try:
            server_in, server_out = await asyncio.open_unix_connection(path)
            writers.append(server_out)
            ways = [
                asyncio.create_task(self._up(server_out)),
                asyncio.create_task(self._down(server_in)),
                asyncio.create_task(self._over.wait()),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # the server is away: so is this connection
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for writer in writers:
                with contextlib.suppress(Exception):
                    writer.transport.abort()

    async def _up(self, server: asyncio.StreamWriter) -> None:
        while request := await self._reader.read(PIECE):
            await self._hold_up()
            fate = self._proxy.fate(request)
            if fate == "request":
                server.write(request[: len(request) // 2])
                await server.drain()
                return
            # Before the request is passed on: its reply may be here at once.
            self._mute = self._mute or fate == "reply"
            server.write(request)
            await server.drain()

    async def _down(self, server: asyncio.StreamReader) -> None:
        while reply := await server.read(PIECE):
            if self._mute:
                return
            await self._hold_up()
            self._writer.write(reply)
            await self._writer.drain()

    async def _hold_up(self) -> None:
        if self._proxy.delay:
            await asyncio.sleep(self._proxy.delay)
        await self._flows.wait()
