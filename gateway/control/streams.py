"""Answers that go on: newline-delimited JSON, one line sent at a time, for as long as somebody reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")


@asynccontextmanager
async def closing(iterator: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close `iterator` on leaving, if it is one that can be closed, so that what it holds is given back at once."""
    try:
        yield iterator
    finally:
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()


class LineStream(Response):
    """Sends `lines`, each as a chunk of its own, and closes them and `owned` when they end or when the reader has left.

    When `over` is set the answer ends well, whatever lines may come.
    """

    def __init__(
        self,
        lines: AsyncIterator[bytes],
        owned: AsyncExitStack | None = None,
        *,
        media_type: str = "application/x-ndjson",
        over: asyncio.Event | None = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self.media_type = media_type
        self.init_headers({"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._lines = lines
        self._over = over if over is not None else asyncio.Event()
        self._started = False
        self._owned = owned or AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._owned, closing(self._lines):
            if scope["method"] == "HEAD":
                await self._start(send)
                await send({"type": "http.response.body", "body": b""})
                return
            sending = asyncio.create_task(self._send(send))
            leaving = asyncio.create_task(_left(receive))
            ending = asyncio.create_task(self._over.wait())
            tasks: tuple[asyncio.Task[object], ...] = (sending, leaving, ending)
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                sent, *_ = await asyncio.gather(*tasks, return_exceptions=True)
            if isinstance(sent, Exception):
                raise sent
            if isinstance(sent, asyncio.CancelledError) and self._over.is_set():
                if not self._started:
                    await self._start(send)
                await send({"type": "http.response.body", "body": b""})

    async def _start(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

    async def _send(self, send: Send) -> None:
        await self._start(send)
        self._started = True
        async for line in self._lines:
            await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
