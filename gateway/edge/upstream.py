"""Connections to one replica: a pool, and on each connection one call at a time.

The response is relayed as its bytes arrive; all pieces that came with one read are written to the client in one
write. A connection returns to the pool only when request and response are complete, the replica keeps it open, and not
one surplus byte came. llhttp reads the next response as the body of one to HEAD, takes an interim response for a
complete one and cannot be told of the end of file: all three are handled here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import httptools

from gateway.edge.asynchronous import accepted_marks
from gateway.edge.call import CONNECTING, INFINITE, RESPONDING, Call
from gateway.edge.flow import PacedConnection
from gateway.edge.inside import Accept, join
from gateway.edge.response import CHUNKED, CLOSE, NO_BODY, ResponseHead
from orchestration.replica import Endpoint
from telemetry.call_spans import LEAST_ERROR

if TYPE_CHECKING:
    from gateway.edge.context import EdgeContext
    from gateway.edge.plain import PlainResponse

HEAD_LIMIT_BYTES: Final = 1024 * 1024
_RUNTIME_REFUSALS: Final = (429, 503)


class UpstreamConnections:
    """The connections to `endpoint`. `idle` is a stack in a dict: the one used last is used next, any can be taken out.
    With `accept` the endpoint is in this process, and no socket is needed."""

    def __init__(self, endpoint: Endpoint, context: EdgeContext, accept: Accept | None = None) -> None:
        self.endpoint = endpoint
        self.context = context
        self._accept = accept
        self.idle: dict[UpstreamConnection, None] = {}
        self.retired = False
        self._connecting: dict[Call, asyncio.Task[None]] = {}

    def take(self) -> UpstreamConnection | None:
        """Return an open connection that nobody uses, or None."""
        while self.idle:
            connection, _ = self.idle.popitem()
            if not connection.transport.is_closing():
                return connection
        return None

    def put(self, connection: UpstreamConnection) -> None:
        """Take back a connection whose exchange is complete."""
        if self.retired or connection.transport.is_closing():
            connection.drop()
        else:
            connection.idle_since = self.context.now
            self.idle[connection] = None

    @property
    def unused(self) -> int:
        """How many connections are open that nobody uses."""
        return len(self.idle)

    def connect(self, call: Call) -> None:
        """Open a connection for `call`, then send it."""
        if self._accept is not None:
            self._join(call, self._accept)
            return
        self._connecting[call] = asyncio.get_running_loop().create_task(self._connect(call))

    def prune(self, unused_since: float) -> None:
        """Close connections that were put back before `unused_since`."""
        for connection in [c for c in self.idle if c.idle_since < unused_since]:
            connection.drop()

    def retire(self) -> None:
        """Close unused connections, now and later; calls that wait for one go back to their dispatcher."""
        self.retired = True
        for connection in list(self.idle):
            connection.drop()
        connecting, self._connecting = self._connecting, {}
        for call, task in connecting.items():
            task.cancel()  # it may not have begun to run, and then none of its code ever does
            if call.phase == CONNECTING and call.backend.connections is self:
                call.not_connected("the replica is going away")

    def lost(self, connection: UpstreamConnection) -> None:
        """The connection is closed."""
        self.idle.pop(connection, None)

    def _join(self, call: Call, accept: Accept) -> None:
        connection = self._make()
        try:
            join(connection, accept())
        except OSError as error:
            call.dispatcher.rest(call.backend, self.context.clock())
            call.not_connected(error.strerror or str(error))
        else:
            call.send(connection)

    async def _connect(self, call: Call) -> None:
        loop = asyncio.get_running_loop()
        why = ""
        connection = None
        try:
            async with asyncio.timeout(self.context.settings.upstream_connect_s):
                if self.endpoint.unix is not None:
                    _, connection = await loop.create_unix_connection(self._make, self.endpoint.unix)
                else:
                    _, connection = await loop.create_connection(
                        self._make, self.endpoint.host or "127.0.0.1", self.endpoint.port
                    )
        except TimeoutError:
            why = f"no connection within {self.context.settings.upstream_connect_s:g} s"
        except OSError as error:
            why = error.strerror or str(error)
        finally:
            self._connecting.pop(call, None)
        if connection is not None and connection.transport.is_closing():
            # It ended before this task ran again, and nobody would tell the call: `connection_lost` has been.
            connection, why = None, "the replica closed the connection at once"
        wanted = call.phase == CONNECTING and call.backend.connections is self
        if connection is None:
            if wanted:
                call.dispatcher.rest(call.backend, self.context.clock())
                call.not_connected(why)
        elif not wanted:
            self.put(connection)
        else:
            call.dispatcher.reachable(call.backend)
            call.send(connection)

    def _make(self) -> UpstreamConnection:
        return UpstreamConnection(self)


class UpstreamConnection(PacedConnection):
    """One connection to a replica."""

    __slots__ = (
        "_code",
        "_done",
        "_fault",
        "_framing",
        "_head",
        "_head_bytes",
        "_interim",
        "_keep",
        "_out",
        "_owner",
        "_parser",
        "_refused",
        "_surplus",
        "_tunnel",
        "_unread",
        "_until_eof",
        "_used",
        "call",
        "idle_since",
        "on_header",
        "on_status",
    )

    def __init__(self, owner: UpstreamConnections) -> None:
        super().__init__()
        self._owner = owner
        self._head = ResponseHead()
        self.on_status = self._head.on_status
        self.on_header = self._head.on_header
        self._parser = httptools.HttpResponseParser(self)
        self._out: list[bytes] = []
        self._framing = NO_BODY
        self._done = False
        self._keep = False
        self._surplus = False
        self._tunnel = False
        self._used = False
        self._code = 0
        self._fault = ""
        self._head_bytes = 0
        self._interim = False
        self._refused = False
        self._unread = False
        self._until_eof = False
        self.call: Call | None = None
        self.idle_since = 0.0

    # the request goes out

    def begin(self, call: Call, data: bytes) -> None:
        """Send the head of `call` and what is held of its body."""
        self.call = call
        self._done = False
        self._unread = True
        self._head_bytes = 0
        self.transport.write(data)

    def pause_writing(self) -> None:
        if self.call is not None:
            self.call.client.pause_reading()

    def resume_writing(self) -> None:
        if self.call is not None:
            self.call.client.resume_reading()

    # the response comes in

    def data_received(self, data: bytes) -> None:
        call = self.call
        if call is None:
            self.drop()  # nobody asked: what follows cannot be trusted
            return
        if self._unread:
            plain = self._owner.context.plain_responses.read(data)
            if plain is not None and self._answer_plain(plain, call, data):
                return
            self._unread = False
        if self._tunnel:
            call.client.tunnel_out(data)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._out.append(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if not self._done:
                self._fault = self._fault or f"the replica's response is malformed: {error}"
            self._surplus = True
        self._after_feed(call, len(data))

    def _answer_plain(self, plain: PlainResponse, call: Call, data: bytes) -> bool:
        """Relay a whole response; False when this client must be answered otherwise."""
        context = self._owner.context
        if call.head_only or call.http10 or context.draining or not (call.keep_alive and call.complete):
            return False
        now = context.clock()
        if call.trace is not None or plain.code >= LEAST_ERROR:
            call.answered(now, data[: plain.head_bytes])
        if call.waited_s:
            call.first_byte(now)
        if plain.call_id and call.dispatcher is context.acceptor:
            call.marks = accepted_marks(plain.call_id, call.marks)
        call.client.transport.write(plain.to_client(call, now, context.date, data))
        self._reusable(call)
        call.end(plain.code, now, True)
        return True

    def _after_feed(self, call: Call, size: int) -> None:
        """All callbacks for one read have run: write what they made, see where the exchange stands."""
        out = self._out
        if out:
            call.client.transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()
        if self._done:
            self._exchange_over(call)
        elif self._fault:
            self._break(self._fault)
        elif self._tunnel:
            call.client.enter_tunnel(self)
        elif call.phase != RESPONDING:
            self._head_bytes += size
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self._break(f"the head of the replica's response is longer than {HEAD_LIMIT_BYTES} bytes")

    def on_message_begin(self) -> None:
        if self._done:
            self._surplus = True  # the first bytes of a response that nobody asked for

    def on_headers_complete(self) -> None:
        call, head, parser = self.call, self._head, self._parser
        if call is None or self._done:
            self._surplus = True
            return
        code = parser.get_status_code()
        if code < 200:
            self._interim_response(code, call)
            return
        if head.transfer_encoding is not None and head.transfer_encoding.strip(b" \t").lower() != b"chunked":
            self._fault = "the replica's response has a transfer coding other than chunked"
            return
        if head.internal == b"runtime" and code in _RUNTIME_REFUSALS and call.may_be_sent_again():
            self._refused = True
            self._framing = NO_BODY  # its body is for nobody
            self._done = call.head_only
            return
        self._code = code
        self._keep = parser.should_keep_alive()
        self._framing = head.framing(code, call)
        self._until_eof = head.transfer_encoding is None and head.content_length is None
        call.phase = RESPONDING
        if call.dispatcher.streams:
            call.deadline = INFINITE
        context = self._owner.context
        if self._framing == CLOSE or not call.complete or context.draining:
            call.keep_alive = False
        if head.call_id and call.dispatcher is context.acceptor:
            call.marks = accepted_marks(head.call_id, call.marks)
        now = context.clock()
        if call.trace is not None or code >= LEAST_ERROR:
            call.answered(now, b"\r\n" + b"".join(head.fields))
        if call.waited_s:
            call.first_byte(now)
        self._out.append(head.to_client(code, self._framing, call, now, context.date))
        head.reset()
        if call.head_only:
            self._done = True  # though the parser waits for a body

    def on_body(self, data: bytes) -> None:
        if self._done or self._framing == NO_BODY:
            self._surplus = True
        elif self._framing == CHUNKED:
            self._out += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._out.append(data)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif not self._done and not self._fault and not self._tunnel:
            self._response_complete()

    def eof_received(self) -> None:
        call = self.call
        if call is not None and call.phase == RESPONDING and self._until_eof and not self._tunnel:
            self._keep = False
            self._response_complete()
            call.client.transport.write(b"".join(self._out))
            self._out.clear()
            self._exchange_over(call)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.lost(self)
        if self.call is not None:
            self._break(f"the replica closed the connection without an answer{f' ({exc})' if exc else ''}")

    # the exchange ends

    def drop(self) -> None:
        """Close the connection for good; its call, if any, is somebody else's now."""
        self.call = None
        self._owner.lost(self)
        self.transport.abort()

    def _interim_response(self, code: int, call: Call) -> None:
        head = self._head
        if code == 101:
            if call.upgrade:
                self._tunnel = True
                self._code = code
                call.phase = RESPONDING
                call.deadline = INFINITE
                self._out.append(head.interim(code) + call.marks + b"\r\n")
            else:
                self._fault = "the replica switched protocols though nobody asked it to"
            return
        self._interim = True
        if code != 100 and not call.http10:  # 100 is the edge's own to send
            self._out.append(head.interim(code) + b"\r\n")
        head.reset()

    def _response_complete(self) -> None:
        self._done = True
        if self._refused:
            return
        if self._framing == CHUNKED:
            self._out.append(b"0\r\n%b\r\n" % b"".join(self._head.fields))
        if self._head.fields:
            self._head.reset()  # trailers

    def _exchange_over(self, call: Call) -> None:
        self.call = None
        if self._refused:
            self.drop()
            call.turned_away()
            return
        if self._keep and call.complete and not self._surplus:
            if call.head_only:
                self._parser = httptools.HttpResponseParser(self)
            self._reusable(call)
        else:
            self.drop()
        call.end(self._code, self._owner.context.clock(), call.keep_alive)

    def _reusable(self, call: Call) -> None:
        """Request and response are complete: the connection may serve another call."""
        self.call = None
        self._used = True
        if self.reading_paused:
            self.resume_reading()
        self._owner.put(self)

    def _break(self, why: str) -> None:
        call = self.call
        self.drop()
        if call is None:
            return
        if self._tunnel:
            call.end(self._code, self._owner.context.clock(), False)
        elif call.phase == RESPONDING:
            call.break_off(self._code)
        else:
            call.not_answered(why, stale=self._used)
