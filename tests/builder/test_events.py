from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from builder.events import LONGEST_TEXT, BuildEvent, one_line


@given(
    text=st.text()
    | st.text("\x1b\n\r\t[3m\x00\u2028", max_size=20)
    | st.integers(0, 3 * LONGEST_TEXT).map("\U0001f600".__mul__)
)
def test_any_text_becomes_one_short_line(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert len(line) <= LONGEST_TEXT
    assert "\x1b" not in line


def test_colours_and_tabs_go() -> None:
    assert one_line("\x1b[31mred\x1b[0m\tblue\n") == " red     blue"


def test_the_longest_event_fits_in_the_line_that_stock_clients_read() -> None:
    longest = "\U0001f600" * LONGEST_TEXT
    event = BuildEvent([longest], "a" * 255, "failed", longest, 1.5)
    assert len(msgspec.json.encode(event)) < 64 * 1024


def test_only_success_and_failure_are_final() -> None:
    assert [BuildEvent([], "x", status).is_final for status in ("in_progress", "success", "failed")] == [False, True, True]
