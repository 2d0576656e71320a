"""Framing in both directions, at every boundary."""

from __future__ import annotations

import asyncio

import pytest

from orchestration.names import FunctionId
from tests.gateway.edge.lab import Client, Lab, Origin, eventually, field, fields, read_request

GET = b"GET /function/echo HTTP/1.1\r\nHost: h\r\n\r\n"

CHUNKS = b"2\r\nhe\r\n3\r\nllo\r\n0\r\nX-T: 1\r\n\r\n"

REQUESTS = {
    "get": (GET, b""),
    "length": (b"POST /function/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "chunked": (
        b"POST /function/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
        b"hello",
    ),
    "h2c": (
        b"POST /function/echo HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello",
        b"hello",
    ),
}


async def trickle(client: Client, data: bytes, cut: int) -> None:
    """Send `data` in two writes that arrive as two reads."""
    client.send(data[:cut])
    await client.writer.drain()
    await asyncio.sleep(0.001)
    client.send(data[cut:])


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_cut_at_every_byte(lab: Lab, name: str) -> None:
    request, body = REQUESTS[name]
    origin = await lab.replica(lab.deploy("echo"))
    client = await lab.client()
    for cut in range(1, len(request)):
        await trickle(client, request, cut)
        assert (await client.response())[::2] == (200, b"ok"), cut
    assert origin.bodies == [body] * (len(request) - 1)
    if name == "chunked":
        assert all(fields(head, b"x-t") == [b"1"] for head in origin.heads)


async def test_a_request_byte_by_byte_with_the_next_one_behind(lab: Lab) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    client = await lab.client()
    for byte in REQUESTS["chunked"][0] + REQUESTS["length"][0]:
        client.send(bytes((byte,)))
        await asyncio.sleep(0)
    assert (await client.response())[0] == 200
    assert (await client.response())[0] == 200
    assert origin.bodies == [b"hello", b"hello"]


RESPONSES = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-T: 1\r\n\r\n", b"hello"),
    "interim": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
}


@pytest.mark.parametrize("name", RESPONSES)
async def test_a_response_cut_at_every_byte(lab: Lab, name: str) -> None:
    response, body = RESPONSES[name]
    cuts = iter(range(1, len(response)))

    async def cutting(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await read_request(reader))[0]:
            cut = next(cuts)
            writer.write(response[:cut])
            await writer.drain()
            await asyncio.sleep(0.001)
            writer.write(response[cut:])

    origin = await lab.replica(lab.deploy("echo"), cutting)
    client = await lab.client()
    for _ in range(1, len(response)):
        status, head, got = await client.get()
        assert (status, got) == (204 if name == "no content" else 200, body)
        assert fields(head, b"x-t") == ([b"1"] if name == "chunked" else [])
    assert origin.connections == 1


async def test_pipelined_requests_are_answered_in_order(lab: Lab) -> None:
    async def path(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await read_request(reader))[0]:
            name = request[0].split(b" ")[1] + request[1]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(name), name))

    await lab.replica(lab.deploy("echo"), path)
    client = await lab.client()
    wire = b""
    for number in range(500):
        wire += b"POST /function/echo/%d HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx" % number
        if number % 7 == 0:
            wire += b"GET /function/nope HTTP/1.1\r\nHost: h\r\n\r\n"
    client.send(wire)
    for number in range(500):
        assert (await client.response())[2] == b"/%dx" % number
        if number % 7 == 0:
            assert (await client.response())[0] == 404


async def test_a_thousand_refusals_in_one_read(lab: Lab) -> None:
    client = await lab.client()
    client.send(b"GET /function/nope HTTP/1.1\r\nHost: h\r\n\r\n" * 3000)
    for _ in range(3000):
        assert (await client.response())[0] == 404


async def test_head_has_no_body_and_leaves_the_connection_in_step(lab: Lab) -> None:
    origin = await lab.replica(lab.deploy("echo"))

    async def heads(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await read_request(reader))[0]:
            body = b"" if request[0].startswith(b"HEAD") else b"hello"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body)

    origin.handler = heads
    client = await lab.client()
    for _ in range(3):
        client.send(b"HEAD /function/echo HTTP/1.1\r\nHost: h\r\n\r\n")
        status, head, _ = await client.response(head_only=True)
        assert (status, field(head, b"content-length")) == (200, b"5")
        assert (await client.get())[2] == b"hello"
    assert origin.connections == 1


