"""An `async def handle(event, context)` of python3-http as an ASGI application, so that the loop server can run it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

from pinnace_runtime import logs
from pinnace_runtime.asgi import Message, Receive, Send
from pinnace_runtime.event import Context, Event
from pinnace_runtime.http1 import Request, may_have_body
from pinnace_runtime.reply import InvalidReply, Reply, failure, http_reply, piece_bytes


class AsyncHandler:
    """Calls `handle` with event and context, and sends what it returns; an async generator function streams."""

    http_only = True  # an upgrade is an ordinary call to it, and it has no lifespan

    def __init__(self, handle: Callable[[Event, Context], Any]) -> None:
        self._handle = handle

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        request, body = scope["pinnace.request"], bytearray()
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        else:
            return  # the client left
        reply = await self._reply(request, bytes(body))
        if reply.stream is None:
            await _send_head(reply, send, len(reply.body or b""))
            await send({"type": "http.response.body", "body": reply.body or b""})
        elif request.method == "HEAD" or not may_have_body(reply.status):
            await _send_head(reply, send, None)
            await send({"type": "http.response.body"})
        else:
            await _send_stream(reply, send)

    async def _reply(self, request: Request, body: bytes) -> Reply:
        try:
            result = self._handle(Event(request, body), Context(request.call_id))
            return http_reply(await result if hasattr(result, "__await__") else result)
        except InvalidReply as error:
            logs.log(str(error))
        except Exception as error:
            logs.log_exception(error)
        return failure()


async def _send_head(reply: Reply, send: Send, size: int | None) -> None:
    length = size if size is not None else reply.length
    headers = list(reply.headers)
    if reply.content_type and not any(name.lower() == b"content-type" for name, _ in headers):
        headers.append((b"content-type", reply.content_type))
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})


async def _send_stream(reply: Reply, send: Send) -> None:
    """Send each piece as it comes; the first comes before the head, so that a failure until then is a plain 500."""
    pieces = _pieces(reply.stream)
    try:
        first = await anext(pieces, b"")
        await _send_head(reply, send, None)
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})
    finally:
        await pieces.aclose()


async def _pieces(stream: Any) -> AsyncGenerator[bytes, None]:
    """Yield what the handler's iterator yields. A plain iterator may block, so it runs in a thread."""
    try:
        if hasattr(stream, "__anext__"):
            async for piece in stream:
                if data := piece_bytes(piece):
                    yield data
        else:
            end = object()
            while (piece := await asyncio.to_thread(next, stream, end)) is not end:
                if data := piece_bytes(piece):
                    yield data
    finally:
        if hasattr(stream, "aclose"):
            await stream.aclose()
        elif hasattr(stream, "close") and not getattr(stream, "gi_running", False):  # the thread that runs it has it until then
            await asyncio.to_thread(stream.close)
