"""The metrics page as an operation of the API, and as an application of its own for a port without a login."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from gateway.control import errors
from gateway.control.auth import Auth
from gateway.control.info import healthz
from gateway.control.operation import Content, Operation
from gateway.control.origin import Hosts, OriginGuard
from gateway.control.targets import Targets
from gateway.metrics.page import MetricsPage


class Metrics:
    def __init__(self, page: MetricsPage, auth: Auth) -> None:
        self._page = page
        self._auth = auth

    async def get(self, request: Request) -> Response:
        self._auth.authorize(request, "read", "")
        return _response(self._page, request)

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="getMetrics",
                method="GET",
                path="/metrics",
                endpoint=self.get,
                summary="Give all metrics, as Prometheus's text format or as OpenMetrics",
                success={
                    200: Content("The metrics; `Accept: application/openmetrics-text` asks for that.", None, "text/plain")
                },
            ),
        )


def metrics_app(
    page: MetricsPage, hosts: Hosts, targets: Targets | None = None, trouble: Callable[[], str] = lambda: ""
) -> Starlette:
    """Return the application of the metrics port: it asks for no login, but refuses what foreign web pages send.

    `targets` serves functions' own metrics there too. `/readyz` says whether this process should get work: not while there is
    `trouble`, of which it is told.
    """

    async def readyz(request: Request) -> Response:
        return errors.text(503, why) if (why := trouble()) else Response()

    async def get(request: Request) -> Response:
        return _response(page, request)

    return Starlette(
        routes=[
            Route("/metrics", get),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            *(targets.routes() if targets is not None else []),
        ],
        middleware=[Middleware(OriginGuard, hosts=hosts)],
        exception_handlers=errors.handlers(),
    )


def _response(page: MetricsPage, request: Request) -> Response:
    media_type = page.media_type(request.headers.get("accept", ""))
    return StreamingResponse(page.write(media_type), headers={"Content-Type": media_type, "Cache-Control": "no-store"})
