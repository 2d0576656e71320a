"""A request's head: gathered from the parser, refused when malformed, written anew for upstream.

llhttp refuses bare LF, obs-fold, conflicting lengths and bad chunk sizes. It accepts what RFC 9112 leaves to the
server: a missing or repeated Host, transfer codings other than chunked, Transfer-Encoding in HTTP/1.0, the absolute
form. Those are refused or normalised here. Trailer fields arrive through `on_header` too, after the head: they gather
in the then empty `fields`.
"""

from __future__ import annotations

import re
from typing import Final

from httptools import HttpRequestParser

from gateway.edge.headers import (
    CALL_ID,
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    FORWARDED_FOR,
    FORWARDED_HOST,
    FORWARDED_OTHER,
    FORWARDED_PROTO,
    HEAD_END,
    HOST,
    KEEP,
    REQUEST,
    TAG,
    TIMING,
    TRANSFER_ENCODING,
    UPGRADE,
    learn,
    spellings,
    tokens,
    without,
)
from gateway.edge.refusal import METHODS, Refusal
from gateway.edge.settings import EdgeSettings

_SLASH: Final = 0x2F
_CALL_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}").fullmatch
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?").fullmatch
_KINDS: Final = spellings(REQUEST)
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]+)(.*)", re.IGNORECASE | re.DOTALL).fullmatch


