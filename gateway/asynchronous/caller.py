"""Calls functions through the inner side of an edge: HTTP/1.1 over a Unix socket, one call at a time on a connection.

So all that holds for a client's call holds for a worker's: limits, cold start, traffic, traces, records. Where there are
several edges they take turns; one that cannot be reached is passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final, cast

import httptools
import msgspec

from gateway.asynchronous.calls import Headers
from gateway.asynchronous.fingerprint import FINGERPRINT
from gateway.asynchronous.retry import Answer
from gateway.asynchronous.spool import Spool

IDLE_AT_MOST: Final = 256
"""Unused connections to one edge that are kept."""
CONNECT_WITHIN_S: Final = 5.0
_WRITTEN_ANEW: Final = frozenset(
    (
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "expect",
        "upgrade",
        "x-call-id",
        "x-start-time",
        FINGERPRINT,
    )
)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of an edge: `target` is the whole path, `size` the body's length; `call_id` marks the call."""

    method: str
    target: str
    host: str
    headers: Headers
    call_id: str
    size: int

    def head(self) -> bytes:
        """Return the bytes before the body."""
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: {self.host}", f"X-Call-Id: {self.call_id}"]
        lines += [f"{name}: {value}" for name, value in self.headers if name.lower() not in _WRITTEN_ANEW]
        if self.size or self.method not in ("GET", "HEAD", "DELETE", "OPTIONS"):
            lines.append(f"Content-Length: {self.size}")
        return "\r\n".join((*lines, "\r\n")).encode("latin-1", "replace")


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What came back. `body` is as a store takes it; it is `cut` where it was longer than what is kept."""

    answer: Answer
    body: bytes | Path = b""
    cut: bool = False


class Caller:
    """`sockets` are the edges' inner ones. Bodies of responses are kept up to `limit_bytes`, long ones as files in `spool`."""

    def __init__(self, sockets: Sequence[str], spool: Path, limit_bytes: int) -> None:
        self._sockets = list(sockets)
        self._idle: dict[str, list[_Connection]] = {path: [] for path in self._sockets}
        self._next = 0
        self._spool = spool
        self._limit_bytes = limit_bytes

    async def call(self, request: Request, body: Callable[[], AsyncIterator[bytes]], timeout_s: float) -> Response:
        """Make a call; `body` is asked for the body's bytes. Nothing that goes wrong on the way is raised: it is the answer's
        failure. A connection that had served before may have been closed by the edge at that moment: then another is taken.

        A call that is cancelled is broken off, which the function's replica notices as it does with any client that leaves.
        Raises OSError when a response's body could not be written, and what `body` raises.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while (connection := await self._connection()) is not None:
                    had_served = connection.had_served
                    response = await self._exchange(connection, request, body())
                    if not (had_served and connection.unanswered):
                        return response
                return Response(answer=Answer(0, failure="the edge cannot be reached"))
        except TimeoutError:
            return Response(answer=Answer(0, failure=f"no answer within {timeout_s:g} s"))

    def close(self) -> None:
        """Close all connections that nobody uses."""
        for idle in self._idle.values():
            for connection in idle:
                connection.abort()
            idle.clear()

    async def _exchange(self, connection: _Connection, request: Request, body: AsyncIterator[bytes]) -> Response:
        spool = Spool(self._spool, connection.pause_reading, connection.resume_reading)
        try:
            try:
                answer, cut = await connection.exchange(request, body, spool, self._limit_bytes)
            except BaseException:
                connection.abort()
                raise
            kept = await spool.whole()
        except BaseException:
            await spool.discard()
            raise
        idle = self._idle[connection.path]
        if connection.reusable and len(idle) < IDLE_AT_MOST:
            idle.append(connection)
        else:
            connection.abort()
        return Response(answer=answer, body=kept, cut=cut)

    async def _connection(self) -> _Connection | None:
        """Return a connection to the edge whose turn it is, or to the next one that can be reached."""
        for _ in self._sockets:
            path = self._sockets[self._next % len(self._sockets)]
            self._next += 1
            idle = self._idle[path]
            while idle:
                connection = idle.pop()
                if connection.reusable:
                    return connection
            try:
                async with asyncio.timeout(CONNECT_WITHIN_S):
                    _, made = await asyncio.get_running_loop().create_unix_connection(lambda p=path: _Connection(p), path)  # type: ignore[misc]
            except (OSError, TimeoutError):
                continue
            return made
        return None


class _Connection(asyncio.Protocol):
    """One connection to an edge."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = False
        self.had_served = False
        self._done: asyncio.Future[None] | None = None
        self._fresh()

    def _fresh(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[str, str]] = []
        self._status = 0
        self._spool: Spool | None = None
        self._limit_bytes = 0
        self._cut = False
        self._head_only = False
        self._keep = self._whole = self._heard = False

    @property
    def reusable(self) -> bool:
        """Whether another call can be made here."""
        return not self._lost and self._keep

    @property
    def unanswered(self) -> bool:
        """Whether the connection ended without a byte of an answer."""
        return self._lost and not self._heard

    def abort(self) -> None:
        """Break the connection."""
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Let the edge wait with more of its answer."""
        if self._transport is not None and not self._lost:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on with the answer."""
        if self._transport is not None and not self._lost:
            self._transport.resume_reading()

    async def exchange(
        self, request: Request, body: AsyncIterator[bytes], spool: Spool, limit_bytes: int
    ) -> tuple[Answer, bool]:
        """Send a request and wait until its response is complete, the body in `spool`; return the answer, and whether the
        body was cut."""
        self._fresh()
        assert self._transport is not None
        self._spool, self._limit_bytes = spool, limit_bytes
        self._head_only = request.method == "HEAD"
        done = self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request.head())
        if request.size:
            async for piece in body:
                if done.done():
                    break  # answered before it had read all
                self._transport.write(piece)
                await self._writable.wait()
        await done
        if not self._whole:
            when = "in the middle of the answer" if self._status else "before it answered"
            return Answer(0, failure=f"the connection to the edge was lost {when}"), False
        return Answer(self._status, tuple(self._headers)), self._cut

    # transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._done is None or self._done.done():
            self.abort()
            return
        self._heard = True
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

    # parser

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if self._head_only:
            self._keep = False  # the parser waits for a body that does not come
            self._whole = True
            self._end()

    def on_body(self, data: bytes) -> None:
        spool = self._spool
        if spool is None or self._cut:
            return
        if spool.size + len(data) > self._limit_bytes:
            self._cut = True
            data = data[: self._limit_bytes - spool.size]
        spool.feed(data)

    def on_message_complete(self) -> None:
        if 100 <= self._status < 200:
            self._headers.clear()
            return
        self._whole = self.had_served = True
        self._keep = self._parser.should_keep_alive()
        self._end()

    def _end(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
