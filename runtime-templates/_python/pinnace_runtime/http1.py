"""HTTP/1.1 as bytes: request heads, framed bodies, response heads (RFC 9110, RFC 9112).

Strict where leniency is how requests get smuggled: one Host, one Content-Length of digits, Transfer-Encoding only
`chunked` and never together with Content-Length, no control characters, no line folding, CRLF line ends only.

Parsing is `split`, `partition` and `translate`, which run in C: 2.7 µs for a head of eight headers, where a
request with a blocking handler takes about 80.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False  # importing typing takes 5 ms; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Iterable

HEAD_LIMIT_BYTES = 64 * 1024
CHUNK_LINE_LIMIT_BYTES = 4096
TRAILER_LIMIT_BYTES = 8192
CALL_ID_LIMIT = 128

Headers = list[tuple[bytes, bytes]]

TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TEXT = bytes(c for c in range(256) if c == 0x09 or (c >= 0x20 and c != 0x7F))
_TARGET = bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100))
_CALL_ID = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
_HEX = b"0123456789abcdefABCDEF"
_LOWER_HEX = b"0123456789abcdef"
_ODD = frozenset((b"1", b"3", b"5", b"7", b"9", b"b", b"d", b"f"))  # the last digit of flags that say "sampled"

# Headers that steer the connection or the call; the rest only travels to the handler.
_STEERING = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"expect",
        b"x-call-id",
        b"x-timeout",
        b"upgrade",
        b"traceparent",
    )
)

_REASONS = """
101 Switching Protocols, 200 OK, 201 Created, 202 Accepted, 203 Non-Authoritative Information, 204 No Content,
205 Reset Content, 206 Partial Content, 300 Multiple Choices, 301 Moved Permanently, 302 Found, 303 See Other,
304 Not Modified, 307 Temporary Redirect, 308 Permanent Redirect, 400 Bad Request, 401 Unauthorized,
402 Payment Required, 403 Forbidden, 404 Not Found, 405 Method Not Allowed, 406 Not Acceptable,
408 Request Timeout, 409 Conflict, 410 Gone, 411 Length Required, 412 Precondition Failed, 413 Content Too Large,
414 URI Too Long, 415 Unsupported Media Type, 416 Range Not Satisfiable, 417 Expectation Failed,
418 I'm a teapot, 421 Misdirected Request, 422 Unprocessable Content, 423 Locked, 424 Failed Dependency,
425 Too Early, 426 Upgrade Required, 428 Precondition Required, 429 Too Many Requests,
431 Request Header Fields Too Large, 451 Unavailable For Legal Reasons, 500 Internal Server Error,
501 Not Implemented, 502 Bad Gateway, 503 Service Unavailable, 504 Gateway Timeout,
505 HTTP Version Not Supported, 507 Insufficient Storage, 508 Loop Detected
"""
_STATUS_LINES = {int(line[:3]): f"HTTP/1.1 {line}\r\n".encode() for line in _REASONS.replace(",\n", ", ").strip().split(", ")}

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_dates: dict[int, bytes] = {}  # the last second's Date header

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


class BadRequest(Exception):
    """A request that cannot be served as it stands. `status` is the answer, the message its text; then the connection ends."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Request:
    """One request's head. Header names are lower case; `content_length` is None for a chunked body.

    `call_id` is empty where the client sent none or one that the platform would not make: it goes into log lines. `mark` is
    what they carry: the call's id and, where the call is traced, the trace's behind a space.
    """

    __slots__ = (
        "call_id",
        "content_length",
        "expects_continue",
        "headers",
        "http_1_0",
        "keep_alive",
        "mark",
        "method",
        "path",
        "query",
        "timeout",
        "upgrade",
    )

    def __init__(self, method: str, path: bytes, query: bytes, headers: Headers, *, http_1_0: bool) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.http_1_0 = http_1_0
        self.keep_alive = not http_1_0
        self.content_length: int | None = 0
        self.expects_continue = False
        self.call_id = self.mark = ""
        self.timeout = ""
        self.upgrade = b""


