"""Where spans are handed in: nobody who does so ever waits, and what cannot be taken is counted and gone.

Records gather for `FLUSH_S` and go, many in one frame, over a Unix socket to the process that exports them
(`span_export`). A frame is its length (4 bytes, big endian) and a list of records in msgpack.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import msgspec

from telemetry.spans import BATCH, Record

FLUSH_S: Final = 0.2
HELD: Final = 8192
"""Most records that wait for a flush, or for a connection."""
UNREAD_BYTES: Final = 4 * 1024 * 1024
"""What is written while so much was not read by the other side is dropped."""
LENGTH_BYTES: Final = 4
CLOSE_S: Final = 1.0
_encoder: Final = msgspec.msgpack.Encoder()


def frame(records: list[Record]) -> bytes:
    """Return the records as they travel."""
    payload = _encoder.encode(records)
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


class SpanSink(asyncio.Protocol):
    """Takes records for the exporter at the Unix socket `path`. `taken` and `dropped` count them."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._held: list[Record] = []
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._one = asyncio.Lock()
        self._gone = asyncio.Event()
        self.taken = 0
        self.dropped = 0

    def add(self, record: Record) -> None:
        """Take a record."""
        if len(self._held) >= HELD:
            self.dropped += 1
            return
        self.taken += 1
        self._held.append(record)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    async def close(self) -> None:
        """Send what is held, as far as that can be done within `CLOSE_S`."""
        if self._timer is not None:
            self._timer.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                if self._held:
                    await self._connect()
                self._write()
                if self._transport is not None:
                    self._transport.close()
                    await self._gone.wait()
        if self._transport is not None:
            self._transport.abort()
            await self._gone.wait()

    # what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._gone.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._gone.set()

    # inside

    def _flush(self) -> None:
        self._timer = None
        if self._transport is not None:
            self._write()
        elif self._connecting is None or self._connecting.done():
            self._connecting = asyncio.get_running_loop().create_task(self._connect_and_write())

    async def _connect_and_write(self) -> None:
        await self._connect()
        self._write()
        if self._held and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    async def _connect(self) -> None:
        async with self._one:
            if self._transport is None:
                with contextlib.suppress(OSError):  # nobody is there yet
                    await asyncio.get_running_loop().create_unix_connection(lambda: self, self._path)

    def _write(self) -> None:
        while self._held and self._transport is not None:
            batch, self._held = self._held[:BATCH], self._held[BATCH:]
            if self._transport.is_closing() or self._transport.get_write_buffer_size() > UNREAD_BYTES:
                self.dropped += len(batch)
                self.taken -= len(batch)
            else:
                self._transport.write(frame(batch))
