"""One WebSocket connection to an ASGI application: from the handshake to the close.

    CONNECTING ──accept──► OPEN ──close from either side──► CLOSED

`exec_timeout` bounds the time until the application accepts; an open connection lasts while its client answers pings.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from typing import TYPE_CHECKING

from pinnace_runtime import http1, logs
from pinnace_runtime.asgi import Application, Message
from pinnace_runtime.http1 import BadRequest, Headers, Request, plain_response
from pinnace_runtime.http_call import BODY_HIGH_WATER_BYTES, ClientLeft, is_of_leaving
from pinnace_runtime.websocket_frames import (
    FrameReader,
    Incoming,
    Opcode,
    ProtocolError,
    accept_key,
    close_frame,
    frame,
    read_close,
    text_of,
)

if TYPE_CHECKING:
    from pinnace_runtime.loop_connection import LoopConnection

PING_EVERY_S = 20.0

ABNORMAL, GOING_AWAY, INTERNAL_ERROR, NORMAL = 1006, 1012, 1011, 1000


class Phase(enum.Enum):
    CONNECTING = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()


class WebSocketCall:
    """A WebSocket on `connection`. Run it as a task of its own. Raises BadRequest for a malformed handshake."""

    def __init__(self, connection: LoopConnection, request: Request, scope: Message) -> None:
        given = dict(request.headers)
        if given.get(b"sec-websocket-version") != b"13":
            raise BadRequest(426, "the only Sec-WebSocket-Version is 13")
        accept = accept_key(given.get(b"sec-websocket-key", b""))
        if accept is None or request.method != "GET":
            raise BadRequest(400, "malformed WebSocket handshake")
        offered = given.get(b"sec-websocket-protocol", b"").decode("latin-1")
        scope["subprotocols"] = [name.strip() for name in offered.split(",") if name.strip()]
        self.request = request
        self.phase = Phase.CONNECTING
        self._connection = connection
        self._scope = scope
        self._accept_key = accept
        self._reader = FrameReader()
        self._messages: deque[tuple[Message, int]] = deque((({"type": "websocket.connect"}, 0),))  # each with its bytes
        self._waiting_bytes = 0
        self._arrived: asyncio.Future[None] | None = None
        self._left = False
        self._heard = True  # something came from the client since the last ping
        self._ping: asyncio.TimerHandle | None = None

    async def run(self, application: Application) -> None:
        """Run the application; log what it raises; close what it leaves open."""
        logs.MARK.set(self.request.mark)
        code, status, text = NORMAL, 403, "Forbidden\n"
        try:
            await application(self._scope, self.receive, self.send)
        except asyncio.CancelledError:
            code, status, text = GOING_AWAY, 504, "The application did not accept the WebSocket in time\n"
        except BaseException as error:
            code, status, text = INTERNAL_ERROR, 500, "Internal Server Error\n"
            if not (self._left and is_of_leaving(error)):
                logs.log_exception(error)
        finally:
            if self.phase is Phase.CONNECTING:
                self._connection.write(plain_response(status, text, close=True))
            self._close(code)
            self._connection.websocket_ended()
            logs.end_call(self.request.mark)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client."""
        self._heard = True
        try:
            for incoming in self._reader.feed(data):
                self._take(incoming)
        except ProtocolError as error:
            self._close(error.code, str(error))
        if self._waiting_bytes > BODY_HIGH_WATER_BYTES:
            self._connection.pause_reading()

    def client_left(self) -> None:
        self._disconnected(ABNORMAL, "")

    def going_away(self) -> None:
        """The replica shuts down: say so to both sides. The application ends in its own time."""
        self._close(GOING_AWAY, "the replica is shutting down")

    async def receive(self) -> Message:
        """ASGI's `receive`."""
        while not self._messages:
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        message, size = self._messages[0]
        if message["type"] != "websocket.disconnect":  # which stays: whoever asks again is told again
            self._messages.popleft()
            self._waiting_bytes -= size
            if self._waiting_bytes <= BODY_HIGH_WATER_BYTES:
                self._connection.resume_reading()
        return message

    async def send(self, message: Message) -> None:
        """ASGI's `send`. Raises ClientLeft, and RuntimeError for a message that has no place here."""
        kind = message["type"]
        if self._left:
            raise ClientLeft("the client left")
        if kind == "websocket.accept" and self.phase is Phase.CONNECTING:
            self._open(message)
        elif kind == "websocket.send" and self.phase is Phase.OPEN:
            text = message.get("text")
            data = frame(Opcode.TEXT, text.encode()) if text is not None else frame(Opcode.BINARY, message["bytes"])
            self._connection.write(data)
            await self._connection.drained()
        elif kind == "websocket.close" and self.phase is Phase.CONNECTING:
            self._connection.write(plain_response(403, "Forbidden\n", close=True))
            self._disconnected(ABNORMAL, "")
        elif kind == "websocket.close":
            self._close(message.get("code") or NORMAL, message.get("reason") or "")
        else:
            raise RuntimeError(f"an ASGI application cannot send {kind!r} now")

    def _open(self, message: Message) -> None:
        headers: Headers = [
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Accept", self._accept_key),
        ]
        if subprotocol := message.get("subprotocol"):
            headers.append((b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1")))
        headers += [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
        if not all(http1.valid_header(name, value) for name, value in headers):
            raise RuntimeError("an ASGI application accepted with a header that may not go on the wire")
        self.phase = Phase.OPEN
        self._connection.websocket_open()
        self._connection.write(http1.response_head(101, headers))
        self._ping = asyncio.get_running_loop().call_later(PING_EVERY_S, self._ping_client)

    def _take(self, incoming: Incoming) -> None:
        if self.phase is not Phase.OPEN:
            return  # after the close nothing counts any more; before the accept a client sends nothing
        if incoming.opcode is Opcode.CLOSE:
            code, reason = read_close(incoming.data)
            self._connection.write(close_frame(NORMAL if code == 1005 else code))
            self._disconnected(code, reason)
            self._connection.websocket_closed()
        elif incoming.opcode is Opcode.PING:
            self._connection.write(frame(Opcode.PONG, incoming.data))
        elif incoming.opcode is Opcode.TEXT:
            self._put({"type": "websocket.receive", "text": text_of(incoming.data)}, len(incoming.data))
        elif incoming.opcode is Opcode.BINARY:
            self._put({"type": "websocket.receive", "bytes": incoming.data}, len(incoming.data))

    def _put(self, message: Message, size: int) -> None:
        self._messages.append((message, size))
        self._waiting_bytes += size
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def _close(self, code: int, reason: str = "") -> None:
        if self.phase is Phase.OPEN:
            self._connection.write(close_frame(code, reason))
            self._disconnected(code, reason)
            self._connection.websocket_closed()

    def _disconnected(self, code: int, reason: str) -> None:
        if self.phase is not Phase.CLOSED:
            self.phase = Phase.CLOSED
            self._left = True
            if self._ping is not None:
                self._ping.cancel()
            self._put({"type": "websocket.disconnect", "code": code, "reason": reason}, 0)

    def _ping_client(self) -> None:
        if not self._heard:
            self._disconnected(ABNORMAL, "the client does not answer")
            self._connection.websocket_closed()
            return
        self._heard = False
        self._connection.write(frame(Opcode.PING, b""))
        self._ping = asyncio.get_running_loop().call_later(PING_EVERY_S, self._ping_client)
