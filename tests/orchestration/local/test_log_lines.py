"""Lines out of what a replica writes."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from orchestration.local.log_lines import CUT, LONGEST_LINE_BYTES, Lines


@given(st.lists(st.text(st.characters(exclude_characters="\n\x1e\r", exclude_categories=["Cs"])), max_size=8), st.data())
def test_lines_come_out_as_they_went_in_however_they_are_cut(texts: list[str], data: st.DataObject) -> None:
    stream = "".join(f"{text}\n" for text in texts).encode()
    lines, found = Lines(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += lines.feed(stream[:size])
        stream = stream[size:]
    assert found + lines.end() == [("", text) for text in texts]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b"\x1ecall-1\x1fhello\n", [("call-1", "hello")]),
        (b"plain\r\n", [("", "plain")]),
        (b"\x1ebroken frame\n", [("", "\x1ebroken frame")]),
        (b"\x1e" + b"x" * 200 + b"\x1ftext\n", [("", "\x1e" + "x" * 200 + "\x1ftext")]),
        (b"no end", [("", "no end")]),
        (b"\xff\xfe\n", [("", "\ufffd\ufffd")]),
        (b"\n\n", [("", ""), ("", "")]),
    ],
)
def test_frames(written: bytes, expected: list[tuple[str, str]]) -> None:
    lines = Lines()
    assert lines.feed(written) + lines.end() == expected


def test_a_line_of_a_mebibyte_is_whole_and_a_longer_one_is_cut_and_marked() -> None:
    lines = Lines()
    assert lines.feed(b"x" * LONGEST_LINE_BYTES + b"\nnext\n") == [("", "x" * LONGEST_LINE_BYTES), ("", "next")]
    found = []
    for _ in range(40):
        found += lines.feed(b"y" * (64 << 10))
    found += lines.feed(b"end\nnext\n")
    assert found == [("", "y" * LONGEST_LINE_BYTES + CUT), ("", "next")]
