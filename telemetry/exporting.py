"""The process that exports spans by OTLP over HTTP: the one place where OpenTelemetry's SDK is imported.

Its arguments are the numbers of a listening Unix socket, to which those who have spans connect, and of a pipe on which it says
once a second what became of them. Standard input is its lifeline: at its end it exports what it holds, for two seconds
at most, and ends. Where to, with which headers, time limit and compression, is said by the SDK's own variables
(`OTEL_EXPORTER_OTLP_…`); so are the resource's attributes and the service's name.

A batch that cannot be exported is dropped and counted. While one is on its way the others wait, in a bounded queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from telemetry.call_spans import spans_of
from telemetry.span_sink import LENGTH_BYTES
from telemetry.spans import CallTrace, Record, Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

QUEUED: Final = 16_384
"""Most spans that wait here."""
BATCH: Final = 512
"""Spans in one request."""
PAUSE_S: Final = 0.5
"""How long spans gather where there are fewer."""
LAST_S: Final = 2.0
READ_S: Final = 0.05
"""Time to read what those who stop have just written."""
FRAME_LIMIT_BYTES: Final = 64 * 1024 * 1024
_decoder: Final = msgspec.msgpack.Decoder(list[Record])

Export = Callable[[Sequence[Span]], bool]
"""Blocks until the spans were taken, or not."""


class Report(msgspec.Struct, frozen=True):
    """How many spans were exported; how many were dropped because too many waited; how many could not be delivered."""

    exported: int = 0
    dropped: int = 0
    failed: int = 0


class Exporter:
    """Takes records as they come, and has them exported one batch at a time."""

    def __init__(self, export: Export) -> None:
        self._export = export
        self._queue: deque[Span] = deque()
        self._came = asyncio.Event()
        self._over = asyncio.Event()
        self.report = Report()

    def take(self, records: list[Record]) -> None:
        """Queue the spans of the records, or drop them."""
        for record in records:
            spans = spans_of(record) if isinstance(record, CallTrace) else [record]
            if len(self._queue) + len(spans) > QUEUED:
                self.report = msgspec.structs.replace(self.report, dropped=self.report.dropped + len(spans))
            else:
                self._queue += spans
        self._came.set()

    async def run(self) -> None:
        """Export until `finish`, and then what is left."""
        while not self._over.is_set():
            await self._came.wait()
            if len(self._queue) < BATCH:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._over.wait(), PAUSE_S)
            self._came.clear()
            await self.drain()

    def finish(self) -> None:
        """Nothing more comes."""
        self._over.set()
        self._came.set()

    async def drain(self) -> None:
        """Export all that is queued."""
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            report = self.report
            if await asyncio.to_thread(self._export, batch):
                self.report = msgspec.structs.replace(
                    report, exported=report.exported + len(batch), dropped=self.report.dropped
                )
            else:
                self.report = msgspec.structs.replace(report, failed=report.failed + len(batch), dropped=self.report.dropped)


class Connection(asyncio.Protocol):
    """One of those who have spans."""

    def __init__(self, take: Callable[[list[Record]], None]) -> None:
        self._take = take
        self._received = bytearray()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        while len(received) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(received[:LENGTH_BYTES], "big")
            if end > FRAME_LIMIT_BYTES:
                assert self._transport is not None
                self._transport.close()
                return
            if len(received) < end:
                return
            self._take(_decoder.decode(bytes(received[LENGTH_BYTES:end])))
            del received[:end]


def otlp() -> Export:
    """Return what exports by OTLP over HTTP. Imports the SDK: 0.3 s and 20 MB, which only this process pays."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExportResult
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    exporter = OTLPSpanExporter()
    platform = Resource.create()
    if "OTEL_SERVICE_NAME" not in os.environ and "service.name=" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        platform = platform.merge(Resource({"service.name": "pinnace"}))

    class Hashed(Resource):
        """A resource that is hashed once: each span looks for its own, and the SDK writes JSON each time (10 µs)."""

        def __init__(self, of: Resource) -> None:
            super().__init__(of.attributes, of.schema_url)
            self._hash = super().__hash__()

        def __hash__(self) -> int:
            return self._hash

    scope = InstrumentationScope("pinnace")
    kinds = {
        "internal": SpanKind.INTERNAL,
        "server": SpanKind.SERVER,
        "client": SpanKind.CLIENT,
        "producer": SpanKind.PRODUCER,
        "consumer": SpanKind.CONSUMER,
    }
    services: dict[str, Resource] = {"": Hashed(platform)}

    def resource(service: str) -> Resource:
        if service not in services:
            if len(services) > 10_000:
                services.clear()
                services[""] = Hashed(platform)
            services[service] = Hashed(platform.merge(Resource({"service.name": service})))
        return services[service]

    def made(span: Span) -> ReadableSpan:
        trace = int(span.trace, 16)
        sampled = TraceFlags(TraceFlags.SAMPLED)
        parent = SpanContext(trace, int(span.parent, 16), is_remote=True) if span.parent else None
        return ReadableSpan(
            name=span.name,
            context=SpanContext(trace, int(span.span, 16), is_remote=False, trace_flags=sampled),
            parent=parent,
            resource=resource(span.service),
            attributes=span.attributes,
            kind=kinds[span.kind],
            instrumentation_scope=scope,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
            start_time=span.start_ns,
            end_time=span.end_ns,
        )

    def export(spans: Sequence[Span]) -> bool:
        return exporter.export([made(span) for span in spans]) is SpanExportResult.SUCCESS

    return export


async def serve(listener: socket.socket, reports: int) -> None:
    """Take and export until standard input ends."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), over.set)
    exporter = Exporter(await asyncio.to_thread(otlp))
    server = await loop.create_unix_server(lambda: Connection(exporter.take), sock=listener)
    running = asyncio.create_task(exporter.run())
    reporting = asyncio.create_task(_report(exporter, reports))
    async with server:
        await over.wait()
        await asyncio.sleep(READ_S)
    exporter.finish()
    await asyncio.wait((running,), timeout=LAST_S)
    reporting.cancel()


async def _report(exporter: Exporter, pipe: int) -> None:
    told = Report()
    while True:
        await asyncio.sleep(1.0)
        if exporter.report != told:
            told = exporter.report
            os.write(pipe, msgspec.json.encode(told) + b"\n")


def main() -> None:
    """Serve on the inherited socket; report on the inherited pipe."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(5)  # calls come before their traces
    logging.basicConfig(level=logging.ERROR)
    listener = socket.socket(fileno=int(sys.argv[1]))
    asyncio.run(serve(listener, int(sys.argv[2])))
    os._exit(0)  # a thread may still wait for a collector that does not answer


if __name__ == "__main__":
    main()
