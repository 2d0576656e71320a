"""A response's head on its way to the client: gathered from the parser, hygiene applied, the call's marks added."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from gateway.edge.headers import (
    CONNECTION,
    CONTENT_LENGTH,
    DATE,
    DURATION,
    INTERNAL,
    KEEP,
    RESPONSE,
    TRANSFER_ENCODING,
    UPGRADE,
    Kinds,
    tokens,
    without,
)

if TYPE_CHECKING:
    from gateway.edge.call import Call

_KINDS: Final = Kinds(RESPONSE)
_STATUS_LINES: Final[dict[tuple[int, bytes], bytes]] = {}


class Framing(enum.IntEnum):
    """How the end of a response's body is told to the client."""

    NONE = 0
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3


class ResponseHead:
    """The head of the response that is being read. One object serves all responses of a connection in turn."""

    __slots__ = (
        "_connection",
        "_date",
        "_duration",
        "content_length",
        "fields",
        "internal",
        "reason",
        "transfer_encoding",
        "upgrade",
    )

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Make ready for the next head."""
        self.reason = b""
        self.fields: list[bytes] = []
        self.content_length: bytes | None = None
        self.transfer_encoding: bytes | None = None
        self.upgrade = b""
        self.internal = b""
        self._connection: list[bytes] | None = None
        self._date = False
        self._duration = False

    def on_status(self, reason: bytes) -> None:
        """The parser read the reason phrase, or a part of it."""
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser read one field."""
        kind = _KINDS[name]
        if kind == KEEP:
            self.fields += (name, b": ", value, b"\r\n")
        elif kind == CONTENT_LENGTH:
            self.content_length = value
        elif kind == TRANSFER_ENCODING:
            had = self.transfer_encoding
            self.transfer_encoding = value if had is None else had + b"," + value
        elif kind == CONNECTION:
            self._connection = [value] if self._connection is None else [*self._connection, value]
        elif kind == UPGRADE:
            self.upgrade = value
        else:
            if kind == DATE:
                self._date = True
            elif kind == DURATION:
                self._duration = True
            elif kind == INTERNAL:
                self.internal = value
            else:
                return
            self.fields += (name, b": ", value, b"\r\n")

    def framing(self, code: int, call: Call) -> Framing:
        """Decide how the client learns where the body ends (RFC 9112 section 6.3)."""
        if call.head_only or code in (204, 304):
            return Framing.NONE
        if self.content_length is not None:
            return Framing.LENGTH
        return Framing.CLOSE if call.http10 else Framing.CHUNKED

    def to_client(self, code: int, framing: Framing, call: Call, now: float, date: bytes) -> bytes:
        """Return the head that goes to the client at `now` (monotonic seconds).

        `X-Duration-Seconds` is the runtime's (how long the handler ran) or else the time to the first byte.
        """
        fields = self.fields
        if self._connection is not None:
            named = [o for o in tokens(self._connection) if o not in (b"close", b"keep-alive", b"upgrade")]
            if named:
                fields = without(fields, named)
        key = (code, self.reason)
        status_line = _STATUS_LINES.get(key)
        if status_line is None:
            status_line = b"HTTP/1.1 %d %b\r\n" % key
            if len(_STATUS_LINES) < 512:
                _STATUS_LINES[key] = status_line
        if self.content_length is not None and code != 204:
            ending = b"Content-Length: " + self.content_length + b"\r\n"
        elif framing == Framing.CHUNKED:
            ending = b"Transfer-Encoding: chunked\r\n"
        else:
            ending = b""
        if not call.keep_alive:
            ending += b"Connection: close\r\n"
        elif call.http10:
            ending += b"Connection: keep-alive\r\n"
        return b"".join(
            (
                status_line,
                b"".join(fields),
                call.marks,
                b"" if self._duration else b"X-Duration-Seconds: %.6f\r\n" % (now - call.started),
                b"" if self._date else date,
                ending,
                b"\r\n",
            )
        )

    def interim(self, code: int) -> bytes:
        """Return an interim (1xx) or switching (101) head for the client, without hop-by-hop fields."""
        switch = b"Connection: Upgrade\r\nUpgrade: %b\r\n" % self.upgrade if code == 101 else b""
        return b"HTTP/1.1 %d %b\r\n%b%b" % (code, self.reason, b"".join(self.fields), switch)
