from __future__ import annotations

import io
from types import MappingProxyType
from typing import Any

import pytest
from pinnace_runtime.reply import HTML, JSON, PLAIN, InvalidReply, http_reply, piece_bytes, text_reply


class FlaskResponse:
    """What is used of a Flask response: werkzeug's attributes of these names."""

    status_code = 418
    headers = MappingProxyType({"X-A": "1", "Content-Type": "text/x"})

    def iter_encoded(self) -> Any:
        return iter([b"tea"])


RETURNED: list[tuple[str, object, int, bytes, bytes]] = [
    ("text", "héllo", 200, HTML, "héllo".encode()),
    ("bytes", b"\xff", 200, HTML, b"\xff"),
    ("None", None, 200, HTML, b""),
    ("the whole dict", {"statusCode": 201, "body": "b", "headers": {}}, 201, HTML, b"b"),
    ("status alone", {"statusCode": 404}, 404, HTML, b""),
    ("body alone", {"body": "b"}, 200, HTML, b"b"),
    ("a dict as body", {"statusCode": 200, "body": {"a": 1}}, 200, JSON, b'{"a": 1}'),
    ("a list as body", {"body": [1]}, 200, JSON, b"[1]"),
    ("bytes as body", {"body": b"\xff"}, 200, HTML, b"\xff"),
    ("a number as body", {"body": 5}, 200, HTML, b"5"),
    ("status with other keys", {"statusCode": 202, "isBase64Encoded": False, "body": "b"}, 202, HTML, b"b"),
    ("a status as text", {"statusCode": "404 NOT FOUND", "body": "b"}, 404, HTML, b"b"),
    ("another dict", {"title": "t", "body": "b"}, 200, JSON, b'{"title": "t", "body": "b"}'),
    ("an empty dict", {}, 200, JSON, b"{}"),
    ("a list", ["a", 1], 200, JSON, b'["a", 1]'),
    ("body and status", ("b", 202), 202, HTML, b"b"),
    ("body and status text", ("b", "202 ACCEPTED"), 202, HTML, b"b"),
    ("dict and status", ({"a": 1}, 400), 400, JSON, b'{"a": 1}'),
    ("body, status, headers", ("b", 202, {"X": "y"}), 202, HTML, b"b"),
    ("bytearray", bytearray(b"b"), 200, HTML, b"b"),
]


@pytest.mark.parametrize(
    ("value", "status", "content_type", "body"), [case[1:] for case in RETURNED], ids=[c[0] for c in RETURNED]
)
def test_what_a_handler_may_return(value: object, status: int, content_type: bytes, body: bytes) -> None:
    reply = http_reply(value)
    assert (reply.status, reply.content_type, reply.body) == (status, content_type, body)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-A": "1", "X-B": 2}, [(b"X-A", b"1"), (b"X-B", b"2")]),
        ([("Set-Cookie", "a"), ("Set-Cookie", "b")], [(b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")]),
        ({"Set-Cookie": ["a", "b"]}, [(b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")]),
        ({"Connection": "close", "Transfer-Encoding": "chunked", "X": "y"}, [(b"X", b"y")]),
        (None, []),
    ],
)
def test_headers_of_a_reply(headers: object, expected: object) -> None:
    assert http_reply(("b", 200, headers)).headers == expected
    assert http_reply({"body": "b", "headers": headers}).headers == expected


def test_body_and_headers_without_a_status() -> None:
    assert http_reply(("b", {"X": "y"})).headers == [(b"X", b"y")]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({1, 2}, "set"),
        (object(), "object"),
        (("a", 200, {}, 4), "tuple of 4"),
        ({"statusCode": 99}, "status 99"),
        ({"statusCode": "ok"}, "status 'ok'"),
        ({"statusCode": True}, "status True"),
        ({"statusCode": None}, "status None"),
        (("b", 200, "X: y"), "headers as str"),
        (("b", 200, ["X"]), "among its headers"),
        (("b", 200, {"X": "a\r\nY: b"}), "may not go on the wire"),
        (("b", 200, {"X\n": "a"}), "may not go on the wire"),
        (("b", 200, {"X": "\u20ac"}), "Latin-1"),
        (("b", 200, {"Content-Length": "many"}), "Content-Length"),
        ({"when": {1}}, "not JSON"),
    ],
)
def test_what_it_may_not_return_is_named(value: object, reason: str) -> None:
    with pytest.raises(InvalidReply, match=reason) as invalid:
        http_reply(value)
    assert "\n" not in str(invalid.value)


@pytest.mark.parametrize("value", [iter(["a", b"b"]), (piece for piece in ["a", b"b"]), {"body": iter(["a", b"b"])}, range(2)])
def test_iterators_stream(value: object) -> None:
    reply = http_reply(value)
    assert reply.body is None
    assert len(list(reply.stream)) == 2


def test_a_file_streams_and_is_closed() -> None:
    file = io.BytesIO(b"x" * 100_000)
    pieces = list(http_reply(file).stream)
    assert b"".join(pieces) == b"x" * 100_000 and len(pieces) == 2
    assert file.closed


def test_a_flask_response_is_taken_as_it_is() -> None:
    reply = http_reply(FlaskResponse())
    assert (reply.status, b"".join(reply.stream)) == (418, b"tea")
    assert b"Content-Type: text/x\r\n" in reply.head() and b"text/html" not in reply.head()


def test_pieces_are_text_or_bytes() -> None:
    assert [piece_bytes(piece) for piece in ("é", b"b", bytearray(b"c"), memoryview(b"d"))] == ["é".encode(), b"b", b"c", b"d"]
    with pytest.raises(InvalidReply, match="yielded int 5"):
        piece_bytes(5)


@pytest.mark.parametrize(
    ("value", "keywords", "there", "not_there"),
    [
        ("hi", {}, b"Content-Length: 2\r\n", b"Connection"),
        ("hi", {"keep_alive": False}, b"Connection: close\r\n", b"Transfer-Encoding"),
        (("", 204), {}, b"204 No Content\r\n", b"Content-"),
        (("hi", 304, {"ETag": "x"}), {}, b"ETag: x\r\n", b"Content-"),
        (("", 200, {"Content-Length": "9"}), {"for_head": True}, b"Content-Length: 9\r\n", b"Content-Length: 0"),
        (("hi", 200, {"Content-Length": "9"}), {}, b"Content-Length: 2\r\n", b"Content-Length: 9"),
        (("hi", 200, {"content-type": "a/b"}), {}, b"content-type: a/b\r\n", b"text/html"),
        (iter("ab"), {"chunked": True}, b"Transfer-Encoding: chunked\r\n", b"Content-Length"),
        ((iter("ab"), 200, {"Content-Length": "2"}), {}, b"Content-Length: 2\r\n", b"Transfer-Encoding"),
    ],
)
def test_heads(value: object, keywords: dict[str, Any], there: bytes, not_there: bytes) -> None:
    head = http_reply(value).head(**keywords)
    assert there in head
    assert not_there not in head


@pytest.mark.parametrize(
    ("value", "body"), [("é", "é".encode()), (b"b", b"b"), (None, b""), (5, b"5"), ({"a": 1}, b"{'a': 1}")]
)
def test_the_classic_handler_returns_text(value: object, body: bytes) -> None:
    reply = text_reply(value, PLAIN)
    assert (reply.status, reply.content_type, reply.body) == (200, PLAIN, body)
