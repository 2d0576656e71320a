from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinnace_runtime.http1 import (
    CHUNK_LINE_LIMIT_BYTES,
    BadRequest,
    ChunkedBody,
    SizedBody,
    date,
    parse_head,
    plain_response,
    response_head,
    valid_header,
)


def test_a_head_is_read_into_its_parts() -> None:
    request = parse_head(b"POST /a%20b?x=1&y HTTP/1.1\r\nHost: h\r\nX-Call-Id:  id-1 \r\nContent-Length: 5\r\nX-Timeout: 2s")
    assert (request.method, request.path, request.query) == ("POST", b"/a%20b", b"x=1&y")
    assert request.headers == [(b"host", b"h"), (b"x-call-id", b"id-1"), (b"content-length", b"5"), (b"x-timeout", b"2s")]
    assert (request.content_length, request.call_id, request.timeout) == (5, "id-1", "2s")
    assert request.keep_alive and not request.http_1_0 and not request.expects_continue


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b"GET / HTTP/1.1", b"/"),
        (b"OPTIONS * HTTP/1.1", b"*"),
        (b"GET http://h/x?q HTTP/1.1", b"/x"),
        (b"GET HTTP://h HTTP/1.1", b"/"),
        (b"GET //x HTTP/1.1", b"//x"),
        (b"M-SEARCH /\xc3\xa9 HTTP/1.1", b"/\xc3\xa9"),
    ],
)
def test_request_targets(line: bytes, path: bytes) -> None:
    assert parse_head(line + b"\r\nHost: h").path == path


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (b"Connection: close", {"keep_alive": False}),
        (b"Connection: Keep-Alive, Close", {"keep_alive": False}),
        (b"Transfer-Encoding: Chunked", {"content_length": None}),
        (b"Expect: 100-Continue", {"expects_continue": True}),
        (b"Upgrade: websocket", {"upgrade": b"websocket"}),
    ],
)
def test_headers_that_steer(headers: bytes, expected: dict[str, object]) -> None:
    request = parse_head(b"POST / HTTP/1.1\r\nHost: h\r\n" + headers)
    assert {name: getattr(request, name) for name in expected} == expected


@pytest.mark.parametrize("value", [b"a b", b"x" * 129, b"a/b", b"\xff"])
def test_a_call_id_that_is_none_is_left_out(value: bytes) -> None:
    assert parse_head(b"GET / HTTP/1.1\r\nHost: h\r\nX-Call-Id: " + value).call_id == ""


def test_http_1_0_needs_no_host_and_ends_the_connection() -> None:
    assert not parse_head(b"GET / HTTP/1.0\r\nConnection: keep-alive").keep_alive


