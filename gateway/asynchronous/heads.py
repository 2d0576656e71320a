"""Heads of messages between edge, acceptor and workers, read without the parser where they are as the edge writes them.

Most of these messages come whole in one read, with a body of a told length. Such a one matches a pattern that is narrower than
RFC 9112, and its lines are split as they are. Whatever does not match goes to httptools, which finds the same in what does;
tests/gateway/asynchronous/test_heads.py looks for a difference.

Names of fields come in few spellings: what is known of one is remembered (`Spellings`), so that no name is put into lower case
twice.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final, NamedTuple

from gateway.asynchronous.calls import Headers

_NAME: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_VALUE: Final = rb"(?![ ])[^\x00-\x1f\x7f]*+"
_LINES: Final = rb"((?:%b: %b\r\n)++)\r\n" % (_NAME, _VALUE)
_REQUEST: Final = re.compile(rb"([A-Z]++) (/[!-~]*+) HTTP/1\.1\r\n" + _LINES).match
_RESPONSE: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) [ -~]*+\r\n" + _LINES).match
_METHODS: Final = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"))
_LENGTH: Final = "content-length"
_FRAMING: Final = frozenset((_LENGTH, "transfer-encoding", "connection", "upgrade", "expect", "trailer", "proxy-connection"))
_BODILESS: Final = (204, 304)
_REMEMBERED: Final = 4096


class Spellings(dict[str, str]):
    """From a field's name as it is spelt to its lower-case form where that is in `meant`, else to nothing."""

    def __init__(self, meant: Container[str]) -> None:
        super().__init__()
        self._meant = meant

    def __missing__(self, name: str) -> str:
        lowered = name.lower()
        meaning = lowered if lowered in self._meant else ""
        if len(self) < _REMEMBERED and len(name) <= 64:
            self[name] = meaning
        return meaning


class WholeRequest(NamedTuple):
    """A request that came whole, with all its fields."""

    method: str
    target: str
    headers: Headers
    body: bytes


class WholeResponse(NamedTuple):
    """A response that came whole, with all its fields, on a connection that persists."""

    status: int
    headers: Headers
    body: bytes


_framing: Final = Spellings(_FRAMING)


def whole_request(data: bytes) -> WholeRequest | None:
    """Return the request that is all of `data`; None where the parser is to look."""
    if (match := _REQUEST(data)) is None:
        return None
    method, target, lines = match.groups()
    headers = _fields(lines)
    length = _length(headers)
    end = match.end()
    if length is None or len(data) - end != length or (name := method.decode()) not in _METHODS:
        return None
    return WholeRequest(name, target.decode(), headers, data[end:])


def whole_response(data: bytes) -> WholeResponse | None:
    """Return the response, to a request other than HEAD, that is all of `data`; None where the parser is to look."""
    if (match := _RESPONSE(data)) is None:
        return None
    status, lines = match.groups()
    headers = _fields(lines)
    length = _length(headers)
    end, code = match.end(), int(status)
    if length is None or len(data) - end != length or code in _BODILESS or not (length or _says_length(headers)):
        return None
    return WholeResponse(code, headers, data[end:])


def _fields(lines: bytes) -> Headers:
    return tuple([tuple(line.split(": ", 1)) for line in lines[:-2].decode("latin-1").split("\r\n")])  # type: ignore[misc]


def _length(headers: Headers) -> int | None:
    """Return the body's length (0 where none is told); None where the framing is anything else than one length."""
    length = None
    for name, value in headers:
        if not (meaning := _framing[name]):
            continue
        if meaning != _LENGTH or length is not None or not (value.isascii() and value.isdigit()) or len(value) > 18:
            return None
        length = int(value)
    return length or 0


def _says_length(headers: Headers) -> bool:
    return any(_framing[name] == _LENGTH for name, _ in headers)
