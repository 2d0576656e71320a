"""Heads that are as most are, read without the parser.

Most requests and responses come whole in one read, and nothing in their heads is unusual. Such a head matches one
regular expression, narrower than RFC 9112, and goes on as it came: what the edge removes is cut out, what it adds is
appended. Whatever does not match goes to the parser (`request`, `response`), which alone refuses anything; so the two
can only disagree where a match means something else to the parser. tests/gateway/edge/test_plain.py looks for that.

A line is plain when its name has no meaning for the edge (`headers.REQUEST`, `headers.RESPONSE`) and consists of letters,
digits and `-`, and its value is printable ASCII. Beside such lines there may be, once each,
`Host`, `Content-Length`, `X-Call-Id` and `Connection: keep-alive`, and what proxies say of their client.

Clients that send the same bytes again and again are common: reads are remembered too, a bounded number of them, until
the next sweep (0.25 s), so that what comes once makes room for what comes often.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from string import ascii_lowercase
from sys import maxsize
from typing import TYPE_CHECKING, Final

from gateway.edge.headers import FORWARDED_PREFIX, REQUEST, RESPONSE, learn, spellings
from gateway.edge.refusal import METHODS
from gateway.edge.settings import EdgeSettings

if TYPE_CHECKING:
    from gateway.edge.call import Call

KNOWN_READS: Final = 256
"""How many reads are remembered between two sweeps, requests and responses each."""
KNOWN_READ_BYTES: Final = 2048
"""A longer one is not worth its memory."""
PLAIN_HEAD_BYTES: Final = 8192
"""A longer head is the parser's."""

# Repeats are possessive where nothing after them could match what they took: no byte is looked at twice.
_PRINTABLE: Final = r"[!-~][ -~]*+"
_VALUE: Final = rf"{_PRINTABLE}\r\n"


def _once(group: int, initial: str, rest: str) -> str:
    """Return what matches a line that may come once: `rest` captures `group`."""
    return f"{initial}(?({group})(?!)|{rest})"


def _lines_without_meaning(names: Iterable[bytes]) -> tuple[str, str]:
    """Return what matches a line whose name is none of `names`: one pattern for names that differ from them in the first
    letter, one for the others. A name that ends in `-` stands for all that begin with it."""
    meant = sorted(name.decode() for name in names)
    initials = sorted({name[0] for name in meant})
    others = "".join(letter for letter in ascii_lowercase if letter not in initials)
    rest = "[A-Za-z0-9-]*+: " + _VALUE
    alternatives = []
    for initial in initials:
        meant_here = [name[1:] if name.endswith("-") else f"{name[1:]}:" for name in meant if name[0] == initial]
        alternatives.append(f"[{initial}{initial.upper()}](?!(?i:{'|'.join(meant_here)})){rest}")
    return f"[{others}{others.upper()}]{rest}", "|".join(alternatives)


def _head(first_line: str, *lines: str) -> Callable[[bytes, int, int], re.Match[bytes] | None]:
    return re.compile(f"{first_line}(?:{'|'.join(lines)})*\\r\\n".encode()).match


