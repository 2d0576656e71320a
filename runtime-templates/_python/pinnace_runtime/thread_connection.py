"""One client connection of a thread server: calls one after the other, each answered before the next is begun.

    between calls ──► head ──► body ──► call ──► between calls
                        └────────┴─────► lingers ──► closed

The leading thread takes what has arrived and goes on to the next connection: while a connection is `led`, nothing here
waits, except under the eyes of the watch (see `leadership`). A call whose thread leads no more has the connection to
itself, and gives it back in the end.

In the usual call there is one `recv`, one `send`, and no lock. The socket blocks, with the time limit SO_SNDTIMEO, because
a Python-level timeout would put a `poll` before each of the two; the leader says MSG_DONTWAIT.
"""

from __future__ import annotations

import _socket
import sys
import time
from contextvars import Context

from pinnace_runtime import http1, logs
from pinnace_runtime.deadlines import call_timeout_s, late_line, took_longer
from pinnace_runtime.http1 import BadRequest, ChunkedBody, Request, SizedBody, plain_response
from pinnace_runtime.reply import InvalidReply, Reply, failure
from pinnace_runtime.reply_stream import Pieces

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from typing import Any

    from pinnace_runtime.thread_server import ThreadServer

HEAD_WITHIN_S = 10.0
REFUSED_BODY_WITHIN_S = 1.0
RECV_BYTES = 64 * 1024
BODY_RECV_BYTES = 256 * 1024

HEAD_END = b"\r\n\r\n"
DRAINING = "this replica is shutting down"
RUNTIME_MARK = (b"X-OpenFaaS-Internal", b"runtime")

_DONTWAIT = _socket.MSG_DONTWAIT

BETWEEN_CALLS, HEAD, BODY, CALL, LINGERS, CLOSED = "between calls", "head", "body", "call", "lingers", "closed"


