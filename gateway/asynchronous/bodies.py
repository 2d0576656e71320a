"""Bodies beside `queue.db`: one of more than INLINE_BYTES is a file, which is synced before the row that names it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path
from typing import Final

from gateway.asynchronous.calls import INLINE_BYTES, Body
from gateway.asynchronous.rows import Stored
from gateway.asynchronous.store import StoreUnavailable

CHUNK_BYTES: Final = 256 * 1024


class Bodies:
    """Keeps files in `folder`, which is made if need be. Raises StoreUnavailable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"{folder}: {error.strerror}") from None

    def keep_only(self, named: Collection[str]) -> None:
        """Remove the files that no row names. Blocks. Raises StoreUnavailable."""
        try:
            self._remove([entry.name for entry in os.scandir(self.folder) if entry.name not in named and not entry.is_dir()])
        except OSError as error:
            raise StoreUnavailable(f"{self.folder}: {error.strerror}") from None

    async def stored(self, body: bytes | Path) -> Stored:
        """Return a body's length and it itself, or its file's name, once the file is synced. Raises StoreUnavailable."""
        if isinstance(body, Path):
            try:
                return await asyncio.to_thread(_synced, body), None, body.name
            except OSError as error:
                raise StoreUnavailable(f"{body}: {error.strerror}") from None
        if len(body) <= INLINE_BYTES:
            return len(body), body, None
        name = os.urandom(16).hex()
        try:
            await asyncio.to_thread(_written, self.folder / name, body)
        except OSError as error:
            await self.removed([name])
            raise StoreUnavailable(f"{self.folder}: {error.strerror}") from None
        return len(body), None, name

    async def chunks(self, body: Body) -> AsyncIterator[bytes]:
        """See `Store.chunks`."""
        if body.data is not None:
            if body.data:
                yield body.data
            return
        if not body.where:
            raise KeyError("this body is not kept any more")
        try:
            file = await asyncio.to_thread((self.folder / body.where).open, "rb")
        except OSError:
            raise KeyError(body.where) from None
        with file:
            while piece := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield piece

    async def removed(self, files: Sequence[str]) -> None:
        """Remove files, as far as they are there."""
        if files:
            await asyncio.to_thread(self._remove, files)

    def _remove(self, files: Sequence[str]) -> None:
        for name in files:
            (self.folder / name).unlink(missing_ok=True)


def _synced(path: Path) -> int:
    """Bring a file and its name to the disk; return its size."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        size = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return size


def _written(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    _synced(path)
