"""Requests to the control API, counted by method, path template and status: what clients send is never a label."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry import metrics
from telemetry.exposition import bound_texts, head, histogram, line
from telemetry.histogram import Histogram

BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
OTHER: Final = "other"
PROVIDERS: Final = "/system/"
"""What faas-provider's own metrics are about."""
_BOUNDS: Final = bound_texts(BOUNDS_S)


class Requests:
    """Counts them, and writes what it counted."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str, str], Histogram] = {}

    def count(self, method: str, path: str, status: int, duration_s: float) -> None:
        """One request to a path of this template was answered."""
        key = (method if method in METHODS else OTHER, path, str(status))
        if (seconds := self.seconds.get(key)) is None:
            seconds = self.seconds[key] = Histogram(BOUNDS_S)
        seconds.observe(BOUNDS_S, duration_s)

    def __call__(self, openmetrics: bool) -> Iterator[str]:
        counted = sorted(self.seconds.items())
        yield head(metrics.HTTP_REQUESTS, openmetrics)
        for labels, seconds in counted:
            yield line(metrics.HTTP_REQUESTS, labels, seconds.count)
        yield head(metrics.HTTP_SECONDS, openmetrics)
        for labels, seconds in counted:
            yield histogram(metrics.HTTP_SECONDS, labels, _BOUNDS, seconds, openmetrics)
        provided = [((status, method, path), s) for (method, path, status), s in counted if path.startswith(PROVIDERS)]
        yield head(metrics.PROVIDER_REQUESTS, openmetrics)
        for labels, seconds in provided:
            yield line(metrics.PROVIDER_REQUESTS, labels, seconds.count)
        yield head(metrics.PROVIDER_SECONDS, openmetrics)
        for labels, seconds in provided:
            yield histogram(metrics.PROVIDER_SECONDS, labels, _BOUNDS, seconds, openmetrics)


class CountRequests:
    """ASGI middleware, the outermost: also what is refused before it reaches an endpoint is counted."""

    def __init__(self, app: ASGIApp, requests: Requests, routes: list[BaseRoute]) -> None:
        self._app = app
        self._requests = requests
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            self._requests.count(scope["method"], template(self._routes, scope), status, time.perf_counter() - began)


def template(routes: list[BaseRoute], scope: Scope) -> str:
    """Return the path template that a request's path is of; `other` when it is of none."""
    matching = (r.path for r in routes if isinstance(r, Route) and r.matches(scope)[0] is not Match.NONE)
    return next(matching, OTHER)
