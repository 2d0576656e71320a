"""A body that is being received: in memory up to INLINE_BYTES, in a file beyond, which a thread writes."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.asynchronous.calls import INLINE_BYTES

HELD_BYTES: Final = 256 * 1024
"""More than this waits for the disk: whoever sends is to pause."""


class Spool:
    """Takes the pieces of one body as they come; files are made in `folder`. `pause` and `resume` tell the sender.

    `size` is how much has come. Whoever has a spool ends it with `whole` or with `discard`.
    """

    def __init__(self, folder: Path, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self.size = 0
        self._folder = folder
        self._pause, self._resume = pause, resume
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._paused = False
        self._path: Path | None = None
        self._descriptor = -1
        self._writing: asyncio.Task[None] | None = None
        self._failure: OSError | None = None

    def feed(self, data: bytes) -> None:
        """Take a piece."""
        self.size += len(data)
        if self._failure is not None:
            return
        self._held.append(data)
        self._held_bytes += len(data)
        if self.size <= INLINE_BYTES:
            return
        if self._held_bytes > HELD_BYTES and not self._paused:
            self._paused = True
            self._pause()
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def whole(self) -> bytes | Path:
        """Return the body: its bytes, or the file that holds it, which is the caller's then. Raises OSError when it could
        not be written; then there is no file."""
        if self.size <= INLINE_BYTES:
            return b"".join(self._held)
        await self._written()
        if self._failure is not None:
            await self.discard()
            raise self._failure
        path, self._path = self._path, None
        assert path is not None
        self._close()
        return path

    async def discard(self) -> None:
        """Forget what has come. Goes on to its end when whoever waits for it is cancelled."""
        self._held.clear()
        await asyncio.shield(asyncio.ensure_future(self._forget()))

    async def _forget(self) -> None:
        await self._written()
        self._close()
        if self._path is not None:
            await asyncio.to_thread(self._path.unlink, True)
            self._path = None

    async def _written(self) -> None:
        """Wait until no thread writes. Not cancelled with whoever waits: the thread would go on, with a descriptor that is
        somebody else's by then."""
        if self._writing is not None:
            await asyncio.shield(self._writing)

    async def _write(self) -> None:
        while self._held:
            pieces, self._held, self._held_bytes = self._held, [], 0
            try:
                await asyncio.to_thread(self._append, pieces)
            except OSError as error:
                self._failure = error
                self._held, self._held_bytes = [], 0
            if self._paused:
                self._paused = False
                self._resume()

    def _append(self, pieces: list[bytes]) -> None:
        if self._descriptor < 0:
            self._path = self._folder / secrets.token_hex(16)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        data = memoryview(b"".join(pieces))
        while data:
            data = data[os.write(self._descriptor, data) :]

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def second_name(body: bytes | Path) -> bytes | Path:
    """Return a body of one's own: a file gets a second name, for each of them belongs to one call."""
    if isinstance(body, bytes):
        return body
    own = body.with_name(secrets.token_hex(16))
    try:
        os.link(body, own)
    except OSError:  # a file system without links
        shutil.copyfile(body, own)
    return own
