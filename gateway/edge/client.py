"""One client connection: requests are parsed as they come, and answered in the order in which they came.

Bytes → `data_received` → a plain head, or the reader → a `Call` with a dispatcher. While a call is going on, requests
pipelined behind it wait in `_behind`, bytes behind those in `_unparsed`, and reading is paused, so that a client cannot
make the edge hold more than one read's worth. After an Upgrade request reading stops until the replica has answered;
then the connection is a tunnel, or goes on as HTTP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from gateway.edge.asynchronous import acceptor_of, unnamed
from gateway.edge.call import ENDED, INFINITE, Call
from gateway.edge.context import EdgeContext
from gateway.edge.flow import PacedConnection
from gateway.edge.headers import HEAD_END
from gateway.edge.reader import RequestReader
from gateway.edge.refusal import Refusal
from gateway.edge.request import believed_forwarded_lines, forwarded_lines
from gateway.edge.routes import ASYNC_PREFIX, PREFIX, split_target
from gateway.edge.tracing import retold

if TYPE_CHECKING:
    from gateway.edge.plain import PlainRequest
    from gateway.edge.request import RequestHead
    from gateway.edge.upstream import UpstreamConnection

PARSED_AT_ONCE_BYTES: Final = 32 * 1024
"""No more of a read is parsed in one go: pipelined requests of 40 bytes would else hold the loop for 30 ms, and 6 MB."""


class ClientConnection(PacedConnection):
    """A client. `deadline` is when the connection itself has been silent or slow for too long; who `hears_of_traces` is told
    which of its calls are traced."""

    hears_of_traces = False

    __slots__ = (
        "_behind",
        "_forwarded",
        "_fresh",
        "_peer",
        "_reader",
        "_starting",
        "_trusted",
        "_unparsed",
        "_unsent",
        "call",
        "closing",
        "context",
        "deadline",
        "writing_paused",
    )

    def __init__(self, context: EdgeContext) -> None:
        super().__init__()
        self.context = context
        self._reader = RequestReader(self)
        self.call: Call | None = None
        self.deadline = context.now + context.settings.header_timeout_s
        self.writing_paused = False
        self._behind: deque[Call] = deque()
        self._fresh: Call | None = None
        self._starting = False
        self.closing = False
        self._unsent = 0
        self._unparsed = b""
        self._peer = b""
        self._trusted = False
        self._forwarded = b""

    # connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        address = transport.get_extra_info("peername")
        peer = address[0] if isinstance(address, tuple) else ""
        self._peer = peer.encode()
        self._trusted = self.context.trusts(peer)
        self._forwarded = forwarded_lines(self._peer)
        self.context.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.context.left(self)
        self.closing = True
        self._behind.clear()
        self._unparsed = b""
        call, self.call = self.call, None
        self._reader.receiving = self._reader.upgrade.tunnel = None
        if call is not None:
            call.abandon()

    def eof_received(self) -> bool:
        return False  # a client that closes its side has left: half-open connections cannot be told from dead ones

    # request bytes come in

    def data_received(self, data: bytes) -> None:
        if self._unparsed:
            data, self._unparsed = self._unparsed + data, b""
        reader = self._reader
        if self.call is None and not (reader.in_head or reader.in_body or self.closing):
            plain = self.context.plain_requests.read(data)
            if plain is not None and self._start_plain(plain, data):
                return
        if (tunnel := reader.upgrade.tunnel) is not None:
            self.deadline = self.context.now + self.context.settings.tunnel_idle_s
            tunnel.transport.write(data)
            return
        if self.closing:
            return
        if len(data) <= PARSED_AT_ONCE_BYTES:
            self._parse(data)
        else:
            self._parse_in_parts(memoryview(data))
        call = self._fresh
        if call is None or reader.in_body or reader.in_head or self._behind:
            self._after_feed()
        else:  # one whole request, as most reads are
            self._fresh = None
            self.deadline = INFINITE
            self._start(call, call.started)

    def _parse_in_parts(self, data: memoryview) -> None:
        """Parse until a request stands behind another one; what is left waits until that is answered."""
        for start in range(0, len(data), PARSED_AT_ONCE_BYTES):
            if self._behind or self._reader.upgrade.pending:
                self._unparsed += data[start:]
                return
            self._parse(data[start : start + PARSED_AT_ONCE_BYTES])

    def _parse(self, data: bytes | memoryview) -> None:
        self._unparsed = self._reader.parse(data)
        if self._reader.upgrade.pending:
            self.pause_reading()

    @property
    def last(self) -> Call | None:
        """The call that came last, if it has not been answered."""
        return self._behind[-1] if self._behind else self.call

    def came(self, call: Call) -> None:
        """A request's head was read."""
        if self.call is None:
            self.call = self._fresh = call  # starts when the whole read is parsed: head and body go in one write
        else:
            self._behind.append(call)

    def _after_feed(self) -> None:
        """Judge where the connection stands now that all callbacks for one read have run."""
        reader = self._reader
        if reader.in_body:
            self.deadline = self.context.now + self.context.settings.body_idle_s
        elif self.call is not None and not reader.in_head:
            self.deadline = INFINITE
        call, self._fresh = self._fresh, None
        if call is not None:
            self._start(call, call.started)
        if self.call is not None and (self._behind or reader.in_head):
            self.pause_reading()

    # where the call goes

    def route(self, call: Call, head: RequestHead) -> None:
        """Find the dispatcher of a parsed call and write its head, or refuse it."""
        context = self.context
        path = target = head.target
        if target.startswith(PREFIX):
            name, path = split_target(target)
            route = context.routes.names.get(name)
            if route is not None and head.tag is not None:
                route = route.tagged(head.tag.decode("latin-1"))
            if route is None or (dispatcher := route.pick()) is None:
                call.refusal = context.routes.missing(name, head.tag)
                return
            call.tally = route.tally
        elif target.startswith(ASYNC_PREFIX):
            acceptor, call.refusal = acceptor_of(context, head)
            if acceptor is None:
                return
            dispatcher = acceptor
            call.tally = context.control_tally
        else:
            dispatcher = context.control
            call.tally = context.control_tally
        if self._trusted:
            crossing, forwarded = believed_forwarded_lines(head.forwarded, head.host, self._peer)
            head.fields.append(crossing)
        else:
            forwarded = self._forwarded + head.host
        marks = call.marks if dispatcher is not context.acceptor or head.accepted_call_id() else unnamed(call.marks)
        call.head = head.to_upstream(path, marks, forwarded)
        if context.tracing is not None and dispatcher.namespace:
            context.tracing.left -= 1
            call.trace = context.tracing.begin(call.marks, call.head)
            if call.trace is not None:
                call.head = retold(call.head[:-2], call.trace) + call.trace.header + b"\r\n"
        call.held = len(call.head)
        call.dispatcher = dispatcher

    def _start_plain(self, plain: PlainRequest, data: bytes) -> bool:
        """Start a call whose whole request is `data`; False when there is no such function."""
        context = self.context
        route = context.routes.names.get(plain.name)
        if route is None or (dispatcher := context.acceptor if plain.later else route.pick()) is None:
            return False
        marks = context.call_ids.marks(plain.call_id)
        now = context.clock()
        call = self.call = Call(self, plain.method, marks, now)
        tally = call.tally = context.control_tally if plain.later else route.tally
        call.dispatcher = dispatcher
        passed_on = plain.told_by_edge and self._trusted and not self._peer  # what a worker was told of the client
        rest = plain.rest if passed_on or not plain.told else plain.untold()
        if plain.later:
            if not plain.call_id:
                marks = unnamed(marks)
        elif (tracing := context.tracing) is not None:
            tracing.left -= 1
            if (plain.traced or tracing.left <= 0) and (trace := tracing.begin(marks, rest)) is not None:
                call.trace = trace
                rest = retold(rest, trace) + trace.header
        parts: tuple[bytes, ...]
        if passed_on:
            parts = (plain.method, plain.space, rest, marks, b"\r\n")
        elif self._trusted and plain.told:
            crossing, forwarded = believed_forwarded_lines(plain.said(), plain.host, self._peer)
            parts = (plain.method, plain.space, rest, crossing, marks, forwarded, HEAD_END)
        else:
            parts = (plain.method, plain.space, rest, marks, self._forwarded, plain.host, HEAD_END)
        head = call.head = b"".join(parts)
        call.held = len(head)
        if plain.length:
            call.receive(data[plain.head_bytes :])
        self.deadline = INFINITE
        tally.started += 1
        call.dispatch(now)
        return True

    def _start(self, call: Call, now: float) -> None:
        if call.refusal is None:
            call.tally.started += 1
            call.dispatch(now)
        else:
            call.phase = ENDED
            self.context.unrouted_tally.count(call.refusal.status, 0.0)
            self.refuse(call, call.refusal)

    # tunnels

    def enter_tunnel(self, upstream: UpstreamConnection) -> None:
        """The replica switched protocols: from now on bytes pass as they are."""
        self._reader.upgrade.pending = False
        self._reader.upgrade.tunnel = upstream
        self.deadline = self.context.now + self.context.settings.tunnel_idle_s
        early, self._unparsed = self._unparsed, b""
        if early:
            upstream.transport.write(early)
        self.resume_reading()

    def tunnel_out(self, data: bytes) -> None:
        """Bytes from the replica's side of the tunnel."""
        self.deadline = self.context.now + self.context.settings.tunnel_idle_s
        self.transport.write(data)

    # answers

    def refuse(self, call: Call, refusal: Refusal) -> None:
        """Answer with an error of the edge's own."""
        keep_alive = call.keep_alive and call.complete and not self.context.draining
        extra = call.marks + self.context.date
        if keep_alive and call.http10:
            extra += b"Connection: keep-alive\r\n"
        self.transport.write(refusal.response(extra=extra, head_only=call.head_only, close=not keep_alive))
        self.call_ended(call, keep_alive)

    def call_ended(self, call: Call, keep_alive: bool) -> None:
        """The answer has been written: go on with the next request, or close."""
        if call is not self.call:
            return
        self.call = None
        context = self.context
        if not keep_alive or context.draining:
            self._finish(linger=not call.complete)
            return
        settings = context.settings
        self.deadline = context.now + (settings.header_timeout_s if self._reader.head_bytes else settings.keep_alive_s)
        if self.writing_paused:
            self.pause_reading()  # no new request from one who does not read the answers
        elif self._reader.upgrade.pending or self._behind or self._unparsed or self.reading_paused:
            self._go_on()

    def _go_on(self) -> None:
        """Start what was pipelined, one call at a time; then read again."""
        if self._starting:
            return
        self._starting = True
        while self._behind and self.call is None and not self.writing_paused and not self.closing:
            call = self.call = self._behind.popleft()
            self._start(call, self.context.clock())
        self._starting = False
        if self.call is not None or self._behind or self.writing_paused:
            return
        self._reader.upgrade.pending = False  # if it was, the replica answered without switching
        self.resume_reading()

    def resume_reading(self) -> None:
        """The next request, or more of the body of this one, can be taken: first what was read already, in the next turn of
        the loop, so that others run in between."""
        if not self._unparsed:
            super().resume_reading()
        elif not (self._behind or self._reader.upgrade.pending):
            self.context.soon(self._read_on)

    def _read_on(self) -> None:
        data, self._unparsed = self._unparsed, b""
        super().resume_reading()
        if data:
            self.data_received(data)

    # slow and leaving clients

    def pause_writing(self) -> None:
        self.writing_paused = True
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = self.context.now + self.context.settings.body_idle_s
        if self.call is not None and self.call.upstream is not None:
            self.call.upstream.pause_reading()

    def resume_writing(self) -> None:
        self.writing_paused = False
        self.deadline = self.context.now + self.context.settings.keep_alive_s if self.call is None else INFINITE
        if self.call is None:
            self._go_on()
        elif self.call.upstream is not None:
            self.call.upstream.resume_reading()

    def expire(self, now: float) -> None:
        """A deadline has passed: the call's or the connection's own."""
        call = self.call
        settings = self.context.settings
        if call is not None and call.deadline <= now:
            call.expire(now)
        elif self.closing or self._reader.upgrade.tunnel is not None:
            self.abort()
        elif self.writing_paused:
            unsent = self.transport.get_write_buffer_size()
            if unsent < self._unsent:
                self._unsent = unsent
                self.deadline = now + settings.body_idle_s
            else:
                self.abort()
        elif self._reader.receiving is not None:
            if self.reading_paused:  # it is us who do not read
                self.deadline = now + settings.body_idle_s
            else:
                text = f"the request's body did not go on for {settings.body_idle_s:g} s"
                self._reader.reject(self._reader.receiving, Refusal(408, text))
        elif call is None and self._reader.head_bytes:
            self._reader.malformed(Refusal(408, f"the request's head did not come within {settings.header_timeout_s:g} s"))
            self._after_feed()
        elif call is None:
            self._finish(linger=False)
        else:
            self.deadline = INFINITE

    def close_if_idle(self) -> None:
        """Close unless a request is being read or answered."""
        if self.call is None and not self._reader.head_bytes and not self.closing:
            self._finish(linger=False)

    def abort(self) -> None:
        """Break the connection: nothing more is answered."""
        self.closing = True
        super().abort()

    def _finish(self, *, linger: bool) -> None:
        """Close after what is written has gone out. Lingering discards what still comes: closing on unread bytes
        resets the connection, and the client might never see the answer (RFC 9112 section 9.6)."""
        settings = self.context.settings
        self._unparsed = b""
        if linger and not self.closing:
            self.resume_reading()
            self.transport.write_eof()
            self.deadline = self.context.now + settings.linger_s
        else:
            self.transport.close()
            self.deadline = self.context.now + settings.body_idle_s
        self.closing = True
