"""Wires the export of traces: whether there is one, its process, and where the control process hands its spans in."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

from cli.settings import ServeSettings
from gateway.asynchronous.tracing import CallTracing
from telemetry import otel_environment
from telemetry.exporting import Report
from telemetry.span_export import SpanExport
from telemetry.span_sink import SpanSink

log = logging.getLogger("pinnace.platform")

SOCKET: Final = "spans.sock"


class Tracing:
    """Where spans go: `path` of the exporter's socket and the control process's own `sink`; empty and None where nowhere."""

    def __init__(self, export: SpanExport | None) -> None:
        self._export = export
        self.path = str(export.path) if export is not None else ""
        self.sink = SpanSink(self.path) if export is not None else None

    def asynchronous(self, ratio: float) -> CallTracing | None:
        """Return what traces asynchronous calls; None where nothing is traced."""
        return CallTracing(self.sink.add, ratio) if self.sink is not None else None

    def report(self) -> Report:
        """Return what became of spans."""
        return self._export.report if self._export is not None else Report()

    @property
    def pid(self) -> int | None:
        """The exporting process."""
        return self._export.pid if self._export is not None else None


@contextlib.asynccontextmanager
async def tracing(
    settings: ServeSettings, run_dir: Path, environment: Mapping[str, str] = os.environ
) -> AsyncIterator[Tracing]:
    """Export traces while entered, if the settings or OpenTelemetry's own variables name a collector."""
    added = {otel_environment.ENDPOINT: settings.otlp_endpoint} if settings.otlp_endpoint else {}
    if not otel_environment.is_wanted({**environment, **added}):
        yield Tracing(None)
        return
    if protocol := otel_environment.unspoken_protocol(environment):
        log.warning("traces are sent by OTLP over HTTP (%s), not by %s", otel_environment.HTTP, protocol)
    async with SpanExport(run_dir / SOCKET, added) as export:
        traced = Tracing(export)
        try:
            yield traced
        finally:
            if traced.sink is not None:
                await traced.sink.close()
