"""Requests of one connection that come all at once."""

from __future__ import annotations

import pytest

from gateway.edge.client import PARSED_AT_ONCE_BYTES
from tests.gateway.edge.rig import Rig

GET = b"GET /function/echo HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /function/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def statuses(written: bytes) -> list[int]:
    return [int(part[:3]) for part in written.split(b"HTTP/1.1 ")[1:]]


H2C = b"GET /function/echo HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
SOCKET = H2C.replace(b"h2c", b"websocket")
CHUNKED = b"POST /function/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"


@pytest.mark.parametrize("request_", [GET, H2C, SOCKET, CHUNKED, POST, GET.replace(b"echo", b"nope")])
def test_a_read_full_of_requests_is_parsed_piece_by_piece(request_: bytes) -> None:
    count = 5 * PARSED_AT_ONCE_BYTES // len(request_)
    rig = Rig()
    rig.client.data_received(request_ * count)
    assert len(rig.client._behind) <= PARSED_AT_ONCE_BYTES // len(request_) + 1
    assert len(statuses(rig.transport.written)) <= PARSED_AT_ONCE_BYTES // len(request_) + 1
    rig.read(b"", iter([[OK]] * count))
    assert statuses(rig.transport.written) == [404 if b"nope" in request_ else 200] * count


def test_what_was_not_parsed_comes_before_what_comes_next() -> None:
    count = 2 * PARSED_AT_ONCE_BYTES // len(GET)
    rig = Rig()
    rig.client.data_received(GET * count + GET[:10])
    rig.client.data_received(GET[10:] + GET.replace(b"echo", b"nope"))
    rig.read(b"", iter([[OK]] * (count + 1)))
    assert statuses(rig.transport.written) == [200] * (count + 1) + [404]
