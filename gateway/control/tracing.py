"""Traces of the control API: a span for each change, and for each request whose client traces it.

What a request sets going in its task (a build) stands below its span.
"""

from __future__ import annotations

import secrets
import time
from typing import Final

from starlette.datastructures import Headers
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.metrics.requests import METHODS, template
from telemetry import trace_context
from telemetry.current import Current, current
from telemetry.span_sink import SpanSink
from telemetry.spans import Attribute, Span

_READING: Final = ("GET", "HEAD", "OPTIONS")


class TraceRequests:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, sink: SpanSink, routes: list[BaseRoute]) -> None:
        self._app = app
        self._sink = sink
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = Headers(scope=scope).getlist("traceparent")
        parent = trace_context.parse(told[0].encode("latin-1")) if len(told) == 1 else None
        if scope["method"] in _READING and not (parent is not None and parent.sampled):
            await self._app(scope, receive, send)
            return
        here = Current(parent.trace.decode() if parent is not None else secrets.token_hex(16), secrets.token_hex(8))
        began_ns, status = time.time_ns(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        token = current.set(here)
        try:
            await self._app(scope, receive, noted)
        finally:
            current.reset(token)
            method = scope["method"] if scope["method"] in METHODS else "HTTP"
            route = template(self._routes, scope)
            error = str(status) if status >= 500 else ""
            attributes: dict[str, Attribute] = {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "url.path": scope["path"],
                "url.scheme": "http",
            }
            if error:
                attributes["error.type"] = error
            self._sink.add(
                Span(
                    trace=here.trace,
                    span=here.span,
                    parent=parent.span.decode() if parent is not None else "",
                    name=f"{method} {route}",
                    kind="server",
                    start_ns=began_ns,
                    end_ns=time.time_ns(),
                    attributes=attributes,
                    error=error,
                )
            )
