"""Connections within one process: two protocols that speak to each other as over a socket, without the kernel.

Where edge, acceptor and workers are one process, each asynchronous call would cross two Unix sockets: eight system calls, a
third of what the call costs. Here what one end writes is handed to the other in the next turn of the loop. All else is as with
sockets: bytes in order, pieces joined or not, flow control, an end that is seen after what was written before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

Accept = Callable[[], asyncio.Protocol]
"""Makes the other end of a new connection. Raises OSError where nobody takes connections (any more)."""

HIGH_BYTES: Final = 64 * 1024
LOW_BYTES: Final = 16 * 1024
"""A writer is told to pause when more than the first has not been read, and to go on when no more than the second has not."""


def join(one: asyncio.Protocol, other: asyncio.Protocol) -> None:
    """Connect two protocols; each is told of its transport before this returns. To be called on their event loop."""
    loop = asyncio.get_running_loop()
    here, there = InsideTransport(one, loop), InsideTransport(other, loop)
    here.peer, there.peer = there, here
    other.connection_made(there)
    one.connection_made(here)


class InsideTransport(asyncio.Transport):
    """One end of a connection; `peer` is the other."""

    peer: InsideTransport

    def __init__(self, protocol: asyncio.Protocol, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._protocol = protocol
        self._loop = loop
        self._coming: list[bytes] = []
        self._coming_bytes = 0
        self._end_comes = False  # the peer writes no more
        self._end_seen = False
        self._awaited = False  # a turn of the loop will read
        self._reading = True
        self._writing_paused = False
        self._written = False  # this end writes no more
        self._closing = self._over = False

    # writing

    def write(self, data: Any) -> None:
        """Hand over bytes. They are the peer's also when this end is closed afterwards."""
        peer = self.peer
        if self._written or not data:
            return
        if peer._over:
            self._lose(BrokenPipeError("the other end is closed"))
            return
        peer._coming.append(data)
        peer._coming_bytes += len(data)
        if not peer._awaited and peer._reading:
            peer._awaited = True
            self._loop.call_soon(peer._read)
        if peer._coming_bytes > HIGH_BYTES and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        """Whether one direction can end alone: it can."""
        return True

    def write_eof(self) -> None:
        """Write no more; the peer sees the end after what it has not read yet."""
        if not self._written:
            self._written = True
            self.peer._end_comes = True
            self.peer._read_soon()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the peer has not read."""
        return self.peer._coming_bytes

    # reading

    def is_reading(self) -> bool:
        """Whether what comes is taken."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Take nothing until `resume_reading`."""
        self._reading = False

    def resume_reading(self) -> None:
        """Take what has come and what comes."""
        self._reading = True
        if self._coming or self._end_comes:
            self._read_soon()

    def _read_soon(self) -> None:
        if not self._awaited and self._reading:
            self._awaited = True
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        """Give the protocol what has come: everything where that is little, else a piece in each turn of the loop."""
        self._awaited = False
        if self._closing or not self._reading:
            return
        coming = self._coming
        if coming:
            if len(coming) == 1:
                data = coming.pop()
                self._coming_bytes = 0
            elif self._coming_bytes <= HIGH_BYTES:
                data = b"".join(coming)
                coming.clear()
                self._coming_bytes = 0
            else:
                data = coming.pop(0)
                self._coming_bytes -= len(data)
            try:
                self._protocol.data_received(data)
            except Exception as error:
                self._fail(error)
                return
            peer = self.peer
            if peer._writing_paused and self._coming_bytes <= LOW_BYTES:
                peer._writing_paused = False
                peer._protocol.resume_writing()
            if coming or self._end_comes:
                self._read_soon()
        elif self._end_comes and not self._end_seen:
            self._end_seen = True
            if not self._protocol.eof_received():
                self.close()

    def _fail(self, error: Exception) -> None:
        told = {"message": "a protocol failed with what it had read", "exception": error, "protocol": self._protocol}
        self._loop.call_exception_handler(told)
        self.abort()

    # the end

    def is_closing(self) -> bool:
        """Whether this end is closed, or about to be."""
        return self._closing

    def close(self) -> None:
        """Read and write no more. What was written reaches the peer."""
        self._lose(None)

    def abort(self) -> None:
        """The same: nothing is held on this side that could be thrown away."""
        self._lose(None)

    def _lose(self, why: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            self.write_eof()
            self._loop.call_soon(self._lost, why)

    def _lost(self, why: Exception | None) -> None:
        self._over = True
        self._coming.clear()
        self._coming_bytes = 0
        self._protocol.connection_lost(why)
        if self.peer._writing_paused:  # it waits for room that nobody makes
            self.peer._lose(BrokenPipeError("the other end is closed"))
