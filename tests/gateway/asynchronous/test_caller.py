"""Calls through an edge's inner socket: whatever goes wrong on the way is an answer, and nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.asynchronous.caller import Caller, Request, Response
from orchestration.replica import Endpoint
from tests.gateway.edge.lab import Handler, Origin, answer_ok, eventually, field, read_request


def request(method: str = "POST", size: int = 0, **headers: str) -> Request:
    told = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Request(method=method, target="/function/f.ns/x?y", host="h", headers=told, call_id="id-1", size=size)


def body(*pieces: bytes) -> Callable[[], AsyncIterator[bytes]]:
    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return chunks


class Edges:
    """Edges that follow a script, and a caller."""

    def __init__(self, folder: Path, limit_bytes: int = 1_000_000) -> None:
        self.folder = folder
        self.spool = folder / "spool"
        self.spool.mkdir()
        self.edges = [Origin(Endpoint(unix=str(folder / f"inner-{n}"))) for n in range(2)]
        self.caller = Caller([edge.endpoint.unix or "" for edge in self.edges], self.spool, limit_bytes)

    async def call(self, what: Request | None = None, *pieces: bytes, timeout_s: float = 5.0) -> Response:
        return await self.caller.call(what or request(), body(*pieces), timeout_s)

    async def start(self, handler: Handler = answer_ok) -> None:
        for edge in self.edges:
            edge.handler = handler
            await edge.start()

    async def stop(self) -> None:
        self.caller.close()
        for edge in self.edges:
            await edge.stop()


@pytest.fixture
async def edges(folder: Path) -> AsyncIterator[Edges]:
    made = Edges(folder)
    yield made
    await made.stop()


async def test_edges_take_turns_and_connections_are_used_again(edges: Edges) -> None:
    await edges.start()
    for _ in range(6):
        response = await edges.call()
        assert (response.answer.status, response.body, response.cut) == (200, b"ok", False)
    assert [len(edge.heads) for edge in edges.edges] == [3, 3]
    assert [edge.connections for edge in edges.edges] == [1, 1]


async def test_the_head_is_written_anew_where_it_must_be(edges: Edges) -> None:
    await edges.start()
    await edges.call(request(size=5, X_A="1", Connection="close", X_Call_Id="other", Content_Length="9"), b"he", b"llo")
    (edge,) = (edge for edge in edges.edges if edge.heads)
    (head,) = edge.heads
    assert head.startswith(b"POST /function/f.ns/x?y HTTP/1.1\r\nHost: h\r\n")
    assert (field(head, b"x-call-id"), field(head, b"x-a"), field(head, b"content-length")) == (b"id-1", b"1", b"5")
    assert field(head, b"connection") is None
    assert edge.bodies == [b"hello"]


async def test_an_edge_that_is_away_is_passed_over_and_none_is_a_failure(edges: Edges) -> None:
    response = await edges.call()
    assert (response.answer.status, response.answer.failure) == (0, "the edge cannot be reached")
    await edges.edges[1].start()
    for _ in range(3):
        assert (await edges.call()).answer.status == 200


async def test_a_connection_that_was_closed_in_the_meantime_is_no_failure(edges: Edges) -> None:
    async def one_answer(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(origin.response)
        if (await read_request(reader))[0]:
            writer.transport.abort()

    await edges.start(one_answer)
    for _ in range(6):
        assert (await edges.call(request(size=1), b"x")).answer.status == 200


async def test_an_answer_that_breaks_off_is_a_failure_and_leaves_no_file(edges: Edges) -> None:
    async def half(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"x" * 400_000)
        await writer.drain()
        writer.close()

    await edges.start(half)
    response = await edges.call()
    assert (response.answer.status, response.answer.failure) == (
        0,
        "the connection to the edge was lost in the middle of the answer",
    )


async def test_an_answer_that_does_not_come_is_a_failure_after_its_time(edges: Edges) -> None:
    async def silent(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    await edges.start(silent)
    response = await edges.call(timeout_s=0.05)
    assert response.answer.failure == "no answer within 0.05 s"
    await eventually(lambda: not any(edge._writers for edge in edges.edges))


async def test_a_long_answer_is_a_file_and_a_longer_one_is_cut(folder: Path) -> None:
    edges = Edges(folder, limit_bytes=100_000)
    await edges.start()
    for edge in edges.edges:
        edge.response = b"HTTP/1.1 200 OK\r\nContent-Length: 150000\r\n\r\n" + b"x" * 150_000
    response = await edges.call()
    assert isinstance(response.body, Path)
    assert (response.cut, response.body.stat().st_size) == (True, 100_000)
    await edges.stop()


async def test_answers_without_a_body_end_where_they_end(edges: Edges) -> None:
    await edges.start()
    for edge in edges.edges:
        edge.response = b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n"
    assert (await edges.call()).answer.status == 204
    for edge in edges.edges:
        edge.response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    response = await edges.call(request("HEAD"))
    assert (response.answer.status, response.body) == (200, b"")


async def test_a_call_that_is_cancelled_breaks_its_connection(edges: Edges) -> None:
    came, left = asyncio.Event(), asyncio.Event()

    async def waits(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        came.set()
        await reader.read()
        left.set()

    await edges.start(waits)
    task = asyncio.create_task(edges.call())
    async with asyncio.timeout(20):
        await came.wait()
        task.cancel()
        await left.wait()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(edges.spool.iterdir()) == []
