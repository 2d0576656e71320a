from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.monitor.percentiles import percentile

BOUNDS = (0.001, 0.005, 0.01, 0.1)


@pytest.mark.parametrize(
    ("buckets", "part", "expected"),
    [
        ([0, 0, 0, 0, 0], 0.5, None),
        ([0, 0, 100, 0, 0], 0.5, 0.0075),
        ([100, 0, 0, 0, 0], 0.99, 0.00099),
        ([50, 50, 0, 0, 0], 0.5, 0.001),
        ([90, 0, 0, 10, 0], 0.95, 0.055),
        ([0, 0, 0, 0, 7], 0.5, 0.1),
        ([1, 0, 0, 0, 0], 1.0, 0.001),
    ],
)
def test_within_a_bucket_values_are_evenly_spread(buckets: list[int], part: float, expected: float | None) -> None:
    found = percentile(BOUNDS, buckets, part)
    assert found == (expected if expected is None else pytest.approx(expected))


@given(st.lists(st.integers(0, 1000), min_size=5, max_size=5), st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_a_higher_part_is_never_a_shorter_time(buckets: list[int], one: float, other: float) -> None:
    low, high = (percentile(BOUNDS, buckets, part) for part in sorted((one, other)))
    if low is None or high is None:
        assert sum(buckets) == 0
    else:
        assert 0 <= low <= high <= BOUNDS[-1]
