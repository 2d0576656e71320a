"""W3C Trace Context, by its own examples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.trace_context import Parent, header, parse, read, without

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
GOOD = b"00-" + TRACE + b"-" + SPAN + b"-01"


@pytest.mark.parametrize(
    ("value", "parent"),
    [
        (GOOD, Parent(TRACE, SPAN, True)),
        (GOOD[:-2] + b"00", Parent(TRACE, SPAN, False)),
        (GOOD[:-2] + b"03", Parent(TRACE, SPAN, True)),
        (b"cc" + GOOD[2:], Parent(TRACE, SPAN, True)),
        (b"cc" + GOOD[2:] + b"-what-the-future-says", Parent(TRACE, SPAN, True)),
        (b"cc" + GOOD[2:] + b".what", None),
        (GOOD + b"-more", None),
        (b"ff" + GOOD[2:], None),
        (GOOD.upper(), None),
        (b"00-" + b"0" * 32 + b"-" + SPAN + b"-01", None),
        (b"00-" + TRACE + b"-" + b"0" * 16 + b"-01", None),
        (GOOD[:-1], None),
        (b"", None),
    ],
)
def test_what_a_value_says(value: bytes, parent: Parent | None) -> None:
    assert parse(value) == parent


@given(st.binary(max_size=80))
def test_anything_can_be_asked(value: bytes) -> None:
    parent = parse(value)
    assert parent is None or header(parent.trace, parent.span)[13:-4].endswith(parent.trace + b"-" + parent.span)


def lines(*fields: bytes) -> bytes:
    return b"/path HTTP/1.1\r\n" + b"".join(field + b"\r\n" for field in fields)


@pytest.mark.parametrize("name", [b"traceparent", b"Traceparent", b"TRACEPARENT"])
def test_it_is_found_among_the_lines_of_a_head(name: bytes) -> None:
    assert read(lines(b"A: b", name + b": " + GOOD, b"C: d")) == Parent(TRACE, SPAN, True)
    assert read(lines(name + b":" + GOOD + b" ")) == Parent(TRACE, SPAN, True)


def test_two_are_none() -> None:
    assert read(lines(b"traceparent: " + GOOD, b"traceparent: " + GOOD)) is None


def test_what_only_looks_like_it_is_not_it() -> None:
    assert read(lines(b"X: traceparent: " + GOOD)) is None
    assert read(lines(b"X-traceparent: " + GOOD)) is None


def test_lines_are_taken_out() -> None:
    told = lines(b"A: b", b"TraceParent: x", b"tracestate: y", b"X: traceparent: z", b"traceparent: " + GOOD)
    assert without(told, state=False) == lines(b"A: b", b"tracestate: y", b"X: traceparent: z")
    assert without(told, state=True) == lines(b"A: b", b"X: traceparent: z")
