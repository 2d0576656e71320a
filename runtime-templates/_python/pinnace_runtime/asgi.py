"""What python3-asgi serves: an ASGI application, or a function as Knative's `func` writes them.

`app` or `application` in handler.py is any ASGI 3 application. Knative's contract is `new()`, which makes an object with
`async handle(scope, receive, send)` and, where wanted, `start(config)`, `stop()`, `alive()` and `ready()`; or
a bare `async handle(scope, receive, send)`. Its probes are answered at /health/liveness and /health/readiness.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from types import ModuleType
from typing import Any

from pinnace_runtime.event import decoded_path
from pinnace_runtime.http1 import Headers, Request
from pinnace_runtime.loading import LoadFailed

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_PROBES = {"/health/liveness": "alive", "/health/readiness": "ready"}


def find_application(module: ModuleType) -> Application:
    """Return the application in the user's module. Raises LoadFailed when it has none."""
    for name in ("app", "application"):
        application = getattr(module, name, None)
        if callable(application):
            found: Application = application
            return found
    if callable(new := getattr(module, "new", None)):
        return KnativeFunction(new)
    if callable(getattr(module, "handle", None)):
        return KnativeFunction(lambda: module)
    raise LoadFailed("function/handler.py has no app, application, new() or async handle(scope, receive, send)")


class KnativeFunction:
    """An ASGI application around the instance that `new()` makes; it is made when the application starts."""

    def __init__(self, new: Callable[[], Any]) -> None:
        self._new = new
        self._instance: Any = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http" and scope["path"] in _PROBES:
            await self._probe(_PROBES[scope["path"]], send)
        else:
            await self._instance.handle(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._instance = self._new()
        if not callable(getattr(self._instance, "handle", None)):
            raise LoadFailed("what new() in function/handler.py returns has no async handle(scope, receive, send)")
        await _call(self._instance, "start", dict(os.environ))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await _call(self._instance, "stop")
        await send({"type": "lifespan.shutdown.complete"})

    async def _probe(self, method: str, send: Send) -> None:
        result = await _call(self._instance, method)
        healthy, text = result if isinstance(result, tuple) else (result is None or result, "")
        body = str(text or ("OK" if healthy else f"not {method}")).encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200 if healthy else 500, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _call(instance: Any, method: str, *arguments: Any) -> Any:
    """Call a method that the function may or may not have, plain or async."""
    function = getattr(instance, method, None)
    if function is None:
        return None
    result = function(*arguments)
    return await result if hasattr(result, "__await__") else result


def scope_of(request: Request, kind: str, state: dict[str, Any], server: tuple[str, int | None] | None) -> Message:
    """Return the ASGI scope of a request: `kind` is `http` or `websocket`, `state` what the lifespan left."""
    scheme = _last(request.headers, b"x-forwarded-proto") or "http"
    if kind == "websocket":
        scheme = "wss" if scheme in ("https", "wss") else "ws"
    client = _last(request.headers, b"x-forwarded-for")
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.0" if request.http_1_0 else "1.1",
        "method": request.method,
        "scheme": scheme,
        "path": decoded_path(request.path),
        "raw_path": request.path,
        "query_string": request.query,
        "root_path": "",
        "headers": request.headers,
        "client": (client, 0) if client else None,
        "server": server,
        "state": state.copy(),
        "pinnace.request": request,
    }


def _last(headers: Headers, wanted: bytes) -> str:
    """The last entry of a list header: the one that the platform's edge wrote."""
    value = b""
    for name, text in headers:
        if name == wanted:
            value = text
    return value.rpartition(b",")[2].strip().decode("latin-1")
