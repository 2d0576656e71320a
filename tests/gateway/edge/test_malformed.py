"""Requests that are malformed, ambiguous or not served here, each with its answer; none of their bytes reaches a function."""

from __future__ import annotations

import pytest

from gateway.edge import context as context_module
from tests.gateway.edge.conftest import MakeLab
from tests.gateway.edge.lab import Lab, field
from tests.gateway.edge.rig import Outcome, Rig

ONE = b"GET /function/echo HTTP/1.1\r\nHost: h\r\n"
POST = b"POST /function/echo HTTP/1.1\r\nHost: h\r\n"

REFUSED = {
    "no host": (b"GET /function/echo HTTP/1.1\r\n\r\n", 400),
    "two hosts": (ONE + b"Host: i\r\n\r\n", 400),
    "same host twice": (ONE + b"Host: h\r\n\r\n", 400),
    "host with a space": (b"GET /function/echo HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "host with a path": (b"GET /function/echo HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "host with user info": (b"GET /function/echo HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    "host list": (b"GET /function/echo HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    "host port not a number": (b"GET /function/echo HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
    "absolute form without host": (b"GET http://h/function/echo HTTP/1.1\r\n\r\n", 400),
    "absolute form with user info": (b"GET http://u@h/function/echo HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "absolute form of another scheme": (b"GET ftp://h/function/echo HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "asterisk form": (b"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "no slash": (b"GET function/echo HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "space in target": (b"GET /function/echo x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "control character in target": (b"GET /function/echo\x01 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "bare LF after request line": (b"GET /function/echo HTTP/1.1\nHost: h\r\n\r\n", 400),
    "bare LF after header": (b"GET /function/echo HTTP/1.1\r\nHost: h\n\r\n", 400),
    "bare LF at the end of the head": (b"GET /function/echo HTTP/1.1\r\nHost: h\r\n\n", 400),
    "bare CR in value": (ONE + b"X: a\rb\r\n\r\n", 400),
    "NUL in value": (ONE + b"X: a\x00b\r\n\r\n", 400),
    "obs-fold": (ONE + b"X: a\r\n b\r\n\r\n", 400),
    "obs-fold with tab": (ONE + b"X: a\r\n\tb\r\n\r\n", 400),
    "space before colon": (ONE + b"X : a\r\n\r\n", 400),
    "space before the first header": (b"GET /function/echo HTTP/1.1\r\n Host: h\r\n\r\n", 400),
    "header without colon": (ONE + b"nonsense\r\n\r\n", 400),
    "empty header name": (ONE + b": a\r\n\r\n", 400),
    "header name not a token": (ONE + b"a(b): c\r\n\r\n", 400),
    "two lengths that differ": (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    "two lengths that agree": (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
    "length list": (POST + b"Content-Length: 1, 1\r\n\r\na", 400),
    "negative length": (POST + b"Content-Length: -1\r\n\r\n", 400),
    "signed length": (POST + b"Content-Length: +1\r\n\r\na", 400),
    "hexadecimal length": (POST + b"Content-Length: 0x1\r\n\r\na", 400),
    "empty length": (POST + b"Content-Length:\r\n\r\n", 400),
    "length beyond 64 bits": (POST + b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
    "length and chunked": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked and length": (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    "chunked in HTTP/1.0": (b"POST /function/echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "gzip, chunked": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "chunked, chunked": (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked twice": (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "identity": (POST + b"Transfer-Encoding: identity\r\n\r\n", 400),
    "chunked hidden by a tab": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "xchunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "chunk size not hexadecimal": (POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", 400),
    "negative chunk size": (POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
    "chunk size with 0x": (POST + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n", 400),
    "chunk size beyond 64 bits": (POST + b"Transfer-Encoding: chunked\r\n\r\n11111111111111111\r\n", 400),
    "chunk size followed by bare LF": (POST + b"Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n", 400),
    "chunk longer than its size": (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", 400),
    "space after chunk size": (POST + b"Transfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n", 400),
    "HTTP/2.0": (b"GET /function/echo HTTP/2.0\r\nHost: h\r\n\r\n", 505),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/1.2": (b"GET /function/echo HTTP/1.2\r\nHost: h\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /function/echo\r\n\r\n", 505),
    "lower-case version": (b"GET /function/echo http/1.1\r\nHost: h\r\n\r\n", 400),
    "CONNECT": (b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 405),
    "TRACE": (b"TRACE /function/echo HTTP/1.1\r\nHost: h\r\n\r\n", 405),
    "PROPFIND": (b"PROPFIND /function/echo HTTP/1.1\r\nHost: h\r\n\r\n", 405),
    "unknown method": (b"FROB /function/echo HTTP/1.1\r\nHost: h\r\n\r\n", 405),
    "lower-case method": (b"get /function/echo HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "unknown expectation": (ONE + b"Expect: miracles\r\n\r\n", 417),
    "too many fields": (ONE + b"A: b\r\n" * 201 + b"\r\n", 431),
    "one long field": (ONE + b"A: " + b"b" * 70_000 + b"\r\n\r\n", 431),
    "head without an end": (ONE + b"A: " + b"b" * 300_000, 431),
    "long target": (b"GET /function/" + b"b" * 70_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
    "target without an end": (b"GET /" + b"b" * 300_000, 414),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_refused(lab: Lab, name: str) -> None:
    request, expected = REFUSED[name]
    origin = await lab.replica(lab.deploy("echo"))
    client = await lab.client()
    client.send(request)
    status, head, body = await client.response()
    assert (status, field(head, b"x-openfaas-internal"), field(head, b"connection")) == (expected, b"gateway", b"close")
    assert body.count(b"\n") == 1
    assert (b"Allow: GET" in head) == (expected == 405)
    assert await client.rest() == b""
    assert origin.bodies == []
    assert lab.control.heads == []


SERVED = {
    "absolute form": (
        b"GET http://other:81/function/echo/a?b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /a?b HTTP/1.1",
        b"other:81",
        b"",
    ),
    "absolute form without path": (b"GET http://h HTTP/1.1\r\nHost: h\r\n\r\n", None, b"h", b""),
    "HTTP/1.0 without host": (b"GET /function/echo HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1", b"", b""),
    "lower-case header names": (b"GET /function/echo HTTP/1.1\r\nhost: h\r\n\r\n", b"GET / HTTP/1.1", b"h", b""),
    "IPv6 host": (b"GET /function/echo HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", b"GET / HTTP/1.1", b"[::1]:80", b""),
    "CRLF before the request": (b"\r\n" + ONE + b"\r\n", b"GET / HTTP/1.1", b"h", b""),
    "query without path": (b"GET /function/echo?x=/y HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /?x=/y HTTP/1.1", b"h", b""),
    "namespace": (b"GET /function/echo.openfaas-fn HTTP/1.1\r\nHost: h\r\n\r\n", b"GET / HTTP/1.1", b"h", b""),
    "dots and escapes": (
        b"GET /function/echo/../%2e%2e//x HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /../%2e%2e//x HTTP/1.1",
        b"h",
        b"",
    ),
    "leading zeros": (POST + b"Content-Length: 002\r\n\r\nab", b"POST / HTTP/1.1", b"h", b"ab"),
    "chunk extension": (POST + b"Transfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\n\r\n", b"POST / HTTP/1.1", b"h", b"a"),
    "Chunked": (POST + b"Transfer-Encoding: Chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", b"POST / HTTP/1.1", b"h", b"ab"),
    "h2c with a body": (
        POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1",
        b"h",
        b"ab",
    ),
    "h2c with a chunked body": (
        POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        b"POST / HTTP/1.1",
        b"h",
        b"ab",
    ),
    "h2c without a body": (ONE + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", b"GET / HTTP/1.1", b"h", b""),
}


@pytest.mark.parametrize("name", SERVED)
async def test_what_is_unusual_and_right(lab: Lab, name: str) -> None:
    request, line, host, body = SERVED[name]
    function = await lab.replica(lab.deploy("echo"))
    origin = lab.control if line is None else function
    client = await lab.client()
    client.send(request)
    status, _, _ = await client.response()
    assert status == 200
    assert origin.heads[0].split(b"\r\n")[0] == (line or b"GET / HTTP/1.1")
    assert field(origin.heads[0], b"host") == host
    assert field(origin.heads[0], b"upgrade") is None
    assert origin.bodies == [body]


def outcome(reads: list[bytes]) -> Outcome:
    rig = Rig()
    answers = iter([[b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]] * 2)
    for data in reads:
        rig.read(data, answers)
    return rig.outcome()


@pytest.mark.parametrize("name", [name for name, (request, *_) in (REFUSED | SERVED).items() if len(request) < 2000])
def test_the_verdict_is_the_same_wherever_the_bytes_are_cut(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_module, "time_ns", lambda: 7)
    request = (REFUSED | SERVED)[name][0]
    whole = outcome([request])
    cuts = [[request[:cut], request[cut:]] for cut in range(1, len(request))]
    for reads in [*cuts, [bytes((byte,)) for byte in request]]:
        seen = outcome(reads)
        assert (seen.answered, seen.codes) == (whole.answered, whole.codes), reads
        if name in REFUSED and seen.sent:  # its head was good, and went before the body came
            assert b"\r\nTransfer-Encoding: chunked\r\n" in seen.sent[0], reads
            assert not seen.sent[0].endswith(b"0\r\n\r\n"), reads


async def test_bytes_after_a_refused_request_are_no_request(lab: Lab) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    client = await lab.client()
    client.send(POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + ONE + b"\r\n")
    assert (await client.rest()).count(b"HTTP/1.1") == 1
    assert origin.heads == []


async def test_a_malformed_request_behind_a_good_one_is_answered_in_its_turn(lab: Lab) -> None:
    await lab.replica(lab.deploy("echo"))
    client = await lab.client()
    client.send(ONE + b"\r\n" + b"nonsense\r\n\r\n")
    assert (await client.response())[0] == 200
    assert (await client.response())[0] == 400
    assert await client.rest() == b""


async def test_a_broken_body_breaks_only_its_own_call(lab: Lab) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    client = await lab.client()
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
    other = await lab.client()
    assert (await other.get())[0] == 200
    client.send(b"zz\r\n")
    assert (await client.response())[0] == 400
    assert origin.bodies == [b""]


async def test_a_body_over_the_limit_is_refused_also_when_its_length_is_not_told(make_lab: MakeLab) -> None:
    lab = await make_lab(max_body_bytes=10)
    await lab.replica(lab.deploy("echo"))
    told, untold = await lab.client(), await lab.client()
    told.send(POST + b"Content-Length: 11\r\n\r\n")
    assert (await told.response())[0] == 413
    untold.send(POST + b"Transfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n")
    untold.send(b"6\r\nabcdef\r\n0\r\n\r\n")
    assert (await untold.response())[0] == 413