def parse_head(head: bytes) -> Request:
    """Return the request whose head is `head`, without the empty line that ends it. Raises BadRequest."""
    lines = head.split(b"\r\n")
    try:
        method, target, version = lines[0].split(b" ")
    except ValueError:
        raise BadRequest(400, "malformed request line") from None
    if version != b"HTTP/1.1" and version != b"HTTP/1.0":
        if version[:5] == b"HTTP/" and version[:7] != b"HTTP/1.":
            raise BadRequest(505, "only HTTP/1.1 is spoken here")
        raise BadRequest(400, "malformed request line")
    if not method or method.translate(None, TOKEN):
        raise BadRequest(400, "malformed method")
    if b"".join(lines).translate(None, _TEXT):
        raise BadRequest(400, "control character in the request head")
    path, _, query = _origin_form(method, target).partition(b"?")
    headers: Headers = []
    steering: Headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, TOKEN):
            raise BadRequest(400, "malformed header line")
        header = (name.lower(), value.strip(b" \t"))
        headers.append(header)
        if header[0] in _STEERING:
            steering.append(header)
    request = Request(method.decode(), path, query, headers, http_1_0=version == b"HTTP/1.0")
    _steer(request, steering)
    return request


def _origin_form(method: bytes, target: bytes) -> bytes:
    if target[:1] != b"/":
        if target == b"*" and method == b"OPTIONS":
            return target
        if target[:7].lower() != b"http://":
            raise BadRequest(400, "malformed request target")
        slash = target.find(b"/", 7)
        target = target[slash:] if slash > 0 else b"/"
    if target.translate(None, _TARGET) or b"#" in target:
        raise BadRequest(400, "malformed request target")
    return target


def _steer(request: Request, steering: Headers) -> None:
    seen = set()
    trace = ""
    for name, value in steering:
        if name in seen and name in (b"host", b"content-length", b"transfer-encoding"):
            raise BadRequest(400, f"more than one {name.decode()}")
        seen.add(name)
        if name == b"content-length":
            if not value.isdigit() or len(value) > 18:
                raise BadRequest(400, "malformed content-length")
            request.content_length = int(value)
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise BadRequest(501, "the only transfer-encoding is chunked")
            request.content_length = None
        elif name == b"connection":
            if b"close" in [token.strip() for token in value.lower().split(b",")]:
                request.keep_alive = False
        elif name == b"expect":
            if value.lower() != b"100-continue":
                raise BadRequest(417, "the only expectation is 100-continue")
            request.expects_continue = not request.http_1_0
        elif name == b"x-call-id":
            if len(value) <= CALL_ID_LIMIT and not value.translate(None, _CALL_ID):
                request.call_id = request.mark = value.decode()
        elif name == b"x-timeout":
            request.timeout = value.decode("latin-1")
        elif name == b"upgrade":
            request.upgrade = value
        elif name == b"traceparent":
            trace = _recorded_trace(value)
    if trace and request.call_id:
        request.mark = f"{request.call_id} {trace}"
    if b"host" not in seen and not request.http_1_0:
        raise BadRequest(400, "a host header is missing")
    if b"transfer-encoding" in seen and (b"content-length" in seen or request.http_1_0):
        raise BadRequest(400, "transfer-encoding with content-length or in HTTP/1.0")


def _recorded_trace(value: bytes) -> str:
    """Return the trace id of a `traceparent` (W3C Trace Context) that says that the call is recorded; of others nothing."""
    version, _, rest = value.partition(b"-")
    trace, _, rest = rest.partition(b"-")
    span, _, rest = rest.partition(b"-")
    lengths = (len(version), len(trace), len(span))
    if (
        lengths != (2, 32, 16)
        or (version + trace + span).translate(None, _LOWER_HEX)
        or rest[1:2] not in _ODD
        or rest[2:3] not in (b"", b"-")
    ):
        return ""
    return trace.decode()


