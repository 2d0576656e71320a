"""W3C Trace Context (https://www.w3.org/TR/trace-context/): reading and writing `traceparent` in a request's head, as bytes.

A valid one of version 00 is `00-TRACE-PARENT-FLAGS`; of a later version what is known of it is read (section 3.2.4). One that
is not valid, or is there twice, counts as absent, and its `tracestate` means nothing.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

SAMPLED: Final = 1
_LINE: Final = re.compile(rb"(?i:traceparent):[ \t]*([^\r\n]*?)[ \t]*\r\n")
_LINES: Final = re.compile(rb"(?<=\n)(?i:traceparent):[^\r\n]*\r\n")
_STATE: Final = re.compile(rb"(?<=\n)(?i:tracestate):[^\r\n]*\r\n")
_VALUE: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?").fullmatch
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16


class Parent(NamedTuple):
    """Where a request comes from: trace id (32 hex digits), span id (16), and whether the caller records it."""

    trace: bytes
    span: bytes
    sampled: bool


def parse(value: bytes) -> Parent | None:
    """Return what a header's value says; None when it is not valid."""
    match = _VALUE(value)
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more is not None) or trace == _NO_TRACE or span == _NO_SPAN:
        return None
    return Parent(trace, span, bool(int(flags, 16) & SAMPLED))


def read(lines: bytes) -> Parent | None:
    """Return what the header lines of a request say, each of them preceded by a line end."""
    values = [match.group(1) for match in _LINE.finditer(lines) if lines[match.start() - 1 : match.start()] == b"\n"]
    return parse(values[0]) if len(values) == 1 else None


def without(lines: bytes, *, state: bool) -> bytes:
    """Return the lines without `traceparent`, and without `tracestate` too when `state`."""
    lines = _LINES.sub(b"", lines)
    return _STATE.sub(b"", lines) if state else lines


def header(trace: bytes, span: bytes) -> bytes:
    """Return the header line of a sampled request."""
    return b"traceparent: 00-%b-%b-01\r\n" % (trace, span)
