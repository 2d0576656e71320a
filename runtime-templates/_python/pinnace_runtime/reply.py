"""What a handler returned, as an HTTP response.

The rules are those of OpenFaaS's python3-http template, where Flask makes the response: a dict of `statusCode`, `body`
and `headers`, text, bytes, `(body, status)`, `(body, headers)`, `(body, status, headers)`, None, iterators. Text is
`text/html; charset=utf-8` as there. Beyond that, other dicts and lists are JSON, files are streamed, bytes in a dict
stay bytes, and a Flask or Werkzeug response is taken as it is.
"""

from __future__ import annotations

from _collections_abc import Iterable, Mapping

from pinnace_runtime.http1 import Headers, date, may_have_body, response_head, valid_header

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

HTML = b"text/html; charset=utf-8"
PLAIN = b"text/plain; charset=utf-8"
JSON = b"application/json"
BINARY = b"application/octet-stream"

FILE_PIECE_BYTES = 64 * 1024

_ENVELOPE = frozenset(("statusCode", "body", "headers"))

# What belongs to the connection is the runtime's to say.
CONNECTION_HEADERS = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)

ALLOWED = (
    "str, bytes, None, a dict {'statusCode', 'body', 'headers'}, another dict or a list (sent as JSON), "
    "(body, status), (body, status, headers), a generator, or a file"
)


class InvalidReply(Exception):
    """The handler returned what cannot be a response; the message says what, and what is allowed."""


class Reply:
    """A response. `body` is its bytes, or None when `stream` yields them (str or bytes, sync or async iterator).

    `content_type` is used unless `headers` have one. `length` is what the handler gave as Content-Length.
    """

    __slots__ = ("body", "content_type", "headers", "length", "status", "stream")

    def __init__(self, body: bytes | None, content_type: bytes, status: int = 200, *, stream: Any = None) -> None:
        self.body = body
        self.content_type = content_type
        self.status = status
        self.stream = stream
        self.headers: Headers = []
        self.length: int | None = None

    def head(self, *, for_head: bool = False, keep_alive: bool = True, chunked: bool = False) -> bytes:
        """Return the response's head. `for_head`: the request was HEAD; `chunked`: the stream goes out in chunks."""
        headers = [(b"Date", date())]
        if may_have_body(self.status):
            if self.content_type:
                headers.append((b"Content-Type", self.content_type))
            if chunked:
                headers.append((b"Transfer-Encoding", b"chunked"))
            elif self.body and not (for_head and self.length is not None):
                headers.append((b"Content-Length", b"%d" % len(self.body)))
            elif self.length is not None and (for_head or self.body is None):
                headers.append((b"Content-Length", b"%d" % self.length))
            elif self.body is not None:
                headers.append((b"Content-Length", b"0"))
        if not keep_alive:
            headers.append((b"Connection", b"close"))
        if self.headers:
            own = {name.lower() for name, _ in self.headers}
            headers = [header for header in headers if header[0].lower() not in own] + self.headers
        return response_head(self.status, headers)


def failure() -> Reply:
    """Return the answer to a call that failed: it says nothing of what went wrong, which is in the log."""
    return Reply(b"Internal Server Error\n", PLAIN, 500)


def piece_bytes(piece: object) -> bytes:
    """Return what an iterator yielded as bytes. Raises InvalidReply."""
    if isinstance(piece, str):
        return piece.encode()
    if isinstance(piece, bytes | bytearray | memoryview):
        return bytes(piece)
    raise InvalidReply(f"handle() yielded {_shown(piece)}; it may yield str or bytes")


def http_reply(value: object) -> Reply:
    """Return the response that python3-http's `handle` means by returning `value`. Raises InvalidReply."""
    if type(value) is str:
        return Reply(value.encode(), HTML)
    if isinstance(value, dict):
        if "statusCode" in value or (value and value.keys() <= _ENVELOPE):
            return _reply(value.get("body"), value.get("statusCode", 200), value.get("headers"))
        return _reply(value, 200, None)
    if isinstance(value, tuple):
        if len(value) == 3:
            return _reply(*value)
        if len(value) == 2:
            body, second = value
            is_status = isinstance(second, int | str)
            return _reply(body, second if is_status else 200, None if is_status else second)
        raise InvalidReply(f"handle() returned a tuple of {len(value)}; it may return {ALLOWED}")
    if hasattr(value, "iter_encoded") and hasattr(value, "status_code"):
        response: Any = value
        return _reply(response.iter_encoded(), response.status_code, list(response.headers.items()))
    return _reply(value, 200, None)


