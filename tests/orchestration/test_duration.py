from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.duration import InvalidDuration, format_duration, parse_duration_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("0", 0),
        ("1.5", 1.5),
        ("30s", 30),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("1h", 3600),
        ("1.5h", 5400),
        ("2us", 2e-6),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "1 m", "-1s", "1x", "1m30", "abc", "1s foo", "inf", "nan", "²"])
def test_not_durations(text: str) -> None:
    with pytest.raises(InvalidDuration):
        parse_duration_s(text)


@given(st.integers(1, 10**7))
def test_what_is_written_reads_back(seconds: int) -> None:
    assert parse_duration_s(format_duration(seconds)) == seconds
