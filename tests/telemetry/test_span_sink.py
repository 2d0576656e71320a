"""Handing spans in never waits, and what cannot be taken is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from telemetry import span_sink
from telemetry.exporting import Connection
from telemetry.span_sink import SpanSink
from telemetry.spans import Record, Span


def span(name: str) -> Span:
    return Span(trace="a" * 32, span="b" * 16, parent="", name=name, kind="internal", start_ns=1, end_ns=2)


@asynccontextmanager
async def exporter(path: Path) -> AsyncIterator[list[Record]]:
    """Receive what comes to the socket `path`."""
    came: list[Record] = []
    connections: list[Connection] = []

    def connected() -> Connection:
        connections.append(Connection(came.extend))
        return connections[-1]

    server = await asyncio.get_running_loop().create_unix_server(connected, str(path))
    async with server:
        yield came
    for connection in connections:
        if isinstance(connection._transport, asyncio.Transport):
            connection._transport.abort()
    await asyncio.sleep(0.01)  # transports close their sockets in a later turn


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # any condition, also one that nobody tells of
            await asyncio.sleep(0.01)


async def test_records_arrive_in_order(tmp_path: Path) -> None:
    async with exporter(tmp_path / "s") as came:
        sink = SpanSink(str(tmp_path / "s"))
        for number in range(1200):
            sink.add(span(str(number)))
        await until(lambda: len(came) == 1200)
        sink.add(span("last"))
        await sink.close()
        await until(lambda: len(came) == 1201)
    assert [r.name for r in came if isinstance(r, Span)] == [*map(str, range(1200)), "last"]
    assert (sink.taken, sink.dropped) == (1201, 0)


async def test_without_an_exporter_a_bounded_number_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_sink, "HELD", 3)
    sink = SpanSink(str(tmp_path / "nobody"))
    for number in range(5):
        sink.add(span(str(number)))
    assert (sink.taken, sink.dropped) == (3, 2)
    await sink.close()


async def test_what_was_held_goes_when_the_exporter_comes(tmp_path: Path) -> None:
    sink = SpanSink(str(tmp_path / "s"))
    sink.add(span("early"))
    await asyncio.sleep(0)
    sink._flush()
    await until(lambda: sink._connecting is not None and sink._connecting.done())
    async with exporter(tmp_path / "s") as came:
        await until(lambda: came)
        await sink.close()


async def test_an_exporter_that_does_not_read_costs_a_bounded_amount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_sink, "UNREAD_BYTES", 0)

    deaf_to: list[asyncio.StreamWriter] = []

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        deaf_to.append(writer)
        writer.transport.pause_reading()  # type: ignore[attr-defined]

    server = await asyncio.start_unix_server(deaf, str(tmp_path / "s"))
    async with server:
        sink = SpanSink(str(tmp_path / "s"))
        for _ in range(40):
            for number in range(500):
                sink.add(span("x" * 400 + str(number)))
            await sink._connect()
            sink._write()
        assert sink.dropped > 0
        assert sink.taken + sink.dropped == 40 * 500
        assert sink._transport is not None
        await until(lambda: deaf_to)
        sink._transport.abort()
        for writer in deaf_to:
            writer.transport.abort()
        await asyncio.sleep(0.01)


def test_every_record_travels() -> None:
    decoder = msgspec.msgpack.Decoder(list[Record])
    assert decoder.decode(span_sink.frame([span("x")])[4:]) == [span("x")]
