"""Connections that stand still, on a socket pair and with short limits."""

from __future__ import annotations

import _socket
import asyncio
import errno
import os
import select
import socket
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
from pinnace_runtime import loop_connection, thread_connection, thread_server
from pinnace_runtime.asgi import Message, Receive, Send
from pinnace_runtime.loop_connection import LoopConnection
from pinnace_runtime.loop_server import LoopServer
from pinnace_runtime.reply import http_reply
from pinnace_runtime.settings import Settings
from pinnace_runtime.thread_server import ThreadServer

from tests.runtime_templates.replica import StartReplica, read_all, wait_until


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (thread_connection, loop_connection):
        monkeypatch.setattr(module, "HEAD_WITHIN_S", 0.1)
        monkeypatch.setattr(module, "REFUSED_BODY_WITHIN_S", 0.1)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    client, server = socket.socketpair()
    client.settimeout(10)
    yield client, server
    client.close()
    server.close()


HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: h\r\nX-Sl"


def test_half_a_head_is_waited_for_only_so_long_by_a_thread(pair: tuple[socket.socket, socket.socket]) -> None:
    client, sock = pair
    listener = _socket.socket()
    server = ThreadServer(listener, lambda request, body: http_reply("x"), Settings())
    server.deadlines.start()
    connection = server.take_in(_socket.socket(fileno=sock.detach()))
    client.sendall(HALF_A_HEAD)
    assert connection.take()
    assert read_all(client).startswith(b"HTTP/1.1 408 ")
    assert connection.take()
    assert connection.phase is thread_connection.CLOSED
    listener.close()


def test_a_refused_client_that_stays_is_let_go(pair: tuple[socket.socket, socket.socket]) -> None:
    client, sock = pair
    listener = _socket.socket()
    server = ThreadServer(listener, lambda request, body: http_reply("x"), Settings())
    server.deadlines.start()
    connection = server.take_in(_socket.socket(fileno=sock.detach()))
    client.sendall(b"NONSENSE\r\n\r\n")
    assert connection.take()
    assert read_all(client).startswith(b"HTTP/1.1 400 ")
    wait_until(lambda: connection.take() and connection.phase is thread_connection.CLOSED, "its end")
    listener.close()


def test_a_connection_that_is_closed_twice_leaves_who_has_its_number_alone(pair: tuple[socket.socket, socket.socket]) -> None:
    _, sock = pair
    peer, other = socket.socketpair()
    listener = _socket.socket()
    server = ThreadServer(listener, lambda request, body: http_reply("x"), Settings())
    first = server.take_in(_socket.socket(fileno=sock.detach()))
    first.close()
    second = server.take_in(_socket.socket(fileno=os.dup2(other.fileno(), first.fd)))
    other.close()
    first.close()
    peer.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert server._poll.poll(5) == [(second.fd, select.EPOLLIN)]
    second.close()
    peer.close()
    listener.close()


def test_a_call_that_fails_before_it_begins_leaves_its_place_to_the_next(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, sock = pair
    listener = _socket.socket()
    server = ThreadServer(listener, lambda request, body: http_reply("x"), Settings(max_inflight=1))
    monkeypatch.setattr(thread_connection.Connection, "_begin_call", Mock(side_effect=MemoryError))
    connection = server.take_in(_socket.socket(fileno=sock.detach()))
    client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    with pytest.raises(MemoryError):
        connection.take()
    connection.close()
    assert server.take_slot()
    listener.close()


def test_a_client_for_whom_there_is_no_memory_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = _socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.settimeout(0)
    server = ThreadServer(listener, lambda request, body: http_reply("x"), Settings())
    failures = [MemoryError(), OSError(errno.ENOSPC, "more than max_user_watches")]

    def failing(server: ThreadServer, sock: _socket.socket) -> thread_connection.Connection:
        if failures:
            raise failures.pop()
        return thread_connection.Connection(server, sock)

    monkeypatch.setattr(thread_server, "Connection", failing)
    server.deadlines.start()
    server._accept_more()
    server.leadership.start(4)
    answers = []
    for _ in range(3):
        with socket.create_connection(listener.getsockname(), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            answers.append(read_all(client)[-1:])
    assert answers == [b"", b"", b"x"]
    listener.close()


async def test_half_a_head_is_waited_for_only_so_long_by_the_loop(pair: tuple[socket.socket, socket.socket]) -> None:
    async def never(scope: Message, receive: Receive, send: Send) -> None:
        raise AssertionError("no call came")

    client, sock = pair
    sock.setblocking(False)
    with socket.socket() as listener:
        server = LoopServer(never, listener, Settings())
        server.draining = True  # it only serves the one connection
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: LoopConnection(server, sock), sock)
        client.sendall(HALF_A_HEAD)
        assert (await asyncio.to_thread(read_all, client)).startswith(b"HTTP/1.1 408 ")
        await asyncio.to_thread(wait_until, lambda: not server.connections, "its end")


def test_where_memory_leaves_room_for_few_idle_connections_give_way(start_replica: StartReplica) -> None:
    handler = """
import resource
resource.setrlimit(resource.RLIMIT_DATA, (64 << 20, 64 << 20))
def handle(event, context):
    return "x"
"""
    replica = start_replica(handler)
    for _ in range(50):
        client = replica.connect()
        client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.recv(1000).endswith(b"x")
