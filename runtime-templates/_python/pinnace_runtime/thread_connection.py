"""One client connection of a thread server: a blocking thread that reads a call, answers it, and reads the next.

In the usual call there is one `recv`, one `sendall`, and no lock. Waits are bounded by the socket's own time limits
(SO_RCVTIMEO, SO_SNDTIMEO), because a Python-level timeout would put a `poll` before each of the two.
"""

from __future__ import annotations

import _socket
import sys
import time

from pinnace_runtime import http1, logs
from pinnace_runtime.http1 import BadRequest, Request, plain_response
from pinnace_runtime.reply import InvalidReply, Reply, failure, piece_bytes
from pinnace_runtime.settings import parse_duration_s

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pinnace_runtime.thread_server import ThreadServer

HEAD_WITHIN_S = 10.0
REFUSED_BODY_WITHIN_S = 1.0
RECV_BYTES = 64 * 1024
BODY_RECV_BYTES = 256 * 1024

HEAD_END = b"\r\n\r\n"
DRAINING = "this replica is shutting down"
RUNTIME_MARK = (b"X-OpenFaaS-Internal", b"runtime")


class Connection:
    """A connection and its thread. It is the key of its call in the book of deadlines."""

    def __init__(self, server: ThreadServer, sock: _socket.socket) -> None:
        self._server = server
        self._sock = sock
        self._is_head = False
        self._read_shut = False  # no more can arrive: the drain shut the reading side
        self._head_sent = False
        self._holds_slot = False
        self._deadline = 0.0
        self.served = False
        self.idle_since = 0.0

    def run(self) -> None:
        """Serve calls until either side ends the connection. The body of the thread."""
        try:
            self._serve()
        except (OSError, MemoryError):
            pass  # the client went away or stood still for too long, or there is no room to read what it sends
        finally:
            self._server.deadlines.settle()
            self._sock.close()
            self._server.ended(self)

    def shut_reading(self) -> None:
        """Wake the thread if it waits for a next call. What has arrived is still read and served."""
        try:
            self._sock.shutdown(_socket.SHUT_RD)
        except OSError:
            return  # the client was faster

    def expire(self) -> None:
        """Answer for a call whose time is up and end the connection; the handler runs on. Called by the deadlines' thread."""
        try:
            if not self._head_sent:
                text = f"The call took longer than exec_timeout, {self._server.settings.exec_timeout_s:g} s\n"
                answer = plain_response(504, text, RUNTIME_MARK, close=True, head=self._is_head)
                self._sock.send(answer, _socket.MSG_DONTWAIT)
            self._sock.shutdown(_socket.SHUT_RDWR)
        except OSError:
            return  # the client was faster

    def _serve(self) -> None:
        server = self._server
        buffer = b""
        while True:
            if buffer[:1] == b"\r":
                buffer = buffer.lstrip(b"\r\n")  # RFC 9112 section 2.2: an empty line before a request is no error
            end = buffer.find(HEAD_END)
            if end < 0:
                buffer = self._read_head(buffer)
                end = buffer.find(HEAD_END)
                if end < 0:
                    return
            try:
                if end > http1.HEAD_LIMIT_BYTES:
                    raise BadRequest(431, f"the request head is larger than {http1.HEAD_LIMIT_BYTES} bytes")
                request = http1.parse_head(buffer[:end])
            except BadRequest as error:
                self._refuse(error)
                return
            buffer = buffer[end + 4 :]
            self._is_head = request.method == "HEAD"
            self.served = True
            if request.path.startswith(b"/_/") and (probe := server.probe(request.path)):
                lasts, buffer = self._answer_early(request, buffer, *probe)
            elif not server.take_slot():
                text = f"Concurrent request limit exceeded. Max concurrent requests: {server.settings.max_inflight}\n"
                lasts, buffer = self._answer_early(request, buffer, 429, text, RUNTIME_MARK)
            else:
                lasts, buffer = self._call(request, buffer)
            if not lasts:
                return

    def _read_head(self, buffer: bytes) -> bytes:
        """Return the buffer with a whole head in it, or with less when the client ended or was refused."""
        if not buffer:
            data = self._wait_for_call()
            if not data:
                return b""
            buffer = data.lstrip(b"\r\n")
            if HEAD_END in buffer:
                return buffer
        give_up_at = time.monotonic() + HEAD_WITHIN_S
        try:
            while HEAD_END not in buffer:
                if len(buffer) > http1.HEAD_LIMIT_BYTES:
                    self._refuse(BadRequest(431, f"the request head is larger than {http1.HEAD_LIMIT_BYTES} bytes"))
                    return b""
                self._sock.settimeout(max(0.001, give_up_at - time.monotonic()))
                data = self._sock.recv(RECV_BYTES)
                if not data:
                    if self._read_shut and buffer:
                        self._refuse(BadRequest(503, DRAINING))
                    return b""
                buffer = (buffer + data).lstrip(b"\r\n")
        except TimeoutError:
            self._refuse(BadRequest(408, f"the request head took longer than {HEAD_WITHIN_S:g} s"))
            return b""
        finally:
            self._sock.settimeout(None)
        return buffer

    def _wait_for_call(self) -> bytes:
        idle = self._server.idle
        self.idle_since = time.monotonic()
        idle.add(self)
        if self._server.draining and self.served:
            self.shut_reading()
            self._read_shut = True
        data = self._sock.recv(RECV_BYTES)
        try:
            idle.remove(self)
        except KeyError:
            self._read_shut = True  # the drain took it from the set, and shut it
        return data

    def _call(self, request: Request, buffer: bytes) -> tuple[bool, bytes]:
        """Serve one call, whose slot is taken; return whether the connection lasts, and what the client sent after it."""
        server = self._server
        self._holds_slot = True
        self._deadline = time.monotonic() + call_timeout_s(request, server.settings.exec_timeout_s)
        logs.CALL_ID.set(request.call_id)
        server.deadlines.begin(self, self._deadline)
        try:
            length = request.content_length
            if length is not None and length <= len(buffer):
                body, rest = buffer[:length], buffer[length:]
            else:
                body, rest = self._read_body(request, buffer)
            reply = self._reply(request, body)
            if reply.stream is not None:
                return self._send_stream(request, reply), rest
            return self._send_reply(request, reply), rest
        except BadRequest as error:
            if server.deadlines.end(self):
                self._refuse(error)
            return False, b""
        finally:
            server.deadlines.end(self)
            logs.end_call(request.call_id)
            logs.CALL_ID.set("")
            self._free_slot()

    def _read_body(self, request: Request, buffer: bytes) -> tuple[Any, bytes]:
        decoder = http1.body_of(request)
        body = self._server.new_body()
        body.append(decoder.feed(buffer))
        if request.expects_continue and not decoder.done:
            self._sock.sendall(http1.CONTINUE)
        while not decoder.done:
            data = self._sock.recv(BODY_RECV_BYTES)
            if not data:
                if self._read_shut:
                    raise BadRequest(503, DRAINING)
                raise ConnectionResetError("the client left before its body was whole")
            body.append(decoder.feed(data))
        return body.whole(), decoder.rest

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
        self._sock.sendall(answer)
        return lasts

    def _send_stream(self, request: Request, reply: Reply) -> bool:
        """Send each piece as it comes. The first comes before the head, so that a failure until then is a plain 500."""
        has_body = not self._is_head and http1.may_have_body(reply.status)
        pieces = Pieces(reply.stream)
        try:
            first = pieces.next() if has_body else None
            chunked = has_body and reply.length is None and not request.http_1_0
            lasts = self._lasts(request) and (chunked or reply.length is not None or not has_body)
            if pieces.failed:
                return self._send_reply(request, failure())
            if not self._server.deadlines.end(self):
                return False
            self._head_sent = True
            self._server.deadlines.begin(self, self._deadline)
            self._sock.sendall(reply.head(for_head=self._is_head, keep_alive=lasts, chunked=chunked))
            missing = reply.length
            piece = first
            while piece is not None:
                if missing is not None:
                    missing -= len(piece)
                    if missing < 0:
                        break
                self._sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                piece = pieces.next()
            if has_body and missing:
                logs.log(f"the body is not of the {reply.length} bytes that its Content-Length says")
            if pieces.failed or (has_body and missing):
                self._cut(request)
                return False
            if not self._server.deadlines.end(self):
                return False
            self._head_sent = False
            self._free_slot()
            if chunked:
                self._sock.sendall(http1.LAST_CHUNK)
            return lasts
        finally:
            pieces.close()

    def _cut(self, request: Request) -> None:
        """End the connection so that the client sees that the response is not whole."""
        if request.http_1_0:  # where the end of the connection is the end of the body: reset it
            self._sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, (1).to_bytes(4, sys.byteorder) + bytes(4))

    def _answer_early(
        self, request: Request, buffer: bytes, status: int, text: str, *headers: tuple[bytes, bytes]
    ) -> tuple[bool, bytes]:
        """Answer before the body is read. The connection lasts only where the whole body is here already."""
        length = request.content_length
        whole = length is not None and length <= len(buffer)
        lasts = whole and self._lasts(request)
        answer = plain_response(status, text, *headers, close=not lasts, head=self._is_head)
        if not whole:
            self._say_last(answer)
            return False, b""
        self._sock.sendall(answer)
        return lasts, buffer[length:]

    def _refuse(self, error: BadRequest) -> None:
        self._say_last(plain_response(error.status, f"{error}\n", RUNTIME_MARK, close=True, head=self._is_head))

    def _say_last(self, answer: bytes) -> None:
        """Send `answer`, then let the client finish for a moment: closing on unread data would reset the connection."""
        self._sock.sendall(answer)
        self._sock.shutdown(_socket.SHUT_WR)
        give_up_at = time.monotonic() + REFUSED_BODY_WITHIN_S
        while (left_s := give_up_at - time.monotonic()) > 0:
            self._sock.settimeout(left_s)
            if not self._sock.recv(BODY_RECV_BYTES):
                return

    def _lasts(self, request: Request) -> bool:
        return request.keep_alive and not self._server.draining and not self._read_shut

    def _free_slot(self) -> None:
        if self._holds_slot:
            self._holds_slot = False
            self._server.free_slot()


class Pieces:
    """What a handler's iterator yields, as bytes. `failed` once it raised or yielded something else; that is logged."""

    def __init__(self, stream: Iterator[object]) -> None:
        self._stream = stream
        self.failed = False

    def next(self) -> bytes | None:
        """Return the next piece that is not empty, or None at the end."""
        try:
            for piece in self._stream:
                if data := piece_bytes(piece):
                    return data
        except InvalidReply as error:
            logs.log(str(error))
            self.failed = True
        except BaseException as error:
            logs.log_exception(error)
            self.failed = True
        return None

    def close(self) -> None:
        """Let a generator that has not ended run its `finally` blocks."""
        close = getattr(self._stream, "close", None)
        try:
            if close is not None:
                close()
        except BaseException as error:
            logs.log_exception(error)


def call_timeout_s(request: Request, exec_timeout_s: float) -> float:
    """The call's own limit: X-Timeout may only shorten the function's; what is no duration is ignored, as in of-watchdog."""
    if not request.timeout:
        return exec_timeout_s
    try:
        wanted_s = parse_duration_s(request.timeout)
    except ValueError:
        return exec_timeout_s
    return min(wanted_s, exec_timeout_s) if wanted_s > 0 else exec_timeout_s
