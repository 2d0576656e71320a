"""A request that asks to switch protocols is one request, whatever the parser takes it for."""

from __future__ import annotations

import pytest

from tests.gateway.edge.lab import field, fields
from tests.gateway.edge.rig import Outcome, Rig

GET = b"GET /function/echo HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello"


def asking(protocol: bytes, framing: bytes = b"", body: bytes = b"") -> bytes:
    line = b"POST" if body else b"GET"
    return b"%b /function/echo HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: %b\r\n%b\r\n%b" % (
        line,
        protocol,
        framing,
        body,
    )


def outcome(reads: list[bytes], answers: list[list[bytes]]) -> Outcome:
    rig = Rig()
    supply = iter(answers)
    for data in reads:
        rig.read(data, supply)
    return rig.outcome()


LENGTH = (b"Content-Length: 5\r\n", b"GET /")
CHUNKED = (b"Transfer-Encoding: chunked\r\n", b"5\r\nGET /\r\n0\r\n\r\n")


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"websocket, h2c"])
@pytest.mark.parametrize(("framing", "body"), [LENGTH, CHUNKED])
def test_with_a_body_nothing_is_switched_and_the_body_is_no_request(protocol: bytes, framing: bytes, body: bytes) -> None:
    request = asking(protocol, framing, body)
    for cut in range(1, len(request)):
        seen = outcome([request[:cut], request[cut:] + GET], [[OK]] * 2)
        assert seen.codes == {200: 2}
        assert seen.sent[0].count(b" / HTTP/1.1\r\n") == 2
        assert fields(seen.sent[0], b"upgrade") == []


def test_h2c_is_not_spoken() -> None:
    seen = outcome([asking(b"h2c") + GET], [[OK]] * 2)
    assert seen.codes == {200: 2}
    assert fields(seen.sent[0], b"upgrade") == []


def test_what_comes_early_waits_for_the_answer_and_goes_into_the_tunnel() -> None:
    seen = outcome([asking(b"websocket") + GET], [[SWITCH]])
    assert field(seen.sent[0].partition(b"\r\n\r\n")[0], b"upgrade") == b"websocket"
    assert seen.sent[0].endswith(b"\r\n\r\n" + GET + b"<broken>")  # when the replica closes
    assert b"\r\n\r\nhello" in seen.answered


def test_what_comes_early_is_the_next_request_where_nothing_is_switched() -> None:
    assert outcome([asking(b"websocket") + GET, GET], [[OK]] * 3).codes == {200: 3}
