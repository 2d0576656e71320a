"""Metrics of functions, for Prometheus: which replicas serve any (HTTP service discovery), and each one's.

Replicas listen on sockets that Prometheus cannot reach, so every target is this gateway, with a path of the replica's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.control import errors
from gateway.control.auth import Auth
from gateway.control.functions import json, named
from gateway.control.operation import Content, Operation
from gateway.control.query import NAME, NAMESPACE, REPLICA
from gateway.metrics.scraping import CannotScrape, Scraper, path_of
from orchestration.names import FunctionId
from orchestration.orchestrator import NotFound, Orchestrator
from orchestration.replica import ReplicaState

TARGETS: Final = "/api/v1/prometheus/targets"
METRICS: Final = "/api/v1/functions/{name}/replicas/{replica}/metrics"
TOGETHER: Final = 20
"""So many functions are looked at in one turn of the loop."""


class TargetGroup(msgspec.Struct, frozen=True):
    """As Prometheus's HTTP service discovery wants it."""

    targets: list[str]
    labels: dict[str, str]


class Targets:
    """`functions` gives all there are."""

    def __init__(self, orchestrator: Orchestrator, functions: Callable[[], Iterable[FunctionId]], auth: Auth | None) -> None:
        self._orchestrator = orchestrator
        self._functions = functions
        self._auth = auth
        self._scraper = Scraper()

    async def targets(self, request: Request) -> Response:
        self._authorize(request, "")
        groups = []
        for number, function in enumerate(list(self._functions())):
            groups += self._groups(function, request.headers.get("host", ""))
            if number % TOGETHER == TOGETHER - 1:
                await asyncio.sleep(0)
        return json(groups)

    async def metrics(self, request: Request) -> Response:
        function = named(request)
        self._authorize(request, function.namespace)
        status = self._orchestrator.status(function)
        path = path_of(status.function.spec.annotations)
        running = (r for r in status.instances if r.state is ReplicaState.RUNNING and r.endpoint is not None)
        replica = next((r for r in running if r.id == request.path_params["replica"]), None)
        if path is None or replica is None or replica.endpoint is None:
            raise NotFound(f"function {function} has no replica {request.path_params['replica']!r} that serves metrics")
        try:
            scraped = await self._scraper.fetch(replica.endpoint, path, request.headers.get("accept", ""))
        except CannotScrape as error:
            return errors.text(502, str(error))
        return Response(scraped.body, headers={"Content-Type": scraped.media_type, "X-Content-Type-Options": "nosniff"})

    def _groups(self, function: FunctionId, host: str) -> list[TargetGroup]:
        try:
            status = self._orchestrator.status(function)
        except NotFound:
            return []
        if path_of(status.function.spec.annotations) is None:
            return []
        return [
            TargetGroup(
                [host],
                {
                    "__metrics_path__": METRICS.format(name=function, replica=replica.id),
                    "instance": replica.id,
                    "function_name": str(function),
                    "namespace": function.namespace,
                    "revision": replica.revision,
                },
            )
            for replica in status.instances
            if replica.state is ReplicaState.RUNNING
        ]

    def _authorize(self, request: Request, namespace: str) -> None:
        if self._auth is not None:
            self._auth.authorize(request, "read", namespace)

    def routes(self) -> list[Route]:
        """Return the routes for a port without a login."""
        return [Route(TARGETS, self.targets), Route(METRICS, self.metrics)]

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                id="listMetricsTargets",
                method="GET",
                path=TARGETS,
                endpoint=self.targets,
                summary="List the replicas that serve metrics, for Prometheus's HTTP service discovery",
                success={200: Content("A target for each ready replica of functions that say so.", list[TargetGroup])},
            ),
            Operation(
                id="getReplicaMetrics",
                method="GET",
                path=METRICS,
                endpoint=self.metrics,
                summary="Give the metrics that one replica of a function serves",
                parameters=(NAME, REPLICA, NAMESPACE),
                success={200: Content("The metrics, as the function wrote them.", None, "text/plain")},
                refusals=(400, 404, 502),
            ),
        )
