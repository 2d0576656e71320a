"""Bodies that are not kept with their call: each is a key of its own.

One of more than INLINE_BYTES is brought in pieces before the call that names it, and read in pieces; what nobody names is gone
an hour later.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from gateway.asynchronous.calls import INLINE_BYTES, Body
from gateway.asynchronous.redis.server import Server
from gateway.asynchronous.store import StoreUnavailable

CHUNK_BYTES: Final = 256 * 1024
BODY_BYTES_AT_MOST: Final = 256 << 20
"""A longer body is refused; a value in Redis has at most 512 MB."""
UPLOAD_KEPT_S: Final = 3600
UPLOADS: Final = 8


class Bodies:
    """Those that `server` keeps."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._uploads = asyncio.Semaphore(UPLOADS)

    async def stored(self, body: bytes | Path) -> tuple[int, bytes, str]:
        """Give a body a place; return its length, its bytes if they are to go with the operation, and its place. A file is gone
        then. Raises StoreUnavailable."""
        where = os.urandom(12).hex()
        if isinstance(body, Path):
            try:
                size = (await asyncio.to_thread(body.stat)).st_size
                await self._upload(where, size, body)
            except OSError as error:
                raise StoreUnavailable(f"{body}: {error.strerror}") from None
            finally:
                await asyncio.to_thread(body.unlink, True)
            return size, b"", where
        if len(body) <= INLINE_BYTES:
            return len(body), body, where
        await self._upload(where, len(body), body)
        return len(body), b"", where

    async def drop(self, places: Sequence[str]) -> None:
        """Remove bodies that no call names, of those that have a place; where that fails their time ends it."""
        keys = [self._key(where) for where in places if where]
        if keys:
            with contextlib.suppress(StoreUnavailable):
                await self._server.command("UNLINK", *keys)

    async def chunks(self, body: Body) -> AsyncIterator[bytes]:
        """Yield a body's bytes in pieces. Raises KeyError when it is not there any more."""
        if body.data is not None:
            if body.data:
                yield body.data
            return
        if not body.where:
            raise KeyError("this body is not kept any more")
        for start in range(0, body.size, CHUNK_BYTES):
            piece: bytes = await self._server.command("GETRANGE", self._key(body.where), start, start + CHUNK_BYTES - 1)
            if not piece:
                raise KeyError(body.where)
            yield piece

    async def _upload(self, where: str, size: int, body: bytes | Path) -> None:
        if size > BODY_BYTES_AT_MOST:
            raise StoreUnavailable(f"a body of {size} bytes: this store takes at most {BODY_BYTES_AT_MOST}")
        key = self._key(where)
        async with self._uploads:
            try:
                if isinstance(body, bytes):
                    for start in range(0, size, CHUNK_BYTES):
                        await self._bring(key, body[start : start + CHUNK_BYTES])
                else:
                    with await asyncio.to_thread(body.open, "rb") as file:
                        while piece := await asyncio.to_thread(file.read, CHUNK_BYTES):
                            await self._bring(key, piece)
            except StoreUnavailable:
                raise  # what came of it goes by itself: nobody is to wait once more for a server that does not answer
            except BaseException:
                await self.drop([where])
                raise

    async def _bring(self, key: str, piece: bytes) -> None:
        await self._server.command("APPEND", key, piece)
        await self._server.command("EXPIRE", key, UPLOAD_KEPT_S)

    def _key(self, where: str) -> str:
        return f"{self._server.key}:b:{where}"
