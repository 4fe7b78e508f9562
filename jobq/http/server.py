"""uvicorn with a deadline that it does not have: for the head of a request, and for what comes behind an answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as AutoHTTPProtocol
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

PROTOCOL = f"{__name__}:Protocol"
"""For `uvicorn --http`."""
HEAD_SECONDS = 10.0
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Protocol(AutoHTTPProtocol):
    """Closes a connection on which no whole head arrives within HEAD_SECONDS of its beginning, or of an answer."""

    _deadline: asyncio.TimerHandle | None = None
    _heard = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        self._heard = True
        super().data_received(data)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._forget()
        self._heard = False
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _give_up(self) -> None:
        upgraded = self not in self.connections
        if upgraded or self.transport.is_closing() or not (self.cycle is None or self.cycle.response_complete):
            return
        if self._heard:  # a browser takes an unasked 408 on a connection that it has only opened for an answer
            self.transport.write(TOO_SLOW)
        self.transport.close()

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