class SizedBody:
    """A body of known length. `done` once it is whole; what came after it is in `rest`."""

    def __init__(self, length: int) -> None:
        self._missing = length
        self.done = length == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes off the wire and return those of the body."""
        if self.done:
            self.rest += data
            return b""
        body, self.rest = data[: self._missing], data[self._missing :]
        self._missing -= len(body)
        self.done = self._missing == 0
        return body


class ChunkedBody:
    """A body in chunks (RFC 9112 section 7.1). Extensions and trailers are checked for length and dropped."""

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0  # how far the buffer is read: it is cut once for each feed, however small the chunks are
        self._missing = 0  # bytes of the present chunk, including the CRLF after it
        self._trailer_bytes = -1  # bytes of trailers so far; -1 before the last chunk
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes off the wire and return those of the body. Raises BadRequest."""
        self._buffer += data
        pieces: list[bytes] = []
        while not self.done:
            if self._missing:
                if not self._take_chunk(pieces):
                    break
            elif (line := self._take_line()) is None:
                break
            elif self._trailer_bytes >= 0:
                self._take_trailer(line)
            elif size := _chunk_size(line):
                self._missing = size + 2
            else:
                self._trailer_bytes = 0
        self._buffer, self._at = self._buffer[self._at :], 0
        if self.done:
            self.rest, self._buffer = self.rest + self._buffer, b""
        return b"".join(pieces)

    def _take_chunk(self, pieces: list[bytes]) -> bool:
        """Move what there is of the present chunk to `pieces`; whether the chunk is complete."""
        piece = self._buffer[self._at : self._at + max(0, self._missing - 2)]
        pieces.append(piece)
        self._at += len(piece)
        self._missing -= len(piece)
        end = self._buffer[self._at : self._at + 2]
        if self._missing > 2:
            return False
        if not b"\r\n".startswith(end):
            raise BadRequest(400, "malformed chunk")
        if len(end) < 2:
            return False
        self._at += 2
        self._missing = 0
        return True

    def _take_line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n", self._at)
        length = (end if end >= 0 else len(self._buffer)) - self._at
        if length > CHUNK_LINE_LIMIT_BYTES:
            raise BadRequest(400, "malformed chunk")
        if end < 0:
            return None
        line = self._buffer[self._at : end]
        self._at = end + 2
        if line.translate(None, _TEXT):
            raise BadRequest(400, "control character in a chunk line")
        return line

    def _take_trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line)
        if not line:
            self.done = True
        elif self._trailer_bytes > TRAILER_LIMIT_BYTES or b":" not in line:
            raise BadRequest(400, "malformed trailers")


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].rstrip(b" \t")
    if not digits or len(digits) > 15 or digits.translate(None, _HEX):
        raise BadRequest(400, "malformed chunk")
    return int(digits, 16)


def body_of(request: Request) -> SizedBody | ChunkedBody:
    """Return the decoder for the request's body."""
    return ChunkedBody() if request.content_length is None else SizedBody(request.content_length)


def response_head(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the head of a response, with the empty line that ends it. `headers` are checked already."""
    line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    return line + b"".join([b"%b: %b\r\n" % header for header in headers]) + b"\r\n"


def date() -> bytes:
    """Return the value of a Date header for now (RFC 9110 section 5.6.7), made once a second."""
    second = int(time.time())
    text = _dates.get(second)
    if text is None:
        t = time.gmtime(second)
        day = f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year}"
        text = f"{day} {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT".encode()
        _dates.clear()
        _dates[second] = text
    return text


def plain_response(status: int, text: str, *headers: tuple[bytes, bytes], close: bool = False, head: bool = False) -> bytes:
    """Return a whole response of the runtime's own. `head` leaves its body out; `close` says that the connection ends."""
    body = text.encode()
    content = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"Content-Length", b"%d" % len(body))]
    ending = [(b"Connection", b"close")] if close else []
    return response_head(status, [*content, *headers, *ending]) + (b"" if head else body)


def valid_header(name: bytes, value: bytes) -> bool:
    """Whether a handler's header may go on the wire: no CR, LF or other control character, no malformed name."""
    return bool(name) and not name.translate(None, TOKEN) and not value.translate(None, _TEXT)


def may_have_body(status: int) -> bool:
    """Whether a response with that status can have a body at all (RFC 9110 section 6.4.1)."""
    return status >= 200 and status not in (204, 304)
