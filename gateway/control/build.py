"""Builds: a tar comes in and is kept in a file, the builder's report goes out line by line.

Who sends the tar has the login, or has signed it with the payload secret (`X-Build-Signature: sha256=HEX`, HMAC-SHA256 of
the whole body) as OpenFaaS's client does. The clients know a failure only by an explicit line, one of less than 64 KiB.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from builder.admission import BuilderBusy
from builder.events import BuildEvent, one_line
from builder.keys import PublicKey
from gateway.control.auth import Auth
from gateway.control.body import refuse_larger, too_large
from gateway.control.functions import json
from gateway.control.operation import Access, Content, Operation
from gateway.control.streams import LineStream, closing

SIGNATURE_HEADER = "X-Build-Signature"
LONGEST_LINE_BYTES = 60 * 1024
MOST_UPLOADS = 8
"""Uploads at a time: each may fill the disk up to the body's limit."""

MOST_SIGNED_UPLOADS = 2
SIGNED_BODY_LIMIT_BYTES = 64 << 20
SIGNED_WITHIN_S = 60.0
"""A signature is only known to be right when the body is there: until then its sender is a stranger, who gets little room."""

_PIECE_BYTES = 1 << 20
_SIGNATURE = re.compile(r"sha256=([0-9a-fA-F]{64})", re.ASCII)

log = logging.getLogger("pinnace.builds")


class Builder(Protocol):
    """What turns contexts into bundles."""

    def build(self, context: Path) -> AsyncIterator[BuildEvent]:
        """Build the tar `context`, which stays until the iterator is closed. Raises BuilderBusy at once."""

    async def pull(self, image: str) -> None:
        """See to it that a bundle stands for an image in a registry that may be used. Raises UnknownBundle, BuilderBusy."""

    async def public_key(self) -> PublicKey:
        """Return the key that clients encrypt build secrets with."""


class Builds:
    """`folder` holds the tars that come in; nothing else may be in it."""

    def __init__(self, builder: Builder, auth: Auth, folder: Path, body_limit: int) -> None:
        self._builder = builder
        self._auth = auth
        self._folder = folder
        self._body_limit = body_limit
        self._uploads = {True: 0, False: 0}  # signed or not

    def sweep(self) -> None:
        """Remove what a process that was killed left behind, and make the folder. Touches the disk."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700, parents=True)

    async def build(self, request: Request) -> Response:
        signature = self._signature(request)
        signed = signature is not None
        limit = min(self._body_limit, SIGNED_BODY_LIMIT_BYTES) if signed else self._body_limit
        refuse_larger(request, limit)
        most = MOST_SIGNED_UPLOADS if signed else MOST_UPLOADS
        if self._uploads[signed] >= most:
            raise BuilderBusy(f"{most} builds are being sent; try again in a few seconds")
        async with AsyncExitStack() as stack:
            context = await stack.enter_async_context(self._received(request, signature))
            events = await stack.enter_async_context(closing(self._builder.build(context)))
            return LineStream(_report(events), stack.pop_all())

    async def public_key(self, request: Request) -> Response:
        return json(await self._builder.public_key())

    def _signature(self, request: Request) -> bytes | None:
        """Return the signature to be checked, None for who has the login. Raises HTTPException 401."""
        try:
            self._auth.authorize(request, "build", "")
        except HTTPException:
            match = _SIGNATURE.fullmatch(request.headers.get(SIGNATURE_HEADER, "").strip())
            if match is None:
                raise
            return bytes.fromhex(match[1])
        return None

    @asynccontextmanager
    async def _received(self, request: Request, signature: bytes | None) -> AsyncIterator[Path]:
        """Keep the body in a file while the build needs it. Raises HTTPException 401 when it was signed by somebody else."""
        signed = signature is not None
        self._uploads[signed] += 1
        try:
            context = await asyncio.to_thread(self._new_file)
        except BaseException:
            self._uploads[signed] -= 1
            raise
        try:
            try:
                async with asyncio.timeout(SIGNED_WITHIN_S if signed else None):
                    digest = await self._write(request, context, self._auth.payload_secret if signed else None)
            except TimeoutError:
                raise HTTPException(
                    408, f"a signed build must be sent within {SIGNED_WITHIN_S:.0f} s; log in for more"
                ) from None
            finally:
                self._uploads[signed] -= 1
            if signature is not None and not hmac.compare_digest(digest, signature):
                raise HTTPException(401)
            yield context
        finally:
            await asyncio.to_thread(context.unlink, missing_ok=True)

    def _new_file(self) -> Path:
        descriptor, name = tempfile.mkstemp(suffix=".tar", dir=self._folder)
        os.close(descriptor)
        return Path(name)

    async def _write(self, request: Request, context: Path, key: bytes | None) -> bytes:
        """Write the body piecewise, off the loop; return its HMAC where there is a `key`. Raises HTTPException 400, 413."""
        digest = hmac.new(key, digestmod=hashlib.sha256) if key is not None else None
        limit = self._body_limit if key is None else min(self._body_limit, SIGNED_BODY_LIMIT_BYTES)
        piece, size = bytearray(), 0

        def put(piece: bytes) -> None:
            with context.open("ab") as file:
                file.write(piece)
            if digest is not None:
                digest.update(piece)

        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise too_large(limit)
            piece += chunk
            if len(piece) >= _PIECE_BYTES:
                await asyncio.to_thread(put, bytes(piece))
                piece.clear()
        if size == 0:
            raise HTTPException(400, "the body is empty; it must be a tar of the build context")
        await asyncio.to_thread(put, bytes(piece))
        return digest.digest() if digest is not None else b""

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="build",
                method="POST",
                path="/build",
                endpoint=self.build,
                summary="Build a function from its context",
                description="The reply's last line has the status `success` or `failed`.",
                body=Content("A tar of the context and `com.openfaas.docker.config`.", None, "application/octet-stream"),
                success={200: Content("What happens, line by line.", BuildEvent, "application/x-ndjson")},
                refusals=(400, 408, 429, 507),
                access=Access.SIGNATURE,
            ),
            Operation(
                id="getPublicKey",
                method="GET",
                path="/publickey",
                endpoint=self.public_key,
                summary="Give the key that build secrets are encrypted with",
                success={200: Content("The key.", PublicKey)},
                access=Access.OPEN,
            ),
        )


async def _report(events: AsyncIterator[BuildEvent]) -> AsyncIterator[bytes]:
    """Yield the events as lines; the last one is always a success or a failure."""
    image = ""
    try:
        async with closing(events):
            async for event in events:
                image = event.image or image
                for line in lines_of(event):
                    yield line
                if event.is_final:
                    return
        reason = "the build ended without a result"
    except Exception:
        log.exception("build of %s", image or "an image")
        reason = "internal error; the platform's log says more"
    for line in lines_of(BuildEvent([], image, "failed", reason)):
        yield line


def lines_of(event: BuildEvent) -> list[bytes]:
    """Return `event` as lines of at most LONGEST_LINE_BYTES each; all but the last are in progress."""
    last = msgspec.structs.replace(event, log=[], image=one_line(event.image), error=one_line(event.error))
    whole = msgspec.json.encode(msgspec.structs.replace(last, log=[one_line(text) for text in event.log])) + b"\n"
    if len(whole) <= LONGEST_LINE_BYTES:
        return [whole]
    ahead = msgspec.structs.replace(last, status="in_progress", error="")
    return [
        *(msgspec.json.encode(msgspec.structs.replace(ahead, log=[one_line(text)])) + b"\n" for text in event.log),
        msgspec.json.encode(last) + b"\n",
    ]
