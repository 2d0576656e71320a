"""The control API as one ASGI application: `control_app` puts its parts together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from builder.extraction import Limits
from gateway.asynchronous.store import Store
from gateway.cloudevents.router import Router
from gateway.control import errors
from gateway.control.activity import Activity
from gateway.control.auth import Auth, Authentication
from gateway.control.build import Builder, Builds
from gateway.control.cloud_events import CloudEvents
from gateway.control.details import Details
from gateway.control.events import Events
from gateway.control.functions import Functions
from gateway.control.info import HEALTH, About, Info
from gateway.control.load import Loads, Recorded, nothing_recorded
from gateway.control.logs import Logs
from gateway.control.metrics import Metrics
from gateway.control.namespaces import Namespaces
from gateway.control.openapi import Document
from gateway.control.operation import Access, Operation, routes
from gateway.control.origin import Hosts, OriginGuard
from gateway.control.page import Page
from gateway.control.queue import Queue
from gateway.control.scaling import Explain, Scalings
from gateway.control.secrets import Secrets
from gateway.control.session import Sessions
from gateway.control.targets import Targets
from gateway.control.timers import MarkOf, TimersOf
from gateway.control.tracing import TraceRequests
from gateway.control.traffic import Traffics
from gateway.metrics.page import MetricsPage
from gateway.metrics.requests import CountRequests, Requests
from gateway.monitor.monitor import Monitor
from orchestration.names import FunctionId
from orchestration.orchestrator import Orchestrator
from telemetry.span_sink import SpanSink

BUILD_BODY_LIMIT_BYTES = Limits().archive_bytes
UPLOADS_FOLDER = "uploads"


def control_app(
    *,
    orchestrator: Orchestrator,
    builder: Builder,
    auth: Auth,
    hosts: Hosts,
    invocations: Callable[[FunctionId], int],
    about: About,
    data_dir: Path,
    monitor: Monitor,
    build_body_limit_bytes: int = BUILD_BODY_LIMIT_BYTES,
    explain: Explain = lambda function: None,
    recorded: Recorded = nothing_recorded,
    metrics: MetricsPage | None = None,
    requests: Requests | None = None,
    spans: SpanSink | None = None,
    functions: Callable[[], Iterable[FunctionId]] = tuple,
    router: Router | None = None,
    mark_of: MarkOf = lambda function, timer: None,
    calls: Store | None = None,
) -> Starlette:
    """Return the application. `invocations` tells how often a function was called, `explain` how it is scaled (None: nothing
    scales it), `recorded` which load it had of late, `monitor` what it does now; `metrics` is the page of that name,
    `requests` where requests are counted, `spans` where they are traced; `functions` lists all that there are; `router` takes
    CloudEvents, `mark_of` tells what was done of timers, `calls` keeps asynchronous calls; builds come in through `data_dir`.

    Its lifespan empties the folder of uploads: one process, the one that holds the data folder's lock, may run it.
    """
    builds = Builds(builder, auth, data_dir / UPLOADS_FOLDER, build_body_limit_bytes)
    resources = (
        Functions(orchestrator, auth, invocations, builder.pull),
        Secrets(orchestrator, auth),
        Namespaces(orchestrator, auth),
        Logs(orchestrator, auth, monitor.dismissed),
        Details(orchestrator, auth, invocations),
        Traffics(orchestrator, auth),
        Scalings(orchestrator, auth, explain),
        Loads(orchestrator, auth, recorded),
        TimersOf(orchestrator, auth, mark_of),
        CloudEvents(orchestrator, auth, router),
        Metrics(metrics or MetricsPage(), auth),
        Targets(orchestrator, functions, auth),
        Activity(orchestrator, auth, monitor),
        Events(monitor, auth),
        builds,
        Info(about, auth),
        Sessions(auth),
        *((Queue(calls, orchestrator, auth),) if calls is not None else ()),
        Page(),
    )
    operations = Document([o for resource in resources for o in resource.operations()], about.release, auth).operations
    return _app(operations, builds, auth, hosts, requests or Requests(), spans)


def _app(
    operations: Sequence[Operation],
    builds: Builds,
    auth: Auth,
    hosts: Hosts,
    requests: Requests | None = None,
    spans: SpanSink | None = None,
) -> Starlette:
    paths = {access: [o.path for o in operations if o.access is access] for access in Access}
    deferred = paths[Access.SIGNATURE] + paths[Access.LINK]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(builds.sweep)
        yield

    served: list[BaseRoute] = [*routes(operations)]
    app = Starlette(
        routes=served,
        middleware=[
            *([Middleware(CountRequests, requests=requests, routes=served)] if requests is not None else []),
            *([Middleware(TraceRequests, sink=spans, routes=served)] if spans is not None else []),
            Middleware(_PlainHeaders),
            Middleware(OriginGuard, hosts=hosts),
            Middleware(Authentication, auth=auth, open_paths=paths[Access.OPEN], deferred_paths=deferred),
        ],
        exception_handlers=errors.handlers(),
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


def build_app(
    *,
    builder: Builder,
    auth: Auth,
    hosts: Hosts,
    data_dir: Path,
    build_body_limit_bytes: int = BUILD_BODY_LIMIT_BYTES,
) -> Starlette:
    """Return the application of a builder that stands alone: builds, its public key, and whether it lives."""
    builds = Builds(builder, auth, data_dir / UPLOADS_FOLDER, build_body_limit_bytes)
    return _app((*builds.operations(), HEALTH), builds, auth, hosts)


class _PlainHeaders:
    """ASGI middleware: browsers neither guess types nor keep what only a login may see."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, with_headers)
