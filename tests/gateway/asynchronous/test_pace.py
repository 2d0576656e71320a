"""Who finds a queue full is told to come back when there will be room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.asynchronous.pace import LATEST_S, SOONEST_S, UNKNOWN_S, WINDOW_S, Pace, retry_after_s


@pytest.mark.parametrize(
    ("waiting", "ends_per_s", "wait_s"),
    [
        (1_000, None, UNKNOWN_S),
        (1_000, 5.0, 20),
        (1_000_000, 1_000.0, 100),
        (1_000_000, 10.0, LATEST_S),
        (1_000, 5_000.0, SOONEST_S),
        (2, 0.5, 2),  # one call is a place, however few wait
        (0, 0.5, 2),
        (1_000, 0.0, LATEST_S),
    ],
)
def test_one_comes_back_when_a_tenth_is_gone(waiting: int, ends_per_s: float | None, wait_s: int) -> None:
    assert retry_after_s(waiting, ends_per_s) == wait_s


@given(st.integers(0, 10**9), st.none() | st.floats(0, 1e9), st.floats(1, 10))
def test_the_wait_has_bounds_and_is_no_longer_where_more_ends(waiting: int, ends_per_s: float | None, faster: float) -> None:
    wait_s = retry_after_s(waiting, ends_per_s)
    assert SOONEST_S <= wait_s <= LATEST_S
    if ends_per_s is not None:
        assert retry_after_s(waiting, ends_per_s * faster) <= wait_s


def test_the_pace_is_that_of_the_last_seconds() -> None:
    pace = Pace(0.0)
    assert pace.per_s("q", 1.0) is None
    for second in range(40):
        for _ in range(5):
            pace.ended("q", second)
    assert pace.per_s("q", 40.0) == pytest.approx(5.0, rel=0.1)
    assert pace.per_s("other", 40.0) == 0.0
    assert pace.per_s("q", 40.0 + WINDOW_S / 2) == pytest.approx(3.5, rel=0.3)  # it stands still
    assert pace.per_s("q", 40.0 + 2 * WINDOW_S) == 0.0


def test_a_queue_that_has_only_just_filled_is_not_taken_to_stand_still() -> None:
    pace = Pace(0.0)
    assert pace.per_s("new", 100.0, due_for_s=2.0) is None
    assert pace.per_s("new", 100.0, due_for_s=WINDOW_S) == 0.0


def test_a_first_end_says_nothing_yet() -> None:
    pace = Pace(0.0)
    pace.ended("q", 100.0)
    assert pace.per_s("q", 100.1) is None
    assert pace.per_s("q", 105.0) == pytest.approx(0.2)
    pace.forget("q")
    assert pace.per_s("q", 105.0) == 0.0