_LENGTH: Final = r"ontent-[Ll]ength: (0|[1-9][0-9]{0,17})\r\n"
_KEEP_ALIVE: Final = r"onnection: keep-alive()\r\n"
_METHODS: Final = "|".join(sorted(method.decode() for method in METHODS))
_FAR, _NEAR = _lines_without_meaning([*REQUEST, FORWARDED_PREFIX])
_REQUEST: Final = _head(
    rf"({_METHODS}) /(async-)?+function/([a-z0-9.-]++)((?:[/?][!\"$-~]*+)?) HTTP/1\.1\r\n",
    _FAR,
    _once(5, "[Hh]", r"ost: ([A-Za-z0-9.-]++(?::[0-9]{1,5})?)\r\n"),
    _once(6, "[Cc]", _LENGTH),
    _once(7, "[Cc]", _KEEP_ALIVE),
    _once(8, "[Xx]", r"-[Cc]all-[Ii]d: ([A-Za-z0-9._-]{1,128})\r\n"),
    _once(9, "X", rf"-Forwarded-For: {_VALUE}X-Forwarded-Proto: {_VALUE}X-Forwarded-Host: {_VALUE}()"),
    rf"[Xx]-(?:[Ff]orwarded-[A-Za-z-]++|[Rr]eal-[Ii][Pp]): {_VALUE}()",
    rf"[Ff]orwarded: {_VALUE}()",
    _NEAR,
)
_SAID: Final = re.compile(rb"\r\n([Xx]-(?:[Ff]orwarded-[A-Za-z-]+|[Rr]eal-[Ii][Pp])|[Ff]orwarded): ([ -~]+)(?=\r\n)")
_SPELLINGS: Final = spellings(REQUEST)
_FAR, _NEAR = _lines_without_meaning(RESPONSE)
_RESPONSE: Final = _head(
    rf"HTTP/1\.1 ([2-5][0-9][0-9]) {_VALUE}",
    _FAR,
    _once(2, "[Cc]", _LENGTH),
    _once(3, "[Xx]", rf"-[Cc]all-[Ii]d: ({_PRINTABLE})\r\n"),
    rf"[Dd]ate: {_VALUE}()",
    rf"[Xx]-[Dd]uration-[Ss]econds: {_VALUE}()",
    _once(6, "[Cc]", _KEEP_ALIVE),
    _NEAR,
)
_CODES: Final = {b"%d" % code: code for code in range(200, 600) if code not in (204, 304)}
"""Those whose responses have a body where their length says so."""
TRACEPARENT: Final = b"raceparent:"
"""As it is commonly spelt, but for the first letter."""
_SLASH: Final = ord("/")
_SHORTEST_LINE_BYTES: Final = len(b"A: b\r\n")
_KEEP_ALIVE_BYTES: Final = len(b"Connection: keep-alive")
_BEFORE_CALL_ID_BYTES: Final = len(b"\r\nX-Call-Id: ")


class PlainRequest:
    """A judged head of `head_bytes`, announcing a body of `length` bytes or none. The same bytes on any connection come
    to the same: HTTP/1.1 that persists, no upgrade, no expectation.

    `later` where it is to `/async-function/`. Upstream gets `method`, `space`, `rest`, and what the edge adds. With fields in
    which a proxy tells of its client, it is `told`, and `rest` has them; it is `told_by_edge` where they are the three that an
    edge writes, once each, and no others. `traced` where the client may have said something of a trace. `call_id` is the one
    that the client wishes for, or empty.
    """

    __slots__ = (
        "_untold",
        "call_id",
        "head_bytes",
        "host",
        "later",
        "length",
        "method",
        "name",
        "rest",
        "space",
        "told",
        "told_by_edge",
        "traced",
    )

    _untold: bytes

    call_id: bytes
    head_bytes: int
    host: bytes
    later: bool
    length: int
    method: bytes
    name: bytes
    rest: bytes
    space: bytes
    told: bool
    told_by_edge: bool
    traced: bool

    def untold(self) -> bytes:
        """Return `rest` without what a proxy tells of its client."""
        if not self._untold:
            self._untold = _SAID.sub(b"", self.rest)
        return self._untold

    def said(self) -> list[tuple[int, bytes, bytes]]:
        """Return kind, name and value of each field in which a proxy tells of its client."""
        return [
            (_SPELLINGS.get(name) or learn(_SPELLINGS, name, REQUEST), name, value) for name, value in _SAID.findall(self.rest)
        ]


