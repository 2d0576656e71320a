"""A response's head on its way to the client: gathered from the parser, hygiene applied, the call's marks added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.edge.headers import (
    CALL_ID,
    CONNECTION,
    CONTENT_LENGTH,
    DATE,
    DURATION,
    INTERNAL,
    KEEP,
    RESPONSE,
    TRANSFER_ENCODING,
    UPGRADE,
    learn,
    spellings,
    tokens,
    without,
)

if TYPE_CHECKING:
    from gateway.edge.call import Call

_KINDS: Final = spellings(RESPONSE)
_PLAIN_OPTIONS: Final = (b"keep-alive", b"close", b"upgrade")  # those that name no field
_STATUS_LINES: Final[dict[tuple[int, bytes], bytes]] = {}
_STATUS_LINES_KEPT: Final = 512


NO_BODY: Final = 0  # how the end of a response's body is told to the client
LENGTH: Final = 1
CHUNKED: Final = 2
CLOSE: Final = 3


class ResponseHead:
    """The head of the response that is being read. One object serves all responses of a connection in turn."""

    __slots__ = (
        "_date",
        "_duration",
        "_named",
        "call_id",
        "content_length",
        "fields",
        "internal",
        "reason",
        "transfer_encoding",
        "upgrade",
    )

    def __init__(self) -> None:
        self._named: list[bytes] = []
        self.reset()

    def reset(self) -> None:
        """Make ready for the next head."""
        self.reason = b""
        self.fields: list[bytes] = []
        self.content_length: bytes | None = None
        self.transfer_encoding: bytes | None = None
        self.upgrade = b""
        self.internal = b""
        self.call_id = b""
        if self._named:
            self._named = []
        self._date = False
        self._duration = False

    def on_status(self, reason: bytes) -> None:
        """The parser read the reason phrase, or a part of it."""
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser read one field."""
        try:
            kind = _KINDS[name]
        except KeyError:
            kind = learn(_KINDS, name, RESPONSE)
        if kind == KEEP:
            self.fields += (name, b": ", value, b"\r\n")
        elif kind == CONTENT_LENGTH:
            self.content_length = value
        elif kind == TRANSFER_ENCODING:
            had = self.transfer_encoding
            self.transfer_encoding = value if had is None else had + b"," + value
        elif kind == CONNECTION:
            if value not in _PLAIN_OPTIONS:
                self._named += [o for o in tokens([value]) if o not in _PLAIN_OPTIONS]
        elif kind == UPGRADE:
            self.upgrade = value
        else:
            if kind == DATE:
                self._date = True
            elif kind == DURATION:
                self._duration = True
            elif kind == INTERNAL:
                self.internal = value
            elif kind == CALL_ID:
                self.call_id = value
                return
            else:
                return
            self.fields += (name, b": ", value, b"\r\n")

    def framing(self, code: int, call: Call) -> int:
        """Decide how the client learns where the body ends (RFC 9112 section 6.3)."""
        if call.head_only or code in (204, 304):
            return NO_BODY
        if self.content_length is not None:
            return LENGTH
        return CLOSE if call.http10 else CHUNKED

    def to_client(self, code: int, framing: int, call: Call, now: float, date: bytes) -> bytes:
        """Return the head that goes to the client at `now` (monotonic seconds).

        `X-Duration-Seconds` is the runtime's (how long the handler ran) or else the time to the first byte.
        """
        fields = self.fields
        if self._named:
            fields = without(fields, self._named)
        status_line = _STATUS_LINES.get((code, self.reason)) or _status_line(code, self.reason)
        if self.content_length is not None and code != 204:
            ending = b"Content-Length: %b\r\n" % self.content_length
        else:
            ending = b"Transfer-Encoding: chunked\r\n" if framing == CHUNKED else b""
        if not call.keep_alive:
            ending += b"Connection: close\r\n"
        elif call.http10:
            ending += b"Connection: keep-alive\r\n"
        duration = b"" if self._duration else b"X-Duration-Seconds: %.6f\r\n" % (now - call.started)
        return b"".join((status_line, *fields, call.marks, duration, b"" if self._date else date, ending, b"\r\n"))

    def interim(self, code: int) -> bytes:
        """Return an interim (1xx) or switching (101) head for the client, without hop-by-hop fields."""
        switch = b"Connection: Upgrade\r\nUpgrade: %b\r\n" % self.upgrade if code == 101 else b""
        return b"HTTP/1.1 %d %b\r\n%b%b" % (code, self.reason, b"".join(self.fields), switch)


def _status_line(code: int, reason: bytes) -> bytes:
    line = b"HTTP/1.1 %d %b\r\n" % (code, reason)
    if len(_STATUS_LINES) < _STATUS_LINES_KEPT:
        _STATUS_LINES[(code, reason)] = line
    return line
