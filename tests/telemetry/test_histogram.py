"""Durations in buckets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from telemetry.histogram import Histogram

BOUNDS = (0.1, 1.0)
Values = st.lists(st.floats(0, 100), max_size=30)


def counted(values: list[float]) -> Histogram:
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.observe(BOUNDS, value)
    return histogram


def test_bounds_are_inclusive() -> None:
    histogram = counted([0.1, 0.1000001, 1.0, 1.1])
    assert (histogram.buckets, histogram.count) == ([1, 2, 1], 4)


@given(Values, Values)
def test_parts_add_up_to_the_whole(first: list[float], second: list[float]) -> None:
    whole = counted(first)
    earlier = whole.copy()
    for value in second:
        whole.observe(BOUNDS, value)
    added = whole.since(earlier)
    assert added.buckets == counted(second).buckets
    earlier.add(added)
    assert earlier.buckets == whole.buckets
    assert abs(earlier.seconds - whole.seconds) < 1e-6


def test_only_the_last_exemplar_of_a_bucket_is_kept_and_told_once() -> None:
    histogram = counted([0.5, 0.6])
    histogram.illustrate(1, ("a", 0.5, 1.0))
    told = histogram.copy()
    histogram.illustrate(1, ("b", 0.6, 2.0))
    assert histogram.since(told).exemplars == {1: ("b", 0.6, 2.0)}
    assert histogram.since(histogram.copy()).exemplars is None
    told.add(histogram.since(told))
    assert told.exemplars == {1: ("b", 0.6, 2.0)}
