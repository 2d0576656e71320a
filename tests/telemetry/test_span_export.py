"""The real exporting process, against a receiver that speaks OTLP."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from telemetry import span_export
from telemetry.exporting import Report
from telemetry.span_export import SpanExport
from telemetry.span_sink import SpanSink
from tests.telemetry.collector import Collector, collecting
from tests.telemetry.test_span_sink import span, until


async def came(collector: Collector, count: int) -> None:
    async with asyncio.timeout(20):
        while len(collector.spans) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_spans_arrive_with_resource_and_headers(tmp_path: Path) -> None:
    with collecting() as collector:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-token=secret",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        }
        async with SpanExport(tmp_path / "s", environment) as export:
            sink = SpanSink(str(export.path))
            sink.add(span("hello"))
            await came(collector, 1)
            await until(lambda: export.report == Report(exported=1))
            await sink.close()
        assert (collector.spans[0].name, collector.spans[0].service) == ("hello", "pinnace")
        assert collector.headers[0]["x-token"] == "secret"
        assert not export.path.exists()


async def test_what_is_held_at_the_end_still_goes(tmp_path: Path) -> None:
    with collecting() as collector:
        async with SpanExport(tmp_path / "s", {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}) as export:
            sink = SpanSink(str(export.path))
            sink.add(span("first"))
            await came(collector, 1)
            sink.add(span("last"))
            await sink.close()
        await came(collector, 2)


async def test_a_process_that_dies_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_export, "FIRST_PAUSE_S", 0.05)
    with collecting() as collector:
        async with SpanExport(tmp_path / "s", {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}) as export:
            sink = SpanSink(str(export.path))
            sink.add(span("before"))
            await came(collector, 1)
            await until(lambda: export.report.exported == 1)
            first = export.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await until(lambda: export.pid not in (None, first))
            sink.add(span("after"))
            await came(collector, 2)
            await until(lambda: export.report.exported == 2)
            await sink.close()


async def test_a_collector_that_refuses_loses_spans_and_nothing_else(tmp_path: Path) -> None:
    with collecting() as collector:
        collector.refusing = True
        async with SpanExport(tmp_path / "s", {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}) as export:
            sink = SpanSink(str(export.path))
            sink.add(span("lost"))
            async with asyncio.timeout(20):
                while export.report.failed != 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            collector.refusing = False
            sink.add(span("found"))
            await came(collector, 1)
            await sink.close()