BAD = [
    ("no version", b"GET /", 400),
    ("version 0.9", b"GET / HTTP/0.9\r\nHost: h", 505),
    ("version 2", b"PRI * HTTP/2.0", 505),
    ("version 1.2", b"GET / HTTP/1.2\r\nHost: h", 400),
    ("other protocol", b"GET / RTSP/1.0\r\nHost: h", 400),
    ("two spaces", b"GET  / HTTP/1.1\r\nHost: h", 400),
    ("space in target", b"GET /a b HTTP/1.1\r\nHost: h", 400),
    ("control in target", b"GET /a\tb HTTP/1.1\r\nHost: h", 400),
    ("fragment", b"GET /a#b HTTP/1.1\r\nHost: h", 400),
    ("no slash", b"GET a HTTP/1.1\r\nHost: h", 400),
    ("CONNECT", b"CONNECT h:1 HTTP/1.1\r\nHost: h", 400),
    ("bad method", b"G(T / HTTP/1.1\r\nHost: h", 400),
    ("no host", b"GET / HTTP/1.1", 400),
    ("two hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a", 400),
    ("no colon", b"GET / HTTP/1.1\r\nHost: h\r\nX", 400),
    ("space before colon", b"GET / HTTP/1.1\r\nHost: h\r\nX : y", 400),
    ("empty name", b"GET / HTTP/1.1\r\nHost: h\r\n: y", 400),
    ("folded line", b"GET / HTTP/1.1\r\nHost: h\r\nX: y\r\n z", 400),
    ("bare LF", b"GET / HTTP/1.1\r\nHost: h\nX: y", 400),
    ("bare CR", b"GET / HTTP/1.1\r\nHost: h\r\nX: a\rb", 400),
    ("NUL", b"GET / HTTP/1.1\r\nHost: h\r\nX: a\0b", 400),
    ("length with sign", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +5", 400),
    ("length empty", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length:", 400),
    ("length a list", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 5", 400),
    ("length huge", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999999999999999", 400),
    ("two lengths", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6", 400),
    ("length and chunked", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", 400),
    ("chunked twice", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
    ("gzip, chunked", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked", 501),
    ("xchunked", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \x0bchunked", 400),
    ("chunked in 1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked", 400),
    ("other expectation", b"POST / HTTP/1.1\r\nHost: h\r\nExpect: tea", 417),
]


@pytest.mark.parametrize(("head", "status"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_what_is_malformed_is_refused(head: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_head(head)
    assert refused.value.status == status


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_bad_request(head: bytes) -> None:
    try:
        request = parse_head(head)
    except BadRequest as error:
        assert error.status in (400, 417, 501, 505)
    else:
        assert request.path.startswith((b"/", b"*"))


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.data())
def test_a_chunked_body_is_the_same_however_it_arrives(chunks: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(b"%X;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nT: x\r\n\r\nnext"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    body, decoder = b"", ChunkedBody()
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        body += decoder.feed(wire[start:end])
    assert decoder.done
    assert (body, decoder.rest) == (b"".join(chunks), b"next")


@pytest.mark.parametrize(
    "wire",
    [
        b"x\r\n",
        b"\r\n",
        b"-1\r\n",
        b"0x5\r\n",
        b"5 5\r\nhello\r\n",
        b"5\r\nhelloXX",
        b"5\nhello\n",
        b"1000000000000000\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"a;" + b"x" * CHUNK_LINE_LIMIT_BYTES + b"\r\n",
        b"f" * (CHUNK_LINE_LIMIT_BYTES + 1),
        b"0\r\n" + b"A: " + b"x" * 4000 + b"\r\nB: " + b"x" * 4000 + b"\r\nC: " + b"x" * 4000 + b"\r\n",
    ],
)
def test_malformed_chunks_are_refused(wire: bytes) -> None:
    with pytest.raises(BadRequest):
        ChunkedBody().feed(wire + b"\r\n")


@given(st.binary(max_size=50), st.integers(0, 50))
def test_a_sized_body_leaves_the_rest(data: bytes, length: int) -> None:
    decoder = SizedBody(length)
    body = b"".join(decoder.feed(data[i : i + 1]) for i in range(len(data)))
    assert body == data[:length]
    assert decoder.rest == data[length:]
    assert decoder.done == (len(data) >= length)


def test_a_response_head() -> None:
    assert response_head(404, [(b"A", b"b")]) == b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\n"
    assert response_head(299, []) == b"HTTP/1.1 299 \r\n\r\n"


def test_a_plain_response_to_head_has_no_body() -> None:
    response = plain_response(200, "OK\n", close=True, head=True)
    assert b"Content-Length: 3\r\nConnection: close\r\n\r\n" in response
    assert response.endswith(b"\r\n\r\n")


def test_the_date_is_in_the_form_of_rfc_9110() -> None:
    assert re.fullmatch(rb"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", date())


@pytest.mark.parametrize(
    ("name", "value"), [(b"A", b"x\r\nB: y"), (b"A", b"x\n"), (b"A\r\n", b"x"), (b"", b"x"), (b"A b", b"x")]
)
def test_headers_that_would_split_a_response_are_not_valid(name: bytes, value: bytes) -> None:
    assert not valid_header(name, value)
    assert valid_header(b"X-Name", b"a value\t\xe9")


TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("traceparent", "mark"),
    [
        (b"00-%b-%b-01" % (TRACE, SPAN), f"c1 {TRACE.decode()}"),
        (b"cc-%b-%b-03-more" % (TRACE, SPAN), f"c1 {TRACE.decode()}"),
        (b"00-%b-%b-00" % (TRACE, SPAN), "c1"),
        (b"00-%b-%b-" % (TRACE, SPAN), "c1"),
        (b"00-%b-%b-011" % (TRACE, SPAN), "c1"),
        (b"00-%b-%b-01" % (TRACE.upper(), SPAN), "c1"),
        (b"00-%b-%b-01" % (TRACE[:-1], SPAN), "c1"),
        (b"", "c1"),
        (b"-", "c1"),
    ],
)
def test_lines_of_a_call_that_is_recorded_carry_its_trace(traceparent: bytes, mark: str) -> None:
    head = b"GET / HTTP/1.1\r\nHost: h\r\ntraceparent: %b\r\n" % traceparent
    request = parse_head(head + b"X-Call-Id: c1")
    assert (request.call_id, request.mark) == ("c1", mark)
    assert (b"traceparent", traceparent) in request.headers
    assert parse_head(head + b"X-Other: 1").mark == ""  # who belongs to no call belongs to no trace
