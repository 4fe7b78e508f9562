"""Together: the calls of many tasks that come in one turn of the event loop, made as one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")


class Together(Generic[A, B]):
    """`call` takes up to `most` of what was asked for and answers as many, in the same order.

    Whoever asks alone pays one turn of the loop. A caller that is cancelled leaves the call to the others.
    """

    def __init__(self, call: Callable[[list[A]], Awaitable[list[B]]], most: int) -> None:
        self._call = call
        self._most = most
        self._asked: list[tuple[A, asyncio.Future[B]]] = []
        self._calls: set[asyncio.Task[None]] = set()

    async def __call__(self, asked: A) -> B:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[B] = loop.create_future()
        self._asked.append((asked, answer))
        if len(self._asked) == 1:
            loop.call_soon(self._start)
        return await answer

    def _start(self) -> None:
        asked, self._asked = self._asked, []
        for start in range(0, len(asked), self._most):
            task = asyncio.get_running_loop().create_task(self._answer(asked[start : start + self._most]))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def _answer(self, asked: list[tuple[A, asyncio.Future[B]]]) -> None:
        waiting = [answer for _, answer in asked]
        try:
            answers = await self._call([each for each, _ in asked])
        except BaseException as error:
            for future in waiting:
                if not future.done():
                    future.set_exception(error) if isinstance(error, Exception) else future.cancel()
            raise
        for future, value in zip(waiting, answers, strict=True):
            if not future.done():
                future.set_result(value)
