"""Windows: Knative's published examples, and a naive model for everything else."""

from __future__ import annotations

from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.windows import Average, Largest


def test_average_as_knatives_example_goes() -> None:
    window = Average(5)
    assert window.average(0) == 0
    window.record(0, 1)
    assert window.average(0) == 1
    for second, value in enumerate((2, 3, 4, 5), 1):
        window.record(second, value)
    assert window.average(4) == 3
    assert window.average(6) == 4
    assert window.average(9) == 0
    assert window.average(10) == 0
    window.record(6, 91)
    assert window.average(6) == pytest.approx(20.6)
    window.record(66, 1984)
    assert window.average(66) == 1984
    window.record(63, 4)
    assert window.average(66) == (4 + 1984) / 4
    window.record(67, 5)
    assert window.average(67) == (4 + 1984 + 5) / 5


def test_another_length_keeps_the_newest_seconds() -> None:
    window = Average(5)
    for second in range(1, 7):
        window.record(second, second)
    assert window.average(6) == 4
    window.resize(10)
    assert window.average(6) == 4
    window.record(7, 7)
    assert window.average(7) == 4.5
    window.resize(4)
    assert window.average(7) == 5.5


def test_what_is_written_within_a_second_adds_up_and_what_is_too_old_is_ignored() -> None:
    window = Average(3)
    window.record(10.1, 2)
    window.record(10.9, 3)
    window.record(7, 100)
    assert window.average(10.99) == 5


def test_silence_is_zero_up_to_where_it_is_known() -> None:
    window = Average(5)
    window.silent(3)
    assert window.empty
    window.record(10, 6)
    window.silent(9)
    assert window.average(10) == 6
    window.silent(11.5)
    assert window.average(12.9) == 3


def test_weighted_average_as_knatives_example_goes() -> None:
    window = Average(5)
    for second in range(2, 7):
        window.record(second, second)
    assert window.weighted(6) == pytest.approx(5.812, abs=5e-4)
    assert window.weighted(11) == 0


@pytest.mark.parametrize(
    ("length", "share"), [(2, 0.99), (5, 0.84151), (6, 0.78456), (10, 0.60189), (40, 0.20567), (42, 0.2), (600, 0.2)]
)
def test_the_newest_second_weighs_as_knative_says(length: int, share: float) -> None:
    window = Average(length)
    window.record(1, 1)
    assert window.weighted(1) == pytest.approx(share, abs=5e-6)


def test_largest_as_knatives_examples_go() -> None:
    for values, expected in (
        ([5, 6, 5, 7, 5, 5, 1], [5, 6, 6, 7, 7, 7, 7]),
        (
            [5, 8, 5, 7, 5, 5, 1, 4, 4, 4, 4, 9, 3, 4, 2, 1, 0],
            [5, 8, 8, 8, 8, 8, 7, 7, 5, 5, 4, 9, 9, 9, 9, 9, 4],
        ),
    ):
        window, seen = Largest(5), []
        for step, value in enumerate(values):
            window.record(step, value)
            seen.append(window.largest(step))
        assert seen == expected


def test_a_smaller_value_for_the_same_step_lowers_nothing() -> None:
    window = Largest(5)
    window.record(0, 7)
    window.record(0, 3)
    assert window.largest(0) == 7


@given(
    length=st.integers(1, 12),
    writes=st.lists(st.tuples(st.floats(0, 3), st.floats(-0.5, 100)), max_size=60),
    read_after=st.floats(0, 15),
)
def test_average_is_that_of_a_naive_model(length: int, writes: list[tuple[float, float]], read_after: float) -> None:
    window, seconds, now, first = Average(length), dict[int, float](), 0.0, 0
    for step, value in writes:
        now += step
        last = max(seconds, default=None)
        if last is None or floor(now) - last >= length:
            seconds, first = {}, floor(now)
        seconds[floor(now)] = seconds.get(floor(now), 0.0) + value
        window.record(now, value)
    now += read_after
    last = max(seconds, default=-length)
    silent = floor(now) - last
    if silent >= length:
        assert window.average(now) == 0
        return
    inside = [seconds.get(second, 0.0) for second in range(floor(now) - length + 1, last + 1)]
    assert window.average(now) == pytest.approx(sum(inside) / min(last - first + 1, length - silent), abs=1e-5)


@given(length=st.integers(1, 8), values=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=40))
def test_largest_is_that_of_a_naive_model(length: int, values: list[tuple[int, int]]) -> None:
    window, noted, step = Largest(length), list[tuple[int, int]](), 0
    for more, value in values:
        step += more
        noted.append((step, value))
        window.record(step, value)
        assert window.largest(step) == max(v for s, v in noted if s > step - length)