class Connection:
    """A connection. It is its own key in the book of deadlines.

    `led`: it is in the leader's hands. `stays`: it is not, and its thread waits for the next call. `buffer` is what has
    arrived and is not served yet.
    """

    __slots__ = (
        "_body",
        "_deadline",
        "_decoder",
        "_head_sent",
        "_holds_slot",
        "_is_head",
        "_limit_s",
        "_mark",
        "_read_shut",
        "_request",
        "_server",
        "_sock",
        "buffer",
        "fd",
        "idle_since",
        "led",
        "phase",
        "served",
        "stays",
    )

    _request: Request
    _decoder: SizedBody | ChunkedBody
    _body: Any

    def __init__(self, server: ThreadServer, sock: _socket.socket) -> None:
        self.fd = sock.fileno()
        self.led = True
        self.phase = BETWEEN_CALLS
        self.buffer = b""
        self.served = False
        self.stays = False
        self.idle_since = time.monotonic()
        self._server = server
        self._sock = sock
        self._is_head = False
        self._read_shut = False  # no more can arrive: the drain shut the reading side
        self._head_sent = False
        self._holds_slot = False
        self._deadline = self._limit_s = 0.0
        self._mark = ""

    # What the leader calls. Each says whether its thread still leads.

    def take(self) -> bool:
        """Take what has arrived, and serve the call that is whole by now, if one is."""
        phase = self.phase
        try:
            data = self._sock.recv(BODY_RECV_BYTES if phase is BODY else RECV_BYTES, _DONTWAIT)
        except BlockingIOError:
            return True
        if not data:
            self._no_more()
        elif phase is BETWEEN_CALLS or phase is HEAD:
            self.buffer = self.buffer + data if self.buffer else data
            self._serve_next()
        elif phase is BODY:
            self._take_body(data)
        return self._go_on()

    def serve(self) -> bool:
        """Serve the next call of what had arrived with the last one."""
        self._serve_next()
        return self._go_on()

    def close(self) -> None:
        """End the connection, and all that is known of it. What failed half-way can be done again."""
        if self._sock.fileno() < 0:
            return  # another connection may have its number by now
        self.phase = CLOSED
        self._server.deadlines.end(self)
        self._server.deadlines.settle()
        self._free_slot()
        self._server.forget(self)
        self._sock.close()

    def shut_reading(self) -> None:
        """Take no next call. What has arrived is still read and served."""
        self._read_shut = True
        try:
            self._sock.shutdown(_socket.SHUT_RD)
        except OSError:
            return  # the client was faster

    # What the deadlines' thread calls.

    def expire(self) -> None:
        """Time is up: answer for what is late, and end the connection. A handler runs on."""
        is_call = self.phase is BODY or self.phase is CALL
        limit_s, longest_s, mark = self._limit_s, self._server.settings.exec_timeout_s, self._mark
        what = "the call's body" if self.phase is BODY else "the call"
        try:
            answer = b""
            if self.phase is LINGERS:  # its side is shut already: a send, even of nothing, would fail
                self._sock.shutdown(_socket.SHUT_RD)
                return
            if self.phase is HEAD:
                answer = plain_response(
                    408, f"the request head took longer than {HEAD_WITHIN_S:g} s\n", RUNTIME_MARK, close=True
                )
            elif not self._head_sent:
                text = f"{took_longer('The call', limit_s, longest_s)}\n"
                answer = plain_response(504, text, RUNTIME_MARK, close=True, head=self._is_head)
            self._sock.send(answer, _DONTWAIT)
            self._sock.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # the client was faster
        if is_call:
            logs.tell(late_line(what, limit_s, longest_s, mark), mark)

    # The way of a call.

    def _go_on(self) -> bool:
        while not self.led:
            if self.phase is CLOSED:
                return False
            if self.phase is BETWEEN_CALLS and (self.buffer or self._stay()):
                self._serve_next()
            elif self.phase is not CLOSED:
                self._server.give_back(self)
                return False
        if self.buffer and self.phase is BETWEEN_CALLS:
            self._server.again.append(self)
        return True

    def _stay(self) -> bool:
        """Where calls run apart, wait a while for the next one: only this thread wakes for it then. Whether it came."""
        if not self._server.leadership.apart:
            return False
        self.idle_since = time.monotonic()
        self.stays = True
        if self._server.draining:  # if that begins now, the leader sees that this one stays
            return False
        try:
            self.buffer = self._sock.recv(RECV_BYTES)
        except BlockingIOError:
            return False
        finally:
            self.stays = False
        if not self.buffer:
            self.close()
        return bool(self.buffer)

    def _no_more(self) -> None:
        """The client ended its side, or the drain did."""
        if self._read_shut and self.phase in (HEAD, BODY) and self._server.deadlines.end(self):
            self._refuse(BadRequest(503, DRAINING))
        else:
            self.close()

    def _serve_next(self) -> None:
        server = self._server
        buffer = self.buffer
        if buffer[0] == 13:
            self.buffer = buffer = buffer.lstrip(b"\r\n")  # RFC 9112 section 2.2: an empty line before a request is no error
        end = buffer.find(HEAD_END)
        if end < 0 and len(buffer) <= http1.HEAD_LIMIT_BYTES:
            if buffer and self.phase is BETWEEN_CALLS:
                self.phase = HEAD
                server.deadlines.begin(self, time.monotonic() + HEAD_WITHIN_S)
            return
        if self.phase is HEAD:
            if not server.deadlines.end(self):
                self.close()
                return
            self.phase = BETWEEN_CALLS
        try:
            if not 0 <= end <= http1.HEAD_LIMIT_BYTES:
                raise BadRequest(431, f"the request head is larger than {http1.HEAD_LIMIT_BYTES} bytes")
            request = http1.parse_head(buffer[:end])
        except BadRequest as error:
            self._refuse(error)
            return
        self.buffer = buffer[end + 4 :]
        self._is_head = request.method == "HEAD"
        self.served = True
        if request.path[:3] == b"/_/" and (probe := server.probe(request.path)):
            self._answer_early(request, *probe)
        elif not server.take_slot():
            text = f"Concurrent request limit exceeded. Max concurrent requests: {server.settings.max_inflight}\n"
            self._answer_early(request, 429, text, RUNTIME_MARK)
        else:
            self._holds_slot = True
            self._begin_call(request)

    def _begin_call(self, request: Request) -> None:
        """Run the call, whose slot is taken, if its body is whole; else wait for that."""
        self.idle_since = now = time.monotonic()
        timeout_s = self._server.settings.exec_timeout_s
        self._limit_s = call_timeout_s(request, timeout_s) if request.timeout else timeout_s
        self._deadline = now + self._limit_s
        self._mark = request.mark
        self._server.deadlines.begin(self, self._deadline)
        length = request.content_length
        if length == 0:
            self._run(request, b"")
        elif length is not None and length <= len(self.buffer):
            body, self.buffer = self.buffer[:length], self.buffer[length:]
            self._run(request, body)
        else:
            self.phase = BODY
            self._request = request
            self._decoder = http1.body_of(request)
            self._body = self._server.new_body()
            data, self.buffer = self.buffer, b""
            self._take_body(data)
            if request.expects_continue and self.phase is BODY:
                self._send(http1.CONTINUE)

    def _take_body(self, data: bytes) -> None:
        decoder, leadership = self._decoder, self._server.leadership
        try:
            piece = decoder.feed(data)
        except BadRequest as error:
            if self._server.deadlines.end(self):
                self._refuse(error)
            else:
                self.close()
            return
        watched = self.led and leadership.watch(self)  # the piece may go into a file
        try:
            self._body.append(piece)
        finally:
            if watched:
                leadership.end(self)
        if decoder.done:
            request, body, self.buffer = self._request, self._body.whole(), decoder.rest
            del self._request, self._decoder, self._body
            self._run(request, body)

    def _run(self, request: Request, body: Any) -> None:
        self.phase = CALL
        lasts = Context().run(self._answer, request, body)
        if lasts:
            self.phase = BETWEEN_CALLS
        else:
            self.close()

    def _answer(self, request: Request, body: Any) -> bool:
        """Have the handler answer, in a context of the call's own. Whether the connection lasts."""
        leadership = self._server.leadership
        logs.MARK.set(request.mark)
        leads = self.led and leadership.begin(self)
        worked_s = time.thread_time() if leads and leadership.weighs else 0.0
        began = time.monotonic()
        lasts = None
        try:
            reply = self._reply(request, body)
            if reply.stream is not None:
                lasts = self._send_stream(request, reply)
                if lasts is None:
                    reply = failure()
        finally:
            if not leads:
                leadership.ran_apart()
            elif leadership.end(self):
                took_s = time.monotonic() - began
                leadership.ran(took_s, took_s - (time.thread_time() - worked_s) if worked_s else 0.0)
            logs.end_call(request.mark)
        return self._send_reply(request, reply) if lasts is None else lasts

    def _reply(self, request: Request, body: Any) -> Reply:
        try:
            return self._server.respond(request, body)
        except InvalidReply as error:
            logs.log(str(error))
        except BaseException as error:  # a handler's sys.exit() ends its call, not the replica
            logs.log_exception(error)
        return failure()

    def _send_reply(self, request: Request, reply: Reply) -> bool:
        if not self._server.deadlines.end(self):
            return False
        lasts = self._lasts(request)
        answer = reply.head(for_head=self._is_head, keep_alive=lasts)
        if reply.body and not self._is_head and http1.may_have_body(reply.status):
            answer += reply.body
        # The slot is free before the client can know that the call has ended: its next one must not be refused.
        self._free_slot()
        self._send(answer)
        return lasts

    def _send_stream(self, request: Request, reply: Reply) -> bool | None:
        """Send each piece as it comes. Whether the connection lasts; None: it failed before the first, nothing is sent."""
        deadlines, send = self._server.deadlines, self._sock.sendall
        has_body = not self._is_head and http1.may_have_body(reply.status)
        pieces = Pieces(reply.stream)
        try:
            first = pieces.next() if has_body else None
            chunked = has_body and reply.length is None and not request.http_1_0
            lasts = self._lasts(request) and (chunked or reply.length is not None or not has_body)
            if pieces.failed:
                return None
            if not deadlines.end(self):
                return False
            self._head_sent = True
            deadlines.begin(self, self._deadline)
            send(reply.head(for_head=self._is_head, keep_alive=lasts, chunked=chunked))
            missing = reply.length
            piece = first
            while piece is not None:
                if missing is not None:
                    missing -= len(piece)
                    if missing < 0:
                        break
                send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                piece = pieces.next()
            if has_body and missing:
                logs.log(f"the body is not of the {reply.length} bytes that its Content-Length says")
            if pieces.failed or (has_body and missing):
                self._cut(request)
                return False
            if not deadlines.end(self):
                return False
            self._head_sent = False
            self._free_slot()
            if chunked:
                send(http1.LAST_CHUNK)
            return lasts
        finally:
            pieces.close()

    def _send(self, data: bytes) -> None:
        """Send all of it. What the socket does not take at once is waited for under the eyes of the watch."""
        try:
            sent = self._sock.send(data, _DONTWAIT)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            leads = self.led and self._server.leadership.watch(self)
            try:
                self._sock.sendall(memoryview(data)[sent:])
            finally:
                if leads:
                    self._server.leadership.end(self)

    def _cut(self, request: Request) -> None:
        """End the connection so that the client sees that the response is not whole."""
        if request.http_1_0:  # where the end of the connection is the end of the body: reset it
            self._sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, (1).to_bytes(4, sys.byteorder) + bytes(4))

    def _answer_early(self, request: Request, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
        """Answer before the body is read. The connection lasts only where the whole body is here already."""
        length = request.content_length
        whole = length is not None and length <= len(self.buffer)
        lasts = whole and self._lasts(request)
        answer = plain_response(status, text, *headers, close=not lasts, head=self._is_head)
        if not whole:
            self._say_last(answer)
            return
        self.buffer = self.buffer[length:]
        self._send(answer)
        if not lasts:
            self.close()

    def _refuse(self, error: BadRequest) -> None:
        self._say_last(plain_response(error.status, f"{error}\n", RUNTIME_MARK, close=True, head=self._is_head))

    def _say_last(self, answer: bytes) -> None:
        """Send `answer`, then let the client finish for a moment: closing on unread data would reset the connection."""
        self._free_slot()
        self.buffer = b""
        self._send(answer)
        self._sock.shutdown(_socket.SHUT_WR)
        self.phase = LINGERS
        self._server.deadlines.begin(self, time.monotonic() + REFUSED_BODY_WITHIN_S)

    def _lasts(self, request: Request) -> bool:
        return request.keep_alive and not self._server.draining and not self._read_shut

    def _free_slot(self) -> None:
        if self._holds_slot:
            self._server.free_slot()
            self._holds_slot = False
