"""Where one request ends and the next begins, however the reads fall."""

from __future__ import annotations

import pytest

from gateway.edge.client import PARSED_AT_ONCE_BYTES
from tests.gateway.edge.rig import Rig

GET = b"GET /function/echo HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LIMIT = 1000


def post(size: int) -> tuple[bytes, bytes]:
    return b"POST /function/echo HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size, b"x" * size


def answers(reads: list[bytes]) -> bytes:
    """Return all that a client gets that sends these reads to an edge whose heads may have `LIMIT` bytes."""
    rig = Rig(max_header_bytes=LIMIT)
    supply = iter([[OK]] * 100)
    for data in reads:
        rig.read(data, supply)
    return rig.transport.written


def statuses(written: bytes) -> list[int]:
    return [int(part[:3]) for part in written.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("last", [1, LIMIT, LIMIT + 1, 100 * LIMIT])
def test_the_end_of_a_body_is_not_taken_for_a_head(last: int) -> None:
    head, body = post(200 * LIMIT)
    written = answers([head, body[:-last], body[-last:], GET] * 3)
    assert statuses(written) == [200] * 6
    assert b"<closed>" not in written


def test_ends_of_bodies_do_not_add_up_to_a_head() -> None:
    head, body = post(LIMIT)
    assert statuses(answers([head + body[:1], body[1:]] * 20)) == [200] * 20


def test_a_pipelined_head_counts_from_its_own_beginning() -> None:
    head, body = post(10 * LIMIT)
    assert statuses(answers([head, body + GET[:20], GET[20:]] * 3)) == [200] * 6


def test_a_pipelined_head_has_a_limit() -> None:
    written = answers([GET + b"GET /function/echo HTTP/1.1\r\nHost: h\r\nX: ", *[b"y" * 100] * 11])
    assert statuses(written) == [200, 431]
    assert written.endswith(b"<end>")


def test_a_head_that_comes_in_pieces_has_a_limit() -> None:
    assert statuses(answers([GET[:-2] + b"X: ", *[b"y" * 100] * 11])) == [431]


def test_empty_lines_between_requests_are_nothing() -> None:
    assert statuses(answers([GET, b"\r\n", GET, b"\r\n" + GET, GET + b"\r\n", GET])) == [200] * 5


def test_a_long_head_has_a_limit_within_one_read_too() -> None:
    long = GET[:-2] + b"X: " + b"y" * 3 * PARSED_AT_ONCE_BYTES
    rig = Rig(max_header_bytes=2 * PARSED_AT_ONCE_BYTES)
    rig.read(long, iter([]))
    assert statuses(rig.transport.written) == [431]
