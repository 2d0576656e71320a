"""The exporter's queue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from telemetry import exporting
from telemetry.exporting import Exporter, Report
from telemetry.spans import Span
from tests.telemetry.test_call_spans import WARM
from tests.telemetry.test_span_sink import span


async def test_calls_become_their_spans() -> None:
    exported: list[Span] = []

    def export(spans: Sequence[Span]) -> bool:
        exported.extend(spans)
        return True

    exporter = Exporter(export)
    exporter.take([WARM, span("other")])
    await exporter.drain()
    assert [s.name for s in exported] == ["GET /function/{name}", "GET", "hello", "other"]
    assert exporter.report == Report(exported=4)


async def test_what_comes_while_a_batch_is_on_its_way_waits_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "QUEUED", 5)
    gate = threading.Event()

    def export(spans: Sequence[Span]) -> bool:
        return gate.wait(5)

    exporter = Exporter(export)
    exporter.take([span("first")])
    draining = asyncio.create_task(exporter.drain())
    await asyncio.sleep(0)
    exporter.take([span(str(number)) for number in range(8)])
    assert exporter.report == Report(dropped=3)
    gate.set()
    await draining
    assert exporter.report == Report(exported=6, dropped=3)


async def test_what_cannot_be_delivered_is_counted_and_gone() -> None:
    exporter = Exporter(lambda spans: False)
    exporter.take([span("x")])
    await exporter.drain()
    assert exporter.report == Report(failed=1)
