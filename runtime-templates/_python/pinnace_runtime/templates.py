"""The templates: what each expects of `function/handler.py`, and the server that runs it.

`load` imports the handler and the server for it, and returns what serves it; a fork may lie between the two.
"""

from __future__ import annotations

import importlib
import sys

from pinnace_runtime.event import Context, Event
from pinnace_runtime.loading import LoadFailed, import_handler
from pinnace_runtime.reply import PLAIN, Reply, http_reply, text_reply

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Any

    from pinnace_runtime.asgi import Application
    from pinnace_runtime.http1 import Request
    from pinnace_runtime.settings import Settings

    Respond = Callable[[Request, bytes], Reply]
    # Serves the handler on the socket until the drain is over; calls `ready` when calls can come. Whether all were finished.
    Serve = Callable[[_socket.socket, Settings, Callable[[], None]], bool]

_CO_COROUTINE, _CO_ASYNC_GENERATOR = 0x80, 0x200


def load(template: str, code: str) -> Serve:
    """Import the handler in the folder `code` as `template` wants it; return what serves it. Raises LoadFailed."""
    if template not in _LOADERS:
        raise LoadFailed(f"there is no template {template!r}; there are {', '.join(_LOADERS)}")
    return _LOADERS[template](code)


def _load_http(code: str) -> Serve:
    handle = getattr(import_handler(code), "handle", None)
    if not callable(handle):
        raise LoadFailed("function/handler.py has no function handle(event, context)")
    if is_async(handle):
        from pinnace_runtime.async_handler import AsyncHandler

        return _on_loop(AsyncHandler(handle), code)
    from pinnace_runtime.thread_server import ThreadServer

    return lambda listener, settings, ready: ThreadServer(listener, _http_respond(handle), settings).serve(ready)


def _load_text(code: str) -> Serve:
    handle = getattr(import_handler(code), "handle", None)
    if not callable(handle):
        raise LoadFailed("function/handler.py has no function handle(req)")
    if is_async(handle):
        raise LoadFailed("function/handler.py: handle(req) cannot be async in python3; python3-http takes async handlers")

    from pinnace_runtime.thread_server import ThreadServer

    def serve(listener: _socket.socket, settings: Settings, ready: Callable[[], None]) -> bool:
        content_type = settings.content_type.encode("latin-1", "replace") or PLAIN

        def respond(request: Request, body: bytes) -> Reply:
            return text_reply(handle(body.decode("utf-8", "replace")), content_type)

        return ThreadServer(listener, respond, settings).serve(ready)

    return serve


def _load_asgi(code: str) -> Serve:
    from pinnace_runtime.asgi import find_application

    return _on_loop(find_application(import_handler(code)), code)


def _load_classic(code: str) -> Serve:
    from pinnace_runtime.classic import load_classic

    return load_classic(code)


_LOADERS: dict[str, Callable[[str], Serve]] = {
    "python3-http": _load_http,
    "python3": _load_text,
    "python3-asgi": _load_asgi,
    "classic": _load_classic,
}


def _http_respond(handle: Callable[[Event, Context], Any]) -> Respond:
    def respond(request: Request, body: bytes) -> Reply:
        return http_reply(handle(Event(request, body), Context(request.call_id)))

    return respond


def _on_loop(application: Application, code: str) -> Serve:
    from pinnace_runtime.loop_server import serve_on_loop

    _import_for_first_call()

    def serve(listener: _socket.socket, settings: Settings, ready: Callable[[], None]) -> bool:
        return serve_on_loop(application, code, listener, settings, ready)

    return serve


def _import_for_first_call() -> None:
    """Import what a library would at the first call: anyio, beneath Starlette and FastAPI, its backend (11 ms)."""
    if "anyio" in sys.modules:
        try:
            importlib.import_module("anyio._backends._asyncio")
        except ImportError:
            return  # another anyio than those we know


def is_async(handle: Any) -> bool:
    """Whether calling `handle` gives a coroutine or an async generator; looks through decorators and partials."""
    while True:
        inner = getattr(handle, "__wrapped__", None) or getattr(handle, "func", None)
        if inner is None:
            break
        handle = inner
    function = handle if hasattr(handle, "__code__") else type(handle).__call__
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & (_CO_COROUTINE | _CO_ASYNC_GENERATOR))
