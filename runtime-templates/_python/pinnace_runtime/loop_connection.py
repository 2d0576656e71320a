"""One client connection of a loop server: callbacks in the order in which they fire.

    connection_made → data_received (head → call → body)* → eof_received → connection_lost

Calls on a connection run one after the other; what arrives for the next one waits in the buffer, and reading pauses
when that grows.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from typing import TYPE_CHECKING, cast

from pinnace_runtime import http1, logs
from pinnace_runtime.asgi import scope_of
from pinnace_runtime.deadlines import call_timeout_s, late_line, took_longer
from pinnace_runtime.http1 import BadRequest, Request, plain_response
from pinnace_runtime.http_call import BODY_HIGH_WATER_BYTES, HttpCall
from pinnace_runtime.thread_connection import (
    DRAINING,
    HEAD_END,
    HEAD_WITHIN_S,
    REFUSED_BODY_WITHIN_S,
    RUNTIME_MARK,
)

if TYPE_CHECKING:
    from pinnace_runtime.loop_server import LoopServer
    from pinnace_runtime.websocket_call import WebSocketCall


class LoopConnection(asyncio.Protocol):
    """A connection, and the call in flight on it, if any."""

    def __init__(self, server: LoopServer, sock: socket.socket) -> None:
        self.served = False
        self.idle_since = time.monotonic()
        self._server = server
        self._sock = sock
        self._transport: asyncio.Transport
        self._buffer = b""
        self._call: HttpCall | None = None
        self._websocket: WebSocketCall | None = None
        self._holds_slot = False
        self._discards = False  # the last word is said: what still comes is read and dropped
        self._read_shut = False  # by the drain: the client is still there
        self._timer: asyncio.TimerHandle | None = None  # of the head while there is no call, else of the call
        self._writable: asyncio.Future[None] | None = None
        self._reading = True

    @property
    def idle(self) -> bool:
        """Whether nothing of a call has arrived."""
        return self._call is None and self._websocket is None and not self._buffer and not self._discards

    def shut_reading(self) -> None:
        """Take no next call: end the connection, unless something has arrived, which is still served."""
        self._read_shut = True
        try:
            self._sock.shutdown(socket.SHUT_RD)
        except OSError:
            return  # the client was faster

    def going_away(self) -> None:
        """The replica shuts down: a WebSocket, which may last for ever, is closed."""
        if self._websocket is not None:
            self._websocket.going_away()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none of asyncio's classes
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._discards:
            return
        if self._websocket is not None:
            self._websocket.data_received(data)
            return
        if self._call is not None and not self._call.decoder.done:
            self._body_arrived(self._call, data)
            return
        self._buffer += data
        if self._call is None:
            self._next_call()
        elif len(self._buffer) > BODY_HIGH_WATER_BYTES:
            self.pause_reading()

    def eof_received(self) -> bool:
        if self._read_shut and not self.idle:
            if self._call is None or not self._call.decoder.done:
                self._refuse(BadRequest(503, DRAINING))
            return True  # nobody left: the drain shut the reading side, the call goes on
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_timer()
        self._server.connections.discard(self)
        if self._call is not None:
            self._call.client_left()
        if self._websocket is not None:
            self._websocket.client_left()
        self.resume_writing()
        self._server.changed()

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # What a call asks for.

    def lasts(self, request: Request) -> bool:
        """Whether the connection takes another call after this one."""
        return request.keep_alive and not self._server.draining and not self._read_shut

    def write(self, data: bytes) -> None:
        if data and not self._transport.is_closing():
            self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the client has taken enough of what was written."""
        if self._writable is not None:
            await self._writable

    def pause_reading(self) -> None:
        if self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def free_slot(self) -> None:
        """The client may call again: the place is free before it can know that its call has ended."""
        if self._holds_slot:
            self._holds_slot = False
            self._server.free_slot()

    def call_complete(self, *, lasts: bool) -> None:
        """The response is written. Go on with the next call, or end the connection."""
        self._stop_timer()
        self.free_slot()
        call, self._call = self._call, None
        if not lasts:
            self._end_politely(whole=call is None or call.decoder.done)
            return
        self.idle_since = time.monotonic()
        self.resume_reading()
        if self._buffer:
            self._next_call()

    def websocket_open(self) -> None:
        """The application accepted: the time for that is over."""
        self._stop_timer()

    def websocket_closed(self) -> None:
        """The last frame is written."""
        self._end_politely(whole=False)

    def websocket_ended(self) -> None:
        """The application has ended."""
        self._websocket = None
        self.free_slot()
        if not self._discards:
            self._end_politely(whole=True)

    def cut(self, *, reset: bool) -> None:
        """End the connection so that the client sees that the response is not whole."""
        if reset:  # HTTP/1.0, where the end of the connection is the end of the body
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.close()
        self._call = None
        self.free_slot()

    # The way of a call.

    def _next_call(self) -> None:
        # RFC 9112 section 2.2: an empty line before a request is no error.
        buffer = self._buffer.lstrip(b"\r\n") if self._buffer[:1] == b"\r" else self._buffer
        end = buffer.find(HEAD_END)
        if max(end, len(buffer) if end < 0 else 0) > http1.HEAD_LIMIT_BYTES:
            self._refuse(BadRequest(431, f"the request head is larger than {http1.HEAD_LIMIT_BYTES} bytes"))
            return
        if end < 0:
            self._buffer = buffer
            if buffer and self._timer is None:
                late = BadRequest(408, f"the request head took longer than {HEAD_WITHIN_S:g} s")
                self._timer = asyncio.get_running_loop().call_later(HEAD_WITHIN_S, self._refuse, late)
            return
        self._stop_timer()
        try:
            request = http1.parse_head(buffer[:end])
        except BadRequest as error:
            self._refuse(error)
            return
        self.served = True
        self._begin(request, buffer[end + 4 :])

    def _begin(self, request: Request, rest: bytes) -> None:
        server = self._server
        if request.path.startswith(b"/_/") and (probe := server.probe(request.path)):
            self._answer_early(request, rest, *probe)
        elif not server.take_slot():
            text = f"Concurrent request limit exceeded. Max concurrent requests: {server.settings.max_inflight}\n"
            self._answer_early(request, rest, 429, text, RUNTIME_MARK)
        elif request.upgrade.lower() == b"websocket" and not server.http_only:
            self._holds_slot = True
            self._begin_websocket(request, rest)
        else:
            self._holds_slot = True
            call = HttpCall(self, request, scope_of(request, "http", server.state, server.address))
            self._call = call
            self._buffer = b""
            self._body_arrived(call, rest)
            task = server.start_task(call.run(server.application))
            limit_s = call_timeout_s(request, server.settings.exec_timeout_s)
            if self._call is call:  # a malformed body may have ended it already
                self._timer = asyncio.get_running_loop().call_later(limit_s, self._expire, call, task)

    def _begin_websocket(self, request: Request, rest: bytes) -> None:
        from pinnace_runtime.websocket_call import WebSocketCall

        server = self._server
        try:
            call = WebSocketCall(self, request, scope_of(request, "websocket", server.state, server.address))
        except BadRequest as error:
            self._refuse(error)
            return
        self._websocket = call
        self._buffer = b""
        task = server.start_task(call.run(server.application))
        limit_s = call_timeout_s(request, server.settings.exec_timeout_s)
        self._timer = asyncio.get_running_loop().call_later(limit_s, self._expire_websocket, request, task)
        if rest:
            call.data_received(rest)

    def _body_arrived(self, call: HttpCall, data: bytes) -> None:
        try:
            body = call.decoder.feed(data)
        except BadRequest as error:
            self._refuse(error)
            return
        if call.decoder.done:
            self._buffer += call.decoder.rest
        if body or call.decoder.done:
            call.body_arrived(body)

    def _expire(self, call: HttpCall, task: asyncio.Task[None]) -> None:
        """A call's time is up. A coroutine can be stopped, unlike a blocking handler; its slot is free when it has ended."""
        longest_s = self._server.settings.exec_timeout_s
        limit_s = call_timeout_s(call.request, longest_s)
        what = "the call" if call.decoder.done else "the call's body"
        logs.tell(late_line(what, limit_s, longest_s, call.request.mark), call.request.mark)
        untouched = call.take_over()
        self._call = None
        self._holds_slot = False
        task.add_done_callback(lambda _: self._server.free_slot())
        task.cancel()
        if untouched:
            text = f"{took_longer('The call', limit_s, longest_s)}\n"
            self.write(plain_response(504, text, RUNTIME_MARK, close=True, head=call.request.method == "HEAD"))
        self._end_politely(whole=call.decoder.done)

    def _expire_websocket(self, request: Request, task: asyncio.Task[None]) -> None:
        """The application did not accept in time."""
        longest_s = self._server.settings.exec_timeout_s
        limit_s = call_timeout_s(request, longest_s)
        logs.tell(late_line("accepting the WebSocket", limit_s, longest_s, request.mark), request.mark)
        task.cancel()

    def _answer_early(self, request: Request, rest: bytes, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
        """Answer before the body is read. The connection lasts only where the whole body is here already."""
        length = request.content_length
        whole = length is not None and length <= len(rest)
        lasts = whole and self.lasts(request)
        self.write(plain_response(status, text, *headers, close=not lasts, head=request.method == "HEAD"))
        self._buffer = rest[length:] if whole else b""
        if not lasts:
            self._end_politely(whole=whole)
        elif self._buffer:
            self._next_call()

    def _refuse(self, error: BadRequest) -> None:
        """Answer a request that cannot be served, or can no longer be, and end the connection."""
        call, self._call = self._call, None
        self.free_slot()
        if call is None or call.take_over():
            self.write(plain_response(error.status, f"{error}\n", RUNTIME_MARK, close=True))
        self._end_politely(whole=False)

    def _end_politely(self, *, whole: bool) -> None:
        """End the connection. Where the client may still be sending, let it for a moment: closing would reset it."""
        self._stop_timer()
        if whole or self._transport.is_closing():
            self._transport.close()
            return
        self._discards = True
        self._buffer = b""
        self.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._timer = asyncio.get_running_loop().call_later(REFUSED_BODY_WITHIN_S, self._transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
