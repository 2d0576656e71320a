"""One HTTP call to an ASGI application: what the application receives, and what becomes of what it sends.

    START ──http.response.start──► HELD ──first body──► SENDING ──last body──► COMPLETE

The head waits for the first body message: until then a failure is still a plain 500, and by then it is known whether
the body is whole (Content-Length) or comes in parts (chunked).
"""

from __future__ import annotations

import asyncio
import enum
from typing import TYPE_CHECKING, Any

from pinnace_runtime import http1, logs
from pinnace_runtime.asgi import Application, Message
from pinnace_runtime.http1 import Headers, Request, plain_response
from pinnace_runtime.reply import CONNECTION_HEADERS

if TYPE_CHECKING:
    from pinnace_runtime.loop_connection import LoopConnection

BODY_HIGH_WATER_BYTES = 64 * 1024


class ClientLeft(OSError):
    """The client went away; raised from `send`, as ASGI 2.4 has it."""


class Phase(enum.Enum):
    START = enum.auto()
    HELD = enum.auto()
    SENDING = enum.auto()
    COMPLETE = enum.auto()


class HttpCall:
    """A call in flight on `connection`. Run it as a task of its own."""

    def __init__(self, connection: LoopConnection, request: Request, scope: Message) -> None:
        self.request = request
        self.decoder = http1.body_of(request)
        self.phase = Phase.START
        self._connection = connection
        self._scope = scope
        self._body = bytearray()
        self._body_taken = False  # the application has the whole body; next it may only wait for the disconnect
        self._owes_continue = request.expects_continue
        self._arrived: asyncio.Future[None] | None = None
        self._left = False
        self._status = 200
        self._headers: Headers = []
        self._has_body = True
        self._chunked = False
        self._lasts = True
        self._missing: int | None = None  # bytes that the application's Content-Length promises and that did not come yet

    async def run(self, application: Application) -> None:
        """Run the application; log what it raises, and answer for it where it did not answer."""
        logs.MARK.set(self.request.mark)
        try:
            await application(self._scope, self.receive, self.send)
        except asyncio.CancelledError:
            pass  # its time was up and it is answered, or the replica ends
        except BaseException as error:
            if not (self._left and is_of_leaving(error)):
                logs.log_exception(error)
        else:
            if self.phase is not Phase.COMPLETE and not self._left:
                logs.log("the application returned before its response was complete")
        finally:
            if self.phase in (Phase.START, Phase.HELD):
                lasts = self._connection.lasts(self.request) and self.decoder.done
                answer = plain_response(500, "Internal Server Error\n", close=not lasts, head=self.request.method == "HEAD")
                self._connection.write(answer)
                self._connection.call_complete(lasts=lasts)
            elif self.phase is Phase.SENDING:
                self._connection.cut(reset=self.request.http_1_0)
            logs.end_call(self.request.mark)

    def take_over(self) -> bool:
        """The connection answers instead of the application, or cuts the response. Whether nothing was sent yet."""
        untouched = self.phase in (Phase.START, Phase.HELD)
        self.phase = Phase.COMPLETE
        self.client_left()
        return untouched

    def body_arrived(self, data: bytes) -> None:
        """Take a piece of the request's body, already decoded; `decoder.done` tells whether it was the last."""
        self._body += data
        if len(self._body) > BODY_HIGH_WATER_BYTES:
            self._connection.pause_reading()
        self._wake()

    def client_left(self) -> None:
        self._left = True
        self._wake()

    async def receive(self) -> Message:
        """ASGI's `receive`: the body in pieces, then the disconnect."""
        if self._owes_continue and self.phase is Phase.START:
            self._owes_continue = False
            if not self.decoder.done:
                self._connection.write(http1.CONTINUE)
        while not (self._left or self.phase is Phase.COMPLETE):
            if self._body or (self.decoder.done and not self._body_taken):
                body, self._body = bytes(self._body), bytearray()
                self._body_taken = self.decoder.done
                self._connection.resume_reading()
                return {"type": "http.request", "body": body, "more_body": not self._body_taken}
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI's `send`. Raises ClientLeft, and RuntimeError for a message that has no place here."""
        if self._left:
            raise ClientLeft("the client left")
        kind = message["type"]
        if kind == "http.response.start" and self.phase is Phase.START:
            self._status, self._headers = _checked(message)
            self.phase = Phase.HELD
        elif kind == "http.response.body" and self.phase in (Phase.HELD, Phase.SENDING):
            await self._send_body(message.get("body", b""), more=message.get("more_body", False))
        elif self.phase is not Phase.COMPLETE:
            raise RuntimeError(f"an ASGI application cannot send {kind!r} now")

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        out = b""
        if self.phase is Phase.HELD:
            out = self._begin(len(body), more=more)
        if self._has_body:
            if self._missing is not None:
                self._missing -= len(body)
                if self._missing < 0 or (self._missing and not more):
                    raise RuntimeError("the body is not as long as its Content-Length says")
            if not self._chunked:
                out += body
            elif body:
                out += b"%x\r\n%b\r\n" % (len(body), body)
        if more:
            self._connection.write(out)
            await self._connection.drained()
            return
        self.phase = Phase.COMPLETE
        lasts = self._lasts and self.decoder.done
        self._connection.free_slot()
        self._connection.write(out + http1.LAST_CHUNK if self._chunked else out)
        self._connection.call_complete(lasts=lasts)
        self._wake()

    def _begin(self, size: int, *, more: bool) -> bytes:
        """Decide how the body is framed; return the head."""
        self.phase = Phase.SENDING
        self._has_body = self.request.method != "HEAD" and http1.may_have_body(self._status)
        headers, given = self._headers, {name for name, _ in self._headers}
        self._lasts = self._connection.lasts(self.request)
        if b"content-length" in given:
            self._missing = next(int(value) for name, value in headers if name == b"content-length")
        elif http1.may_have_body(self._status):
            if not more:
                headers.append((b"content-length", b"%d" % size))
            elif self.request.http_1_0:
                self._lasts = False
            else:
                headers.append((b"transfer-encoding", b"chunked"))
                self._chunked = self._has_body
        if b"date" not in given:
            headers.append((b"date", http1.date()))
        if not self._lasts or not self.decoder.done:
            headers.append((b"connection", b"close"))
        return http1.response_head(self._status, headers)

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)


def _checked(message: Message) -> tuple[int, Headers]:
    """Return status and headers of a response's start. Raises RuntimeError for what may not go on the wire."""
    status: Any = message["status"]
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise RuntimeError(f"an ASGI application sent the status {status!r}; it is a number from 200 to 999")
    headers: Headers = []
    for name, value in message.get("headers", ()):
        lower = bytes(name).lower()
        if not http1.valid_header(lower, bytes(value)) or (lower == b"content-length" and not value.isdigit()):
            raise RuntimeError(f"an ASGI application sent the header {name!r}: {value!r}, which may not go on the wire")
        if lower not in CONNECTION_HEADERS:
            headers.append((lower, bytes(value)))
    return status, headers


def is_of_leaving(error: BaseException | None) -> bool:
    """Whether an exception came of the client's leaving: frameworks wrap ClientLeft in exceptions of their own."""
    while error is not None:
        if isinstance(error, ClientLeft) or type(error).__name__ == "ClientDisconnect":
            return True
        error = error.__cause__ or error.__context__
    return False
