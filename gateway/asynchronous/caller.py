"""Calls functions through the inner side of an edge: HTTP/1.1, one call at a time on a connection.

So all that holds for a client's call holds for a worker's: limits, cold start, traffic, traces, records. Where there are
several edges they take turns; one that cannot be reached is passed over. An edge of another process is reached by its Unix
socket, one of this process without any (`gateway/edge/inside`).

Deadlines are kept by one sweep instead of a timer for each call: one is met at most SWEEP_S late, never early.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from gateway.asynchronous.call_connection import CallConnection
from gateway.asynchronous.calls import Headers
from gateway.asynchronous.fingerprint import FINGERPRINT
from gateway.asynchronous.heads import Spellings
from gateway.asynchronous.retry import Answer
from gateway.edge.inside import Accept, join

IDLE_AT_MOST: Final = 256
"""Unused connections to one edge that are kept."""
CONNECT_WITHIN_S: Final = 5.0
SWEEP_S: Final = 0.25
_WRITTEN_ANEW: Final = Spellings(
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
    """What is asked of an edge: `target` is the whole path, `size` the body's length and `data` the body itself where it is
    at hand; `call_id` marks the call."""

    method: str
    target: str
    host: str
    headers: Headers
    call_id: str
    size: int
    data: bytes | None = None

    def head(self) -> bytes:
        """Return the bytes before the body."""
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: {self.host}", f"X-Call-Id: {self.call_id}"]
        lines += [f"{name}: {value}" for name, value in self.headers if not _WRITTEN_ANEW[name]]
        if self.size or self.method not in ("GET", "HEAD", "DELETE", "OPTIONS"):
            lines.append(f"Content-Length: {self.size}")
        return "\r\n".join((*lines, "\r\n")).encode("latin-1", "replace")


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What came back. `body` is as a store takes it; it is `cut` where it was longer than what is kept."""

    answer: Answer
    body: bytes | Path = b""
    cut: bool = False


class Caller:
    """`edges` are the paths of the edges' inner sockets, or what makes the other end of a connection to one that is in this
    process. Bodies of responses are kept up to `limit_bytes`, long ones as files in `spool`."""

    def __init__(self, edges: Sequence[str | Accept], spool: Path, limit_bytes: int) -> None:
        self._edges = list(edges)
        self._idle: list[list[CallConnection]] = [[] for _ in self._edges]
        self._next = 0
        self._spool = spool
        self._limit_bytes = limit_bytes
        self._busy: set[CallConnection] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def call(self, request: Request, body: Callable[[], AsyncIterator[bytes]], timeout_s: float) -> Response:
        """Make a call; `body` is asked for the body's bytes unless the request has them. Nothing that goes wrong on the way is
        raised: it is the answer's failure. A connection that had served before may have been closed by the edge at that
        moment: then another is taken.

        A call that is cancelled is broken off, which the function's replica notices as it does with any client that leaves.
        Raises OSError when a response's body could not be written, and what `body` raises.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while (connection := await self._connection()) is not None:
            had_served = connection.had_served
            connection.deadline = deadline
            response = await self._exchange(connection, request, body)
            if connection.late:
                return Response(answer=Answer(0, failure=f"no answer within {timeout_s:g} s"))
            if not (had_served and connection.unanswered):
                return response
        return Response(answer=Answer(0, failure="the edge cannot be reached", unsent=True))

    def close(self) -> None:
        """Close all connections that nobody uses."""
        for idle in self._idle:
            for connection in idle:
                connection.abort()
            idle.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _exchange(
        self, connection: CallConnection, request: Request, body: Callable[[], AsyncIterator[bytes]]
    ) -> Response:
        self._busy.add(connection)
        if self._timer is None:
            self._sweep_later()
        try:
            done = connection.send(request.head(), request.data, head_only=request.method == "HEAD")
            if request.data is None and request.size:
                await connection.send_pieces(body())
            await done
        except BaseException:
            connection.abort()
            if connection.spool is not None:
                await connection.spool.discard()
            raise
        finally:
            self._busy.discard(connection)
        kept = await self._body(connection)
        idle = self._idle[connection.edge]
        if connection.reusable and len(idle) < IDLE_AT_MOST:
            idle.append(connection)
        else:
            connection.abort()
        return Response(answer=connection.answer(), body=kept, cut=connection.cut)

    async def _body(self, connection: CallConnection) -> bytes | Path:
        """Return what came of the response's body; nothing where it broke off."""
        spool = connection.spool
        if spool is None:
            return connection.body
        if not connection.whole:
            await spool.discard()
            return b""
        try:
            return await spool.whole()
        except BaseException:
            connection.abort()
            await spool.discard()
            raise

    async def _connection(self) -> CallConnection | None:
        """Return a connection to the edge whose turn it is, or to the next one that can be reached."""
        for _ in self._edges:
            number = self._next % len(self._edges)
            self._next += 1
            idle = self._idle[number]
            while idle:
                connection = idle.pop()
                if connection.reusable:
                    return connection
            made = CallConnection(number, self._spool, self._limit_bytes)
            edge = self._edges[number]
            try:
                if not isinstance(edge, str):
                    join(made, edge())
                else:
                    async with asyncio.timeout(CONNECT_WITHIN_S):
                        await asyncio.get_running_loop().create_unix_connection(lambda made=made: made, edge)  # type: ignore[misc]
            except (OSError, TimeoutError):
                continue
            return made
        return None

    def _sweep_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for connection in list(self._busy):
            if connection.deadline <= now:
                connection.expire()
        if self._busy:
            self._sweep_later()
