from __future__ import annotations

import pytest
from pinnace_runtime.event import Event, Headers, Query, decoded_path
from pinnace_runtime.http1 import parse_head


def test_an_event_has_what_openfaas_gives() -> None:
    event = Event(parse_head(b"PUT /a%20b/%C3%A9?x=1&x=2&e= HTTP/1.1\r\nHost: h\r\ncontent-type: text/plain"), b"body")
    assert (event.body, event.method, event.path) == (b"body", "PUT", "/a b/é")
    assert event.headers["Content-Type"] == "text/plain"
    assert event.query["x"] == "1"
    assert event.query is event.query


def test_another_attribute_says_which_there_are() -> None:
    with pytest.raises(AttributeError, match="body, headers, method, query and path"):
        _ = Event(parse_head(b"GET / HTTP/1.0"), b"").params


def test_headers_are_a_mapping_without_case() -> None:
    headers = Headers([(b"x-call-id", b"1"), (b"accept", b"a"), (b"accept", b"b"), (b"cookie", b"c"), (b"cookie", b"d")])
    assert headers.get("X-CALL-ID") == "1" and "x-Call-Id" in headers and headers.get("nothing") is None
    assert dict(headers) == {"X-Call-Id": "1", "Accept": "a, b", "Cookie": "c; d"}
    assert headers.getlist("Accept") == ["a", "b"]
    assert len(headers) == 3
    with pytest.raises(KeyError):
        _ = headers["nothing"]


def test_a_query_is_a_mapping_of_first_values() -> None:
    query = Query(b"n=5&a=1&a=2&empty=&s=a+b%26&bad=x")
    assert query["a"] == "1" and query.getlist("a") == ["1", "2"] and query["empty"] == "" and query["s"] == "a b&"
    assert query.get("n", type=int) == 5 and query.get("bad", 7, type=int) == 7 and query.get("none", "d") == "d"
    assert query.to_dict(flat=False)["a"] == ["1", "2"]
    assert dict(query) == query.to_dict() == {"n": "5", "a": "1", "empty": "", "s": "a b&", "bad": "x"}
    assert len(Query(b"")) == 0


@pytest.mark.parametrize(("path", "decoded"), [(b"/", "/"), (b"/a%2Fb", "/a/b"), (b"/%FF", "/\ufffd"), (b"/%zz", "/%zz")])
def test_paths_are_decoded(path: bytes, decoded: str) -> None:
    assert decoded_path(path) == decoded
