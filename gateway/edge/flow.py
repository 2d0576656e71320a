"""Flow control: reading from one side stops while the other cannot take more.

Transports buffer without limit and only say when a buffer is full (`pause_writing`) and when it has room again. Each
connection of a call passes that on by no longer reading from the other one, so that the kernel's buffers fill and
the sender, whoever it is, waits.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class PacedConnection(asyncio.Protocol):
    """A connection whose reading can be paused, any number of times in a row, and resumed."""

    __slots__ = ("reading_paused", "transport")

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.reading_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def pause_reading(self) -> None:
        """What comes is not wanted yet."""
        if not self.reading_paused:
            self.reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """More can be taken."""
        if self.reading_paused:
            self.reading_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def abort(self) -> None:
        """Break the connection so that the peer cannot take what it has for the whole: reset where TCP allows."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()