class PlainRequests:
    """Reads requests to functions."""

    __slots__ = ("_known", "_most_body_bytes", "_most_bytes", "_most_fields", "_next", "_small_bytes", "_traces")

    def __init__(self, settings: EdgeSettings) -> None:
        self._traces = bool(settings.spans)
        self._most_bytes = min(PLAIN_HEAD_BYTES, settings.max_header_bytes)
        self._most_fields = settings.max_header_fields
        self._small_bytes = settings.max_header_fields * _SHORTEST_LINE_BYTES
        self._most_body_bytes = settings.max_body_bytes or maxsize
        self._known: dict[bytes, PlainRequest] = {}
        self._next = PlainRequest()

    def forget(self) -> None:
        """Remember nothing."""
        self._known.clear()

    def read(self, data: bytes) -> PlainRequest | None:
        """Return the head of a read that is one whole plain request and nothing else, or None.

        It is the caller's until the next call: its object is used again.
        """
        if len(data) <= KNOWN_READ_BYTES and (known := self._known.get(data)) is not None:
            return known
        match = _REQUEST(data, 0, self._most_bytes)
        if match is None:
            return None
        method, later, name, _, host, digits, keep_alive, call_id, three, x_forwarded, forwarded = match.groups()
        head_bytes = match.end()
        length = int(digits) if digits is not None else 0
        if host is None or len(data) != head_bytes + length or length > self._most_body_bytes:
            return None
        if head_bytes > self._small_bytes and data.count(b"\r\n", 0, head_bytes) > self._most_fields + 2:
            return None
        plain = self._next
        plain.head_bytes = head_bytes
        plain.length = length
        plain.method = method
        plain.name = name
        plain.host = host
        path = match.start(4)
        plain.later = later is not None
        if plain.later:
            plain.space = b" /async-function/" + name
        else:
            plain.space = b" " if data[path] == _SLASH else b" /"
        if keep_alive is None:
            plain.rest = data[path : head_bytes - 2]
        else:
            cut = match.start(7)
            plain.rest = data[path : cut - _KEEP_ALIVE_BYTES] + data[cut + 2 : head_bytes - 2]
        if call_id is None:
            plain.call_id = b""
        else:
            plain.call_id = call_id
            start, end = match.span(8)
            plain.rest = plain.rest.replace(data[start - _BEFORE_CALL_ID_BYTES : end + 2], b"\r\n", 1)
        others = x_forwarded is not None or forwarded is not None
        plain.told = others or three is not None
        plain.told_by_edge = not others and three is not None
        plain._untold = b""
        plain.traced = self._traces and TRACEPARENT in plain.rest
        if call_id is None and len(self._known) < KNOWN_READS and len(data) <= KNOWN_READ_BYTES:
            self._known[data] = plain
            self._next = PlainRequest()
        return plain


class PlainResponse:
    """A judged head of `head_bytes`, announcing a body of `length` bytes on a connection that persists.

    The client gets `head`, the call's marks, the duration and the date unless they are among the fields, and the body.
    `call_id` is the one that it says the call has, or empty.
    """

    __slots__ = ("call_id", "code", "dated", "head", "head_bytes", "timed")

    call_id: bytes
    code: int
    dated: bool
    head: bytes
    head_bytes: int
    timed: bool

    def to_client(self, call: Call, now: float, date: bytes, data: bytes) -> bytes:
        """Return the whole response for a client that speaks HTTP/1.1 and stays; `data` is the read that this is of."""
        duration = b"" if self.timed else b"X-Duration-Seconds: %.6f\r\n" % (now - call.started)
        return b"".join((self.head, call.marks, duration, b"" if self.dated else date, data[self.head_bytes - 2 :]))


class PlainResponses:
    """Reads responses."""

    __slots__ = ("_known", "_next")

    def __init__(self) -> None:
        self._known: dict[bytes, PlainResponse] = {}
        self._next = PlainResponse()

    def forget(self) -> None:
        """Remember nothing."""
        self._known.clear()

    def read(self, data: bytes) -> PlainResponse | None:
        """Return the head of a read that is one whole plain response and nothing else, or None.

        It is the caller's until the next call: its object is used again.
        """
        if len(data) <= KNOWN_READ_BYTES and (known := self._known.get(data)) is not None:
            return known
        match = _RESPONSE(data, 0, PLAIN_HEAD_BYTES)
        if match is None:
            return None
        code, digits, call_id, date, duration, keep_alive = match.groups()
        head_bytes = match.end()
        code = _CODES.get(code)
        if code is None or digits is None or len(data) != head_bytes + int(digits):
            return None
        plain = self._next
        plain.head_bytes = head_bytes
        plain.code = code
        plain.dated = date is not None
        plain.timed = duration is not None
        if keep_alive is None:
            plain.head = data[: head_bytes - 2]
        else:
            cut = match.start(6)
            plain.head = data[: cut - _KEEP_ALIVE_BYTES] + data[cut + 2 : head_bytes - 2]
        if call_id is None:
            plain.call_id = b""
        else:
            plain.call_id = call_id
            start, end = match.span(3)
            plain.head = plain.head.replace(data[start - _BEFORE_CALL_ID_BYTES : end + 2], b"\r\n", 1)
        if call_id is None and len(self._known) < KNOWN_READS and len(data) <= KNOWN_READ_BYTES:
            self._known[data] = plain
            self._next = PlainResponse()
        return plain
