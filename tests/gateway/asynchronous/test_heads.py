"""What is read without the parser is what the parser reads."""

from __future__ import annotations

from typing import Any, Final

import httptools
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.asynchronous.heads import Spellings, WholeRequest, WholeResponse, whole_request, whole_response

NAMES: Final = [
    "X-Own",
    "content-length",
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Upgrade",
    "Expect",
    "a b",
    "",
    "é",
]
VALUES: Final = [
    "",
    "0",
    "3",
    "03",
    "+3",
    "a",
    " a",
    "a ",
    "a: b",
    "a\tb",
    "chunked",
    "close",
    "keep-alive",
    "\xff",
    "\x7f",
    "1" * 20,
]
lines = st.lists(
    st.builds(
        "{}{}{}\r\n".format, st.sampled_from(NAMES), st.sampled_from([": "] * 6 + [":", ":  ", " : "]), st.sampled_from(VALUES)
    ),
    max_size=5,
).map("".join)
bodies = st.sampled_from([b"", b"", b"abc", b"abcd", b"GET / HTTP/1.1\r\n\r\n"])


class Parsed:
    """What httptools makes of bytes. `whole` when they are one message and nothing else, on a connection that persists."""

    def __init__(self, data: bytes, *, response: bool) -> None:
        self.headers: list[tuple[str, str]] = []
        self.url = self.body = b""
        self.ended = 0
        self.parser: Any = httptools.HttpResponseParser(self) if response else httptools.HttpRequestParser(self)
        self.faulty = self.keeps = False
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.faulty = True

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.ended += 1
        self.keeps = self.parser.should_keep_alive()

    @property
    def whole(self) -> bool:
        return not self.faulty and self.ended == 1 and self.keeps


@given(
    st.sampled_from(["GET", "POST", "HEAD", "BREW", "M-SEARCH", "CONNECT"]),
    st.sampled_from(["/async-function/a", "/a/b?c=d", "*", "http://a/b", "/\xff", "/a b", "/#a"]),
    st.sampled_from(["1.1", "1.1", "1.0"]),
    lines,
    bodies,
)
@example("POST", "/async-function/a", "1.1", "Host: h\r\nContent-Length: 3\r\n", b"abc")
@settings(max_examples=400)
def test_a_request_is_what_the_parser_reads(method: str, target: str, version: str, fields: str, body: bytes) -> None:
    data = f"{method} {target} HTTP/{version}\r\n{fields}\r\n".encode("latin-1") + body
    request = whole_request(data)
    if request is None:
        return
    parsed = Parsed(data, response=False)
    assert parsed.whole
    assert request == WholeRequest(
        parsed.parser.get_method().decode(), parsed.url.decode("latin-1"), tuple(parsed.headers), parsed.body
    )


@given(
    st.sampled_from(["200 OK", "202 Accepted", "204 No Content", "304 Not Modified", "404 ", "100 Continue", "500 \xe9"]),
    st.sampled_from(["1.1", "1.1", "1.0"]),
    lines,
    bodies,
)
@example("200 OK", "1.1", "Content-Length: 3\r\n", b"abc")
@settings(max_examples=400)
def test_a_response_is_what_the_parser_reads(status: str, version: str, fields: str, body: bytes) -> None:
    data = f"HTTP/{version} {status}\r\n{fields}\r\n".encode("latin-1") + body
    response = whole_response(data)
    if response is None:
        return
    parsed = Parsed(data, response=True)
    assert parsed.whole
    assert response == WholeResponse(parsed.parser.get_status_code(), tuple(parsed.headers), parsed.body)


def test_what_edges_send_needs_no_parser() -> None:
    head = b"POST /async-function/f HTTP/1.1\r\nHost: h\r\nX-Start-Time: 1\r\nContent-Length: 2\r\nX-Own: 1.2.3.4\r\n\r\n"
    assert whole_request(head + b"hi") is not None
    assert whole_request(head + b"h") is None
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\nX-Call-Id: a\r\nDate: now\r\n\r\n"
    assert whole_response(answer) is not None
    assert whole_response(answer + b"x") is None
    assert whole_response(answer.replace(b"Content-Length: 0\r\n", b"")) is None  # it goes on until the connection ends


def test_a_spelling_is_looked_at_once_and_memory_is_bounded() -> None:
    spellings = Spellings(("host",))
    assert [spellings[name] for name in ("Host", "HOST", "host", "Hosts")] == ["host", "host", "host", ""]
    for number in range(10_000):
        assert spellings[f"X-{number}"] == ""
    assert len(spellings) == 4096
