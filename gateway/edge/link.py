"""The link between an edge and the process that leads it: typed messages over a stream socket, in order.

A frame is the length of what follows (4 bytes, big endian) and one message in msgpack. What is sent while the peer does
not read is held by the transport; a peer that leaves too much of it unread is given up. What may be held back or merged
(loads, counts) waits for `writable`, so that only what must arrive is held.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec

log = logging.getLogger("pinnace.edge")

FRAME_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""A function's event carries all its kept revisions: megabytes when their variables are large."""
UNREAD_LIMIT_BYTES: Final = 256 * 1024 * 1024
CLOSED_WITHIN_S: Final = 1.0
_LENGTH_BYTES: Final = 4

Incoming = TypeVar("Incoming")
_encoder = msgspec.msgpack.Encoder()


class TooLong(ValueError):
    """A message does not fit into a frame."""


def frame(message: msgspec.Struct) -> bytes:
    """Return the message as it travels. Raises TooLong."""
    payload = _encoder.encode(message)
    if len(payload) > FRAME_LIMIT_BYTES:
        raise TooLong(f"a message of {len(payload)} bytes; at most {FRAME_LIMIT_BYTES} are sent")
    return len(payload).to_bytes(_LENGTH_BYTES, "big") + payload


class Link(asyncio.Protocol, Generic[Incoming]):
    """One end. `on_message` gets every message, `on_lost` is called once when the link has ended, for any reason."""

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[Incoming],
        on_message: Callable[[Incoming], None],
        on_lost: Callable[[], None],
        on_writable: Callable[[], None] = lambda: None,
        on_open: Callable[[], None] = lambda: None,
    ) -> None:
        self._decoder = decoder
        self._on_message = on_message
        self._on_lost = on_lost
        self._on_writable = on_writable
        self._on_open = on_open
        self._ended = False
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._lost = asyncio.Event()
        self.writable = True
        self.frame_limit_bytes = FRAME_LIMIT_BYTES
        """The longest frame that is taken now: less from a peer that is not known yet."""

    async def dial(self, host: str, port: int) -> None:
        """Become an end of a new TCP connection. Raises OSError."""
        await asyncio.get_running_loop().create_connection(lambda: self, host, port)

    async def open(self, sock: socket.socket) -> None:
        """Become an end of this connected Unix socket, and own it. Messages may come before this returns."""
        sock.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)

    def send(self, message: msgspec.Struct) -> None:
        """Send one message; a link that has ended takes it and does nothing. Raises TooLong."""
        self.send_frame(frame(message))

    def send_frame(self, data: bytes) -> None:
        """Send what `frame` made: once, for many links."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size() > UNREAD_LIMIT_BYTES:
            log.error("the other side of a link does not read: giving it up")
            transport.abort()

    async def close(self) -> None:
        """Send what is still held, for at most a second, and end. A transport that was given up while it connected may not
        tell of its end: that is not waited for."""
        if self._transport is None or self._lost.is_set():
            return
        self._transport.close()
        for _ in range(2):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSED_WITHIN_S):
                    await self._lost.wait()
                    return
            self.abort()

    @property
    def peer(self) -> str:
        """The other end's address, for logs; empty where there is none."""
        name = self._transport.get_extra_info("peername") if self._transport is not None else None
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else ""

    def abort(self) -> None:
        """End at once."""
        self._ended = True
        if self._transport is not None:
            self._transport.abort()

    # what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        if self._ended:
            self.abort()
            return
        self._on_open()

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        start = 0
        while len(received) - start >= _LENGTH_BYTES:
            length = int.from_bytes(received[start : start + _LENGTH_BYTES], "big")
            if length > self.frame_limit_bytes:
                log.error("a frame of %d bytes came over a link: giving it up", length)
                self.abort()
                return
            end = start + _LENGTH_BYTES + length
            if len(received) < end:
                break
            try:
                message = self._decoder.decode(bytes(received[start + _LENGTH_BYTES : end]))
            except msgspec.MsgspecError as error:
                log.error("what came over a link is no message: %s", error)
                self.abort()
                return
            start = end
            self._on_message(message)
            if self._ended:
                return
        del received[:start]

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()
        self._on_lost()