class RequestHead:
    """The head of the request that is being read. One object serves all requests of a connection, one after another.

    `fields` holds name, colon, value and line end of each field that crosses. After `problem` returned None, `path`,
    `host`, `http10`, `keep_alive`, `chunked`, `length` (0 when there is no body or it is chunked) and `upgrade` hold.
    """

    __slots__ = (
        "_accepted_host",
        "_connection",
        "_content_length",
        "_hosts",
        "_plain",
        "_transfer_encoding",
        "call_id",
        "chunked",
        "expect",
        "fields",
        "forwarded",
        "host",
        "http10",
        "keep_alive",
        "length",
        "method",
        "tag",
        "target",
        "timing",
        "upgrade",
    )

    def __init__(self) -> None:
        self.method = b""
        self.http10 = False
        self.keep_alive = True
        self.chunked = False
        self.length = 0
        self._accepted_host = b""
        self._plain = False
        self.reset()

    def reset(self) -> None:
        """Make ready for the next head."""
        self.target = b""
        self.fields: list[bytes] = []
        self.host = b""
        self.call_id = b""
        self._hosts = 0
        self._content_length: bytes | None = None
        if not self._plain:
            self._plain = True
            self.upgrade = b""
            self.expect = b""
            self.timing = b""
            self.tag: bytes | None = None
            self.forwarded: list[tuple[int, bytes, bytes]] = []
            self._connection: list[bytes] = []
            self._transfer_encoding: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        """The parser read the target, or a part of it."""
        self.target = self.target + url if self.target else url

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser read one field."""
        try:
            kind = _KINDS[name]
        except KeyError:
            kind = learn(_KINDS, name, REQUEST)
        if kind == KEEP:
            self.fields += (name, b": ", value, b"\r\n")
        elif kind == HOST:
            self.host = value
            self._hosts += 1
        elif kind == CONTENT_LENGTH:
            self._content_length = value
        elif kind == CALL_ID:
            self.call_id = value
        else:
            self._rare_header(kind, name, value)

    def _rare_header(self, kind: int, name: bytes, value: bytes) -> None:
        self._plain = False
        if kind == CONNECTION:
            self._connection.append(value)
        elif kind == TRANSFER_ENCODING:
            self._transfer_encoding.append(value)
        elif kind == UPGRADE:
            self.upgrade = self.upgrade + b", " + value if self.upgrade else value
        elif kind == EXPECT:
            self.expect = value
        elif kind == TIMING:
            self.timing = value
        elif kind == TAG:  # a function may pass it on to those that it calls
            self.tag = value
            self.fields += (name, b": ", value, b"\r\n")
        elif kind in (FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, FORWARDED_OTHER):
            self.forwarded.append((kind, name, value))

    def _size(self) -> int:
        return len(self.target) + len(self.host) + len(self.upgrade) + sum(map(len, self.fields))

    def too_long(self, settings: EdgeSettings) -> Refusal:
        """Return the refusal of a head that is too long: 414 when it did not get beyond the target."""
        limit = settings.max_header_bytes
        if len(self.target) > limit or not (self.fields or self.host):
            return Refusal(414, f"the request's target is longer than {limit} bytes")
        return Refusal(431, f"the request's head is longer than {limit} bytes")

    def too_large(self, settings: EdgeSettings) -> Refusal | None:
        """Judge the size of the complete head, and of the body as far as it is told."""
        if self._size() > settings.max_header_bytes:
            return self.too_long(settings)
        if len(self.fields) > 4 * settings.max_header_fields:
            return Refusal(431, f"the request has more than {settings.max_header_fields} header fields")
        if settings.max_body_bytes and self.length > settings.max_body_bytes:
            return Refusal(413, f"the request's body is longer than {settings.max_body_bytes} bytes")
        return None

    def problem(self, parser: HttpRequestParser) -> Refusal | None:
        """Judge the complete head. Returns why it is refused, or None."""
        self.method = parser.get_method()
        self.keep_alive = parser.should_keep_alive()
        self.http10 = self.chunked = False
        self.length = 0
        if self.method not in METHODS:
            return Refusal(405, f"method {self.method.decode('ascii', 'replace')} is not allowed here")
        if (
            self._plain  # what most requests are: HTTP/1.1 (only that persists unasked), nothing unusual in the head
            and self.keep_alive
            and self._hosts == 1
            and self.host == self._accepted_host
            and self.target[0] == _SLASH
            and self._content_length is None
        ):
            return None
        version = parser.get_http_version()
        self.http10 = version == "1.0"
        if version not in ("1.1", "1.0"):
            return Refusal(505, f"HTTP version {version} is not served here; use HTTP/1.1")
        return self._target_problem() or self._host_problem() or self._framing_problem() or self._option_problem(parser)

    def _target_problem(self) -> Refusal | None:
        if self.target[:1] == b"/":
            return None
        if match := _ABSOLUTE(self.target):  # RFC 9112 section 3.2.2: the target's authority replaces Host
            if self._hosts == 0 and not self.http10:
                return Refusal(400, "the Host header is missing")
            self.host, rest = match.groups()
            self.target = rest if rest[:1] == b"/" else b"/" + rest
            return None
        return Refusal(400, "the request target must begin with '/'")

    def _host_problem(self) -> Refusal | None:
        if self._hosts > 1:
            return Refusal(400, "more than one Host header")
        if not self._hosts and not self.http10:
            return Refusal(400, "the Host header is missing")
        host = self.host = self.host.strip(b" \t")
        if not _HOST(host):
            return Refusal(400, "the Host header is malformed")
        self._accepted_host = host
        return None

    def _framing_problem(self) -> Refusal | None:
        if self._transfer_encoding:
            if self.http10:
                return Refusal(400, "Transfer-Encoding has no meaning in HTTP/1.0")
            if self._content_length is not None:
                return Refusal(400, "Content-Length and Transfer-Encoding contradict each other")
            if b",".join(self._transfer_encoding).strip(b" \t").lower() != b"chunked":
                return Refusal(501, "the only transfer coding served here is chunked")
            self.chunked = True
        elif self._content_length is not None:
            digits = self._content_length.strip(b" \t")
            if not digits.isdigit() or len(digits) > 18:
                return Refusal(400, "Content-Length is not a number of bytes")
            self.length = int(digits)
        return None

    def _option_problem(self, parser: HttpRequestParser) -> Refusal | None:
        if self.expect and self.expect.strip(b" \t").lower() != b"100-continue":
            return Refusal(417, "the only expectation served here is 100-continue")
        if self._connection:
            named = [o for o in tokens(self._connection) if o not in (b"close", b"keep-alive", b"upgrade")]
            if named:
                self.fields = without(self.fields, named)
        if self.upgrade and not parser.should_upgrade():
            self.upgrade = b""
        return None

    def accepted_call_id(self) -> bytes:
        """Return the client's call id when it is well-formed, else nothing."""
        return self.call_id if self.call_id and _CALL_ID(self.call_id) else b""

    def framing(self) -> bytes:
        """Return the lines that tell upstream how long the body is, and to what it may switch."""
        if self.chunked:
            framing = b"Transfer-Encoding: chunked\r\n"
        elif self.length or self._content_length is not None:
            framing = b"Content-Length: %d\r\n" % self.length
        else:
            framing = b""
        if self.upgrade:
            framing += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % self.upgrade
        return framing

    def to_upstream(self, path: bytes, marks: bytes, forwarded: bytes) -> bytes:
        """Return the head that goes upstream.

        `marks` are the call's own lines (id, start time), `forwarded` those about the client, without the last line end.
        """
        return b"".join(
            (
                self.method,
                b" ",
                path,
                b" HTTP/1.1\r\nHost: ",
                self.host,
                b"\r\n",
                *self.fields,
                marks,
                self.framing(),
                forwarded,
                HEAD_END,
            )
        )


def forwarded_lines(address: bytes) -> bytes:
    """Return what upstream is told of a client that is no trusted proxy, up to the value of `X-Forwarded-Host`."""
    return b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: " % (address or b"unknown")


def believed_forwarded_lines(said: list[tuple[int, bytes, bytes]], host: bytes, address: bytes) -> tuple[bytes, bytes]:
    """Return what upstream is told when the client is a trusted proxy: what that said, with its own address appended.

    `said` has kind, name and value of each such field; without an `address` nothing is appended. Those that are not
    rewritten (`Forwarded`, `X-Real-Ip`, other `X-Forwarded-*`) come first, as they came; then the others, up to the value
    of `X-Forwarded-Host`.
    """
    came: dict[int, list[bytes]] = {}
    crossing = b""
    for kind, name, value in said:
        came.setdefault(kind, []).append(value)
        if kind == FORWARDED_OTHER:
            crossing += b"%b: %b\r\n" % (name, value)
    chain = b", ".join([*came.get(FORWARDED_FOR, []), *([address] if address else [])]) or b"unknown"
    proto = came.get(FORWARDED_PROTO, [b"http"])[0]
    host = came.get(FORWARDED_HOST, [host])[0]
    return crossing, b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b" % (chain, proto, host)