async def test_a_refusal_of_head_has_no_body(lab: Lab) -> None:
    client = await lab.client()
    client.send(b"HEAD /function/nope HTTP/1.1\r\nHost: h\r\n\r\n" + b"GET /function/nope HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await client.response(head_only=True))[0] == 404
    assert (await client.response())[2] == b"function nope.openfaas-fn not found\n"


async def test_a_body_until_the_end_of_file_is_chunked_for_the_client(lab: Lab) -> None:
    async def until_eof(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nhello")
        await writer.drain()

    await lab.replica(lab.deploy("echo"), until_eof)
    client = await lab.client()
    for _ in range(2):
        status, head, body = await client.get()
        assert (status, body, field(head, b"transfer-encoding")) == (200, b"hello", b"chunked")


async def test_http_1_0_clients_get_what_they_understand(lab: Lab) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    origin.response = RESPONSES["chunked"][0]
    client = await lab.client()
    client.send(b"GET /function/echo HTTP/1.0\r\n\r\n")
    status, head, body = await client.response()
    assert (status, body, field(head, b"transfer-encoding"), field(head, b"connection")) == (200, b"hello", None, b"close")
    origin.response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    client = await lab.client()
    for _ in range(2):
        client.send(b"GET /function/echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        status, head, body = await client.response()
        assert (body, field(head, b"connection")) == (b"ok", b"keep-alive")


BAD_RESPONSES = {
    "not HTTP": b"hello\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "gzip, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "gzip": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "obs-fold": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "unasked switch": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_RESPONSES)
async def test_a_malformed_response_is_a_bad_gateway(lab: Lab, name: str) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    origin.response = BAD_RESPONSES[name]
    client = await lab.client()
    status, head, body = await client.get()
    assert (status, field(head, b"x-openfaas-internal"), body.count(b"\n")) == (502, b"gateway", 1)
    origin.response = RESPONSES["length"][0]
    assert (await client.get())[2] == b"hello"
    assert origin.connections == 2


@pytest.mark.parametrize("surplus", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"])
async def test_surplus_bytes_never_become_somebody_elses_response(lab: Lab, surplus: bytes) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    client = await lab.client()
    for response in RESPONSES["length"][0], RESPONSES["chunked"][0]:
        origin.response = response + surplus
        assert (await client.get())[2] == b"hello"
        assert (await client.get())[2] == b"hello"
    assert origin.connections == 4


async def test_early_hints_pass_and_continue_is_the_edges_own(lab: Lab) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    origin.response = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + RESPONSES["interim"][0]
    client = await lab.client()
    client.send(b"POST /function/echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert (await client.response())[0] == 100
    client.send(b"ab")
    status, head, _ = await client.response()
    assert (status, field(head, b"link")) == (103, b"</a>")
    assert (await client.response())[2] == b"hello"
    assert origin.bodies == [b"ab"]


async def test_nobody_is_asked_to_continue_what_will_be_refused(lab: Lab) -> None:
    client = await lab.client()
    client.send(b"POST /function/nope HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    status, head, _ = await client.response()
    assert (status, field(head, b"connection")) == (404, b"close")


async def test_a_tunnel_passes_bytes_both_ways_and_counts_as_one_call(lab: Lab) -> None:
    async def switches(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        origin.heads.append((await read_request(reader))[0])
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Own: a\r\n\r\nhi")
        while data := await reader.read(100):
            writer.write(data.upper())

    echo = FunctionId("openfaas-fn", "echo")
    origin = await lab.replica(lab.deploy("echo"), switches)
    client = await lab.client()
    client.send(
        b"GET /function/echo/ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: x\r\n\r\nearly "
    )
    status, head, _ = await client.response()
    assert (status, field(head, b"upgrade"), field(head, b"connection")) == (101, b"websocket", b"Upgrade")
    assert field(origin.heads[0], b"upgrade") == b"websocket"
    assert await client.reader.readexactly(8) == b"hiEARLY "
    client.send(b"more\x00\xff")
    assert await client.reader.readexactly(6) == b"MORE\x00\xff"
    assert lab.edge.in_flight()[echo] == 1
    await client.close()
    await eventually(lambda: lab.edge.in_flight()[echo] == 0)


async def test_a_declined_upgrade_goes_on_as_http(lab: Lab) -> None:
    await lab.replica(lab.deploy("echo"))
    client = await lab.client()
    client.send(b"GET /function/echo HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + GET)
    assert (await client.response())[2] == b"ok"
    assert (await client.response())[2] == b"ok"
    assert (await client.get())[2] == b"ok"


async def test_streams_arrive_piece_by_piece(lab: Lab) -> None:
    go_on = asyncio.Event()

    async def events(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await go_on.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
        await reader.read()

    await lab.replica(lab.deploy("echo"), events)
    client = await lab.client()
    client.send(GET)
    await client.reader.readuntil(b"\r\n\r\n")
    assert await client.reader.readexactly(8) == b"3\r\none\r\n"
    go_on.set()
    assert await client.reader.readexactly(13) == b"3\r\ntwo\r\n0\r\n\r\n"


async def test_request_and_response_stream_at_the_same_time(lab: Lab) -> None:
    async def echo(origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        for _ in range(4):
            writer.write(await reader.readexactly(1))

    await lab.replica(lab.deploy("echo"), echo, tcp=True)
    client = await lab.client()
    client.send(b"POST /function/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n")
    await client.reader.readuntil(b"\r\n\r\n")
    for byte in (b"a", b"b", b"c", b"d"):
        client.send(byte)
        assert await client.reader.readexactly(1) == byte
