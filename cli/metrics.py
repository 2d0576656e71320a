"""Wires the metrics page: which parts it asks, and the port that it has of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from starlette.types import ASGIApp

from autoscaler.scaler import Scaler
from builder.service import Builder
from cli.errors import CliError
from cli.settings import ServeSettings
from cli.tracing import Tracing
from gateway.control.info import About
from gateway.control.metrics import metrics_app
from gateway.control.origin import Hosts
from gateway.control.targets import Targets
from gateway.edge.edge import Edge
from gateway.edge.fleet import Fleet
from gateway.metrics.builds import Builds, Release
from gateway.metrics.calls import Calls
from gateway.metrics.consumption import Consumptions, Measure
from gateway.metrics.functions import Functions, Starts
from gateway.metrics.page import MetricsPage, Source
from gateway.metrics.phases import Phases
from gateway.metrics.processes import LoopLag, Processes
from gateway.metrics.requests import Requests
from gateway.metrics.spans import Spans
from orchestration.names import FunctionId
from orchestration.orchestrator import Consumption, Orchestrator
from orchestration.starts import StartBook

log = logging.getLogger("pinnace.platform")

DEFAULT_PORT = ServeSettings().metrics_port


class Serve(Protocol):
    """Serves an application on listening sockets while entered."""

    def __call__(self, app: ASGIApp, *, sockets: list[socket.socket]) -> AbstractAsyncContextManager[None]: ...


class CannotServeMetrics(CliError):
    """The port that was chosen for metrics cannot be had; the message says why."""


async def no_consumption() -> Mapping[FunctionId, Consumption]:
    """Return what replicas use where somebody else measures it, as the kubelet does."""
    return {}


class Metering:
    """What counts, and the `page` that tells it. `starts` is to be told of events, `requests` of requests to the API.

    `targets` are functions' own metrics, without a login; `more` is written besides what is asked here.
    """

    def __init__(
        self,
        *,
        about: About,
        edge: Edge | Fleet,
        orchestrator: Orchestrator,
        scaler: Scaler,
        builder: Builder,
        consumption: Measure,
        keeper_pid: Callable[[], int | None],
        starts: StartBook,
        tracing: Tracing,
        more: Sequence[Source] = (),
    ) -> None:
        self.starts = Starts()
        self.requests = Requests()
        self.lag = LoopLag()
        self._edge = edge
        self._keeper_pid = keeper_pid
        self._tracing = tracing
        self._scaler = scaler
        self.targets = Targets(orchestrator, self.functions, auth=None)
        consumptions = Consumptions(consumption)
        self.page = MetricsPage(
            (
                Release(about.release, about.orchestration),
                Calls(edge),
                Functions(orchestrator, scaler.figures, self.starts),
                Phases(starts),
                consumptions,
                self.requests,
                Builds(builder.durations),
                Spans(tracing.report),
                Processes(self._pids, self.lag),
                *more,
            ),
            consumptions.refresh,
        )

    def functions(self) -> list[FunctionId]:
        """Return all functions."""
        return [figures.function for figures in self._scaler.figures()]

    def _pids(self) -> dict[str, int]:
        pids = {"control": os.getpid()}
        if (keeper := self._keeper_pid()) is not None:
            pids["keeper"] = keeper
        if (exporter := self._tracing.pid) is not None:
            pids["exporter"] = exporter
        if isinstance(self._edge, Fleet):
            pids |= self._edge.pids
        return pids


@contextlib.asynccontextmanager
async def metrics_port(
    page: MetricsPage,
    hosts: Hosts,
    settings: ServeSettings,
    serve: Serve,
    targets: Targets | None = None,
    trouble: Callable[[], str] = lambda: "",
) -> AsyncIterator[None]:
    """Serve the page on the metrics port, if one is wanted. The default one may be another platform's already.

    Raises CannotServeMetrics when one that was chosen is taken.
    """
    host, port = settings.metrics_host, settings.metrics_port
    if not port:
        yield
        return
    where = f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        why = error.strerror or str(error)
        if port != DEFAULT_PORT:
            raise CannotServeMetrics(
                f"cannot listen on {where}: {why}; choose another with --metrics-port, or 0 for none"
            ) from None
        log.warning("no metrics on %s: %s; they are at /metrics of the gateway, with the login", where, why)
        yield
        return
    with listener:
        async with serve(metrics_app(page, hosts, targets, trouble), sockets=[listener]):
            log.info("metrics at %s", where)
            yield
