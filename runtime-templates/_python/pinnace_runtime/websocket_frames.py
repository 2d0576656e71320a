"""WebSocket framing (RFC 6455): bytes from a client to messages, messages to bytes for it. No extensions."""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
from typing import NamedTuple

MESSAGE_LIMIT_BYTES = 16 * 1024 * 1024
CONTROL_LIMIT_BYTES = 125

_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Opcode(enum.IntEnum):
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class ProtocolError(Exception):
    """The client broke the protocol; `code` is what the connection is closed with (RFC 6455 section 7.4.1)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Incoming(NamedTuple):
    """A whole message or control frame. `opcode` is never CONTINUATION."""

    opcode: Opcode
    data: bytes


class FrameReader:
    """Takes bytes as they arrive and gives whole messages; fragments are put together."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._message = bytearray()
        self._opcode: Opcode | None = None  # of the message whose fragments are coming

    def feed(self, data: bytes) -> list[Incoming]:
        """Return the messages that `data` completes. Raises ProtocolError."""
        self._buffer += data
        messages = []
        while (frame := self._take_frame()) is not None:
            if (message := self._assembled(*frame)) is not None:
                messages.append(message)
        return messages

    def _take_frame(self) -> tuple[bool, Opcode, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        last, length = bool(buffer[0] & 0x80), buffer[1] & 0x7F
        try:
            opcode = Opcode(buffer[0] & 0x0F)
        except ValueError:
            raise ProtocolError(1002, "unknown opcode") from None
        if buffer[0] & 0x70:
            raise ProtocolError(1002, "reserved bits are set")
        if not buffer[1] & 0x80:
            raise ProtocolError(1002, "a client's frame is not masked")
        if opcode >= Opcode.CLOSE and (length > CONTROL_LIMIT_BYTES or not last):
            raise ProtocolError(1002, "a control frame is too long or in fragments")
        at = {126: 4, 127: 10}.get(length, 2)
        if len(buffer) < at + 4:
            return None
        if at > 2:
            length = int.from_bytes(buffer[2:at], "big")
        if length + len(self._message) > MESSAGE_LIMIT_BYTES:
            raise ProtocolError(1009, f"a message is larger than {MESSAGE_LIMIT_BYTES} bytes")
        if len(buffer) < at + 4 + length:
            return None
        payload = masked(bytes(buffer[at + 4 : at + 4 + length]), bytes(buffer[at : at + 4]))
        del buffer[: at + 4 + length]
        return last, opcode, payload

    def _assembled(self, last: bool, opcode: Opcode, payload: bytes) -> Incoming | None:
        if opcode >= Opcode.CLOSE:
            return Incoming(opcode, payload)
        if (opcode is Opcode.CONTINUATION) == (self._opcode is None):
            raise ProtocolError(1002, "a fragment is out of place")
        self._opcode = self._opcode or opcode
        self._message += payload
        if not last:
            return None
        message = Incoming(self._opcode, bytes(self._message))
        self._opcode = None
        self._message.clear()
        return message


def masked(data: bytes, mask: bytes) -> bytes:
    """Return `data` with the mask applied or taken off, as one operation on two large numbers."""
    key = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(len(data), "little")


def frame(opcode: Opcode, data: bytes) -> bytes:
    """Return a whole frame from the server."""
    if len(data) <= CONTROL_LIMIT_BYTES:
        head = bytes((0x80 | opcode, len(data)))
    elif len(data) < 1 << 16:
        head = bytes((0x80 | opcode, 126)) + len(data).to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 127)) + len(data).to_bytes(8, "big")
    return head + data


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a close frame; the reason is cut to what fits."""
    text = reason.encode()[: CONTROL_LIMIT_BYTES - 2].decode(errors="ignore")
    return frame(Opcode.CLOSE, code.to_bytes(2, "big") + text.encode())


def read_close(data: bytes) -> tuple[int, str]:
    """Return code and reason of a client's close frame; 1005 stands for no code. Raises ProtocolError."""
    if not data:
        return 1005, ""
    code = int.from_bytes(data[:2], "big")
    if len(data) < 2 or not (1000 <= code <= 1014 or 3000 <= code <= 4999) or code in (1004, 1005, 1006):
        raise ProtocolError(1002, "invalid close code")
    return code, text_of(data[2:])


def text_of(data: bytes) -> str:
    """Return a text message's text. Raises ProtocolError when it is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ProtocolError(1007, "text is not UTF-8") from None


def accept_key(key: bytes) -> bytes | None:
    """Return what answers the client's Sec-WebSocket-Key, or None when it is not 16 bytes in base64."""
    try:
        if len(base64.b64decode(key, validate=True)) != 16:
            return None
    except binascii.Error:
        return None
    return base64.b64encode(hashlib.sha1(key + _ACCEPT_GUID, usedforsecurity=False).digest())
