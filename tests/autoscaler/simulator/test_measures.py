from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.simulator.measures import Measures, Timeline, Waits


def test_percentiles_count_calls_that_did_not_wait() -> None:
    waits = Waits()
    for wait_s in [0.0] * 90 + [1.0] * 8 + [5.0] * 2:
        waits.add(wait_s)
    assert [waits.percentile_s(p) for p in (50, 90, 95, 98, 99, 100)] == pytest.approx([0, 0, 1, 1, 5, 5], rel=0.005)
    assert (waits.longest_s, waits.total_s) == (5.0, 18.0)


@given(st.lists(st.floats(0, 1e4), min_size=1), st.lists(st.floats(0, 1e4)), st.sampled_from([1, 50, 95, 99, 100]))
def test_percentiles_are_those_of_the_list_and_merging_is_adding(one: list[float], two: list[float], percent: int) -> None:
    waits, other = Waits(), Waits()
    for wait_s in one:
        waits.add(wait_s)
    for wait_s in two:
        other.add(wait_s)
    waits.merge(other)
    all_waits = sorted([*one, *two])
    exact = all_waits[max(0, -(-len(all_waits) * percent // 100) - 1)]
    assert waits.percentile_s(percent) == pytest.approx(exact, rel=0.006, abs=2e-6)


def test_nothing_waited() -> None:
    assert Measures(10.0).figures().wait_p99_s == 0.0


def test_replicas_are_spread_over_the_parts_of_the_time() -> None:
    timeline = Timeline(100.0, 10)
    assert timeline.hold(2, 5.0, 35.0) == 60.0
    assert timeline.replica_s == [10, 20, 20, 10, 0, 0, 0, 0, 0, 0]
    assert timeline.hold(1, 95.0, 250.0) == 5.0, "what is later than the end does not count"
    assert timeline.hold(1, 120.0, 250.0) == 0.0
