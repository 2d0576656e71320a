"""One connection of a worker to an edge: a call at a time, whose answer is gathered.

An answer that comes whole in one read, as most do, is read without the parser (`heads`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import httptools

from gateway.asynchronous.calls import INLINE_BYTES, Headers
from gateway.asynchronous.heads import whole_response
from gateway.asynchronous.retry import Answer
from gateway.asynchronous.spool import Spool


class CallConnection(asyncio.Protocol):
    """A connection to the edge of that number; of a response's body `limit_bytes` are kept, in `folder` where it is long.

    After `send` and until the next one: `deadline` is until when its answer is waited for (the loop's time), `late` whether
    that is over; `answer()` what came, with the body in `spool` or, where there is none, in `body`, which is `cut` where
    it was longer.
    """

    def __init__(self, edge: int, folder: Path, limit_bytes: int) -> None:
        self.edge = edge
        self.deadline = 0.0
        self.had_served = False
        self._folder, self._limit_bytes = folder, limit_bytes
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = False
        self._done: asyncio.Future[None] | None = None
        self._fresh()

    def _fresh(self) -> None:
        self.late = self.cut = False
        self.spool: Spool | None = None
        self.body = b""
        self._parser: httptools.HttpResponseParser | None = None
        self._fields: list[tuple[str, str]] = []
        self._headers: Headers | None = None
        self._status = 0
        self._head_only = False
        self._keep = self._whole = self._heard = False

    @property
    def reusable(self) -> bool:
        """Whether another call can be made here."""
        return not self._lost and self._keep

    @property
    def whole(self) -> bool:
        """Whether the answer came to its end."""
        return self._whole

    @property
    def unanswered(self) -> bool:
        """Whether the connection ended without a byte of an answer."""
        return self._lost and not self._heard

    def abort(self) -> None:
        """Break the connection."""
        if self._transport is not None:
            self._transport.abort()

    def expire(self) -> None:
        """The answer has not come in time."""
        self.late = True
        self.abort()

    def send(self, head: bytes, data: bytes | None, *, head_only: bool) -> asyncio.Future[None]:
        """Send a request with its body, or its head alone where that is to follow; the future ends when its response is
        complete, or the connection lost."""
        self._fresh()
        assert self._transport is not None
        self._head_only = head_only
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(head + data if data else head)
        if self._lost:
            self._end()
        return self._done

    async def send_pieces(self, body: AsyncIterator[bytes]) -> None:
        """Send the request's body."""
        assert self._transport is not None and self._done is not None
        async for piece in body:
            if self._done.done():
                break  # answered before it had read all
            self._transport.write(piece)
            await self._writable.wait()

    def answer(self) -> Answer:
        """Return what came."""
        if not self._whole:
            when = "in the middle of the answer" if self._status else "before it answered"
            return Answer(0, failure=f"the connection to the edge was lost {when}")
        return Answer(self._status, tuple(self._fields) if self._headers is None else self._headers)

    # transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._done is None or self._done.done():
            self.abort()
            return
        if not (self._heard or self._head_only) and len(data) <= INLINE_BYTES and (whole := whole_response(data)) is not None:
            self._heard = self._whole = self._keep = self.had_served = True
            self._status, self._headers, self.body = whole
            if len(self.body) > self._limit_bytes:
                self.cut = True
                self.body = self.body[: self._limit_bytes]
            self._end()
            return
        self._heard = True
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._writable.set()
        self._end()

    def _pause_reading(self) -> None:
        if self._transport is not None and not self._lost:
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._transport is not None and not self._lost:
            self._transport.resume_reading()

    # parser

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self._status = self._parser.get_status_code()
        if self._head_only:
            self._keep = False  # the parser waits for a body that does not come
            self._whole = True
            self._end()

    def on_body(self, data: bytes) -> None:
        if self.cut:
            return
        if self.spool is None:
            self.spool = Spool(self._folder, self._pause_reading, self._resume_reading)
        if self.spool.size + len(data) > self._limit_bytes:
            self.cut = True
            data = data[: self._limit_bytes - self.spool.size]
        self.spool.feed(data)

    def on_message_complete(self) -> None:
        if 100 <= self._status < 200:
            self._fields.clear()
            return
        assert self._parser is not None
        self._whole = self.had_served = True
        self._keep = self._parser.should_keep_alive()
        self._end()

    def _end(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