def text_reply(value: object, content_type: bytes) -> Reply:
    """Return the response that python3's `handle(req)` means: its text, or that of whatever else it returned."""
    if value is None:
        return Reply(b"", content_type)
    return Reply(value if isinstance(value, bytes) else str(value).encode(), content_type)


def _reply(body: object, status: object, headers: object) -> Reply:
    reply = _of_body(body)
    reply.status = _status(status)
    for name, value in _pairs(headers):
        lower = name.lower()
        if not valid_header(name, value):
            raise InvalidReply(f"handle() returned the header {name!r}: {value[:80]!r}, which may not go on the wire")
        if lower == b"content-length":
            if not value.isdigit():
                raise InvalidReply(f"handle() returned Content-Length {value[:80]!r}; it is a number of bytes")
            reply.length = int(value)
        elif lower not in CONNECTION_HEADERS:
            reply.headers.append((name, value))
    return reply


def _of_body(body: object) -> Reply:
    if isinstance(body, str):
        return Reply(body.encode(), HTML)
    if isinstance(body, bytes | bytearray | memoryview):
        return Reply(bytes(body), HTML)
    if body is None:
        return Reply(b"", HTML)
    if isinstance(body, dict | list):
        import json

        try:
            return Reply(json.dumps(body).encode(), JSON)
        except (TypeError, ValueError) as error:
            raise InvalidReply(f"handle() returned a {type(body).__name__} that is not JSON: {error}") from None
    if hasattr(body, "read"):
        return Reply(None, BINARY, stream=_pieces(body))
    if hasattr(body, "__next__") or hasattr(body, "__anext__"):
        return Reply(None, HTML, stream=body)
    if isinstance(body, int | float):  # as {"statusCode": 200, "body": 5}: its text
        return Reply(str(body).encode(), HTML)
    if isinstance(body, Iterable) and not isinstance(body, Mapping | set | frozenset):
        return Reply(None, HTML, stream=iter(body))
    raise InvalidReply(f"handle() returned {_shown(body)}; it may return {ALLOWED}")


def _status(status: object) -> int:
    if isinstance(status, str):  # "404 NOT FOUND", as Flask takes it
        text = status.partition(" ")[0]
        number = int(text) if text.isascii() and text.isdigit() else -1
    else:
        number = int(status) if isinstance(status, int) and not isinstance(status, bool) else -1
    if not 200 <= number <= 999:
        raise InvalidReply(f"handle() returned the status {status!r}; it is a number from 200 to 999")
    return number


def _pairs(headers: object) -> Iterator[tuple[bytes, bytes]]:
    pairs: Iterable[Any] = ()
    if isinstance(headers, Mapping):
        pairs = headers.items()
    elif isinstance(headers, list | tuple):
        pairs = headers
    elif headers is not None:
        raise InvalidReply(f"handle() returned headers as {_shown(headers)}; they are a dict or a list of (name, value)")
    for pair in pairs:
        if not (isinstance(pair, list | tuple) and len(pair) == 2):
            raise InvalidReply(f"handle() returned {_shown(pair)} among its headers; each is (name, value)")
        name, value = pair
        for one in value if isinstance(value, list | tuple) else (value,):
            yield _latin_1(name), _latin_1(one)


def _latin_1(text: object) -> bytes:
    if isinstance(text, bytes):
        return text
    try:
        return str(text).encode("latin-1")
    except UnicodeEncodeError:
        raise InvalidReply(f"handle() returned {text!r} in a header, where only Latin-1 characters can be") from None


def _pieces(file: Any) -> Iterator[str | bytes]:
    try:
        while piece := file.read(FILE_PIECE_BYTES):
            yield piece
    finally:
        if hasattr(file, "close"):
            file.close()


def _shown(value: object) -> str:
    """The value's type and the beginning of its text, on one line."""
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text[:80]}"
