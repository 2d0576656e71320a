"""WebSockets to an application in a running replica."""

from __future__ import annotations

import socket

import pytest

from tests.runtime_templates.replica import Replica, StartReplica, read_all
from tests.runtime_templates.test_websocket_frames import from_client

ECHO = """
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect

async def echo(websocket):
    await websocket.accept(subprotocol=(websocket.scope["subprotocols"] or [None])[-1])
    try:
        while True:
            text = await websocket.receive_text()
            if text == "end":
                await websocket.close(4000, "as asked")
                return
            if text == "fail":
                1 / 0
            await websocket.send_text(text.upper())
            await websocket.send_bytes(text.encode())
    except WebSocketDisconnect as left:
        print("left with", left.code)

async def refuse(websocket):
    await websocket.close()

app = Starlette(routes=[WebSocketRoute("/", echo), WebSocketRoute("/refuse", refuse)])
"""
HANDSHAKE = (
    b"GET %b HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Call-Id: c\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: a, b\r\n\r\n"
)


@pytest.fixture
def replica(start_replica: StartReplica) -> Replica:
    return start_replica(ECHO, "python3-asgi", max_inflight="1")


def opened(replica: Replica) -> socket.socket:
    client = replica.connect()
    client.sendall(HANDSHAKE % b"/")
    head = client.recv(1000)
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n") and head.endswith(b"\r\n\r\n")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head and b"Sec-WebSocket-Protocol: b\r\n" in head
    return client


def receive(client: socket.socket, wanted: bytes) -> None:
    received = b""
    while len(received) < len(wanted):
        received += client.recv(len(wanted) - len(received))
    assert received == wanted


def test_messages_go_both_ways(replica: Replica) -> None:
    client = opened(replica)
    client.sendall(from_client(0x81, b"hi") + from_client(0x89, b"p"))
    receive(client, b"\x8a\x01p\x81\x02HI\x82\x02hi")
    large = b"x" * 1_000_000
    client.sendall(from_client(0x81, large))
    receive(client, b"\x81\x7f" + len(large).to_bytes(8, "big") + large.upper())
    assert replica.call("/").status == 429  # it takes a place for as long as it is open


def test_the_client_closes(replica: Replica) -> None:
    assert replica.send(from_client(0x88, b"\x03\xe8"), client=opened(replica)) == b"\x88\x02\x03\xe8"
    replica.wait_for_log("c|left with 1000")


def test_the_application_closes(replica: Replica) -> None:
    client = opened(replica)
    assert replica.send(from_client(0x81, b"end"), client=client) == b"\x88\x0a\x0f\xa0as asked"


def test_a_client_that_vanishes(replica: Replica) -> None:
    opened(replica).close()
    replica.wait_for_log("c|left with 1006")


def test_an_application_that_fails(replica: Replica) -> None:
    assert replica.send(from_client(0x81, b"fail"), client=opened(replica)) == b"\x88\x02\x03\xf3"
    replica.wait_for_log("c|ZeroDivisionError: division by zero")


def test_a_client_that_breaks_the_protocol(replica: Replica) -> None:
    assert replica.send(b"\x81\x01a", client=opened(replica)).startswith(b"\x88\x20\x03\xea")
    replica.wait_for_log("c|left with 1002")


def test_a_refused_handshake(replica: Replica) -> None:
    assert replica.send(HANDSHAKE % b"/refuse").startswith(b"HTTP/1.1 403 ")
    assert replica.send((HANDSHAKE % b"/").replace(b"13", b"8")).startswith(b"HTTP/1.1 426 ")
    assert replica.send((HANDSHAKE % b"/").replace(b"dGhl", b"")).startswith(b"HTTP/1.1 400 ")
    opened(replica)


def test_a_drain_closes_it(replica: Replica) -> None:
    client = opened(replica)
    replica.terminate()
    assert read_all(client).startswith(b"\x88\x1e\x03\xf4")
    client.close()
    assert replica.wait() == 0
    assert replica.log == ["c|left with 1012"]


def test_to_a_handler_an_upgrade_is_an_ordinary_call(start_replica: StartReplica) -> None:
    replica = start_replica("async def handle(event, context): return 'plain'")
    client = replica.connect()
    client.sendall(HANDSHAKE % b"/")
    assert client.recv(1000).endswith(b"\r\n\r\nplain")
