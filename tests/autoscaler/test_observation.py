"""What edges tell becomes averages: exact over time, over seconds and over edges."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.observation import Observed
from orchestration.scaling import Aggregation, Metric, ScaleSettings
from tests.autoscaler.samples import sample

CONCURRENCY = ScaleSettings()


def test_the_parts_of_one_second_are_its_average() -> None:
    observed = Observed(CONCURRENCY, 100)
    observed.sample(sample(concurrency=10, interval_s=0.4), 100.4)
    assert observed.averages(100.4) == (10, 10)
    observed.sample(sample(concurrency=20, interval_s=0.6), 100.99)
    assert observed.averages(100.99) == pytest.approx((16, 16), rel=0.02)


def test_an_interval_is_spread_over_the_seconds_it_covers() -> None:
    observed = Observed(CONCURRENCY, 100)
    observed.sample(sample(concurrency=4, interval_s=2.5), 102.5)
    assert observed.averages(102.5) == (4, 4)
    observed.sample(sample(concurrency=0, interval_s=0.5), 103.0)
    stable, _ = observed.averages(103.9) or (0, 0)
    assert stable == pytest.approx((4 + 4 + 2) / 3)


def test_edges_add_up() -> None:
    observed = Observed(CONCURRENCY, 100)
    for edge, concurrency in (("e0", 3), ("e1", 5)):
        observed.sample(sample(concurrency=concurrency, in_flight=concurrency, edge=edge), 101)
    assert observed.averages(101) == (8, 8)
    assert (observed.in_flight, observed.load) == (8, 8)
    assert observed.forget_edge("e1")
    assert not observed.forget_edge("e1")
    assert observed.load == 3


def test_silence_of_edges_is_no_load() -> None:
    observed = Observed(CONCURRENCY, 0)
    for second in range(1, 61):
        observed.sample(sample(in_flight=6), second)
    observed.sample(sample(concurrency=0), 61)
    assert observed.averages(90) == pytest.approx((6 * 30 / 60, 0), abs=0.2)
    assert observed.averages(122.5) == (0, 0)


def test_silence_of_a_measured_metric_is_no_news() -> None:
    observed = Observed(ScaleSettings(metric=Metric.CPU, target=100), 0)
    assert observed.averages(0) is None
    observed.measured(300, 10)
    observed.measured(500, 15)
    assert observed.averages(16) == pytest.approx(((300 + 5 * 500) / 6, 500))
    assert observed.averages(74) is not None
    assert observed.averages(75) is None


def test_calls_a_second() -> None:
    observed = Observed(ScaleSettings(metric=Metric.RPS, target=50), 0)
    for second in range(1, 11):
        observed.sample(sample(arrivals=30, edge="e0"), second)
        observed.sample(sample(arrivals=12, edge="e1"), second)
    assert observed.averages(10) == (42, 42)


def test_a_queue_is_counted_where_it_is_the_metric() -> None:
    observed = Observed(ScaleSettings(metric=Metric.QUEUE, target=50), 0)
    observed.sample(sample(in_flight=10, queued=7), 1)
    assert observed.averages(0.9) == (7, 7)


def test_weighted_seconds() -> None:
    observed = Observed(ScaleSettings(window_s=6, panic_percent=50, aggregation=Aggregation.WEIGHTED_EXPONENTIAL), 0)
    observed.sample(sample(in_flight=10), 1)
    stable, panic = observed.averages(0.9) or (0, 0)
    assert 0 < stable < panic < 10


def test_how_long_the_oldest_call_has_waited() -> None:
    observed = Observed(CONCURRENCY, 0)
    assert observed.waited_s(5) == 0
    observed.sample(sample(queued=1, oldest_wait_s=0.5, edge="e0"), 10)
    observed.sample(sample(queued=3, oldest_wait_s=2.0, edge="e1"), 10)
    assert observed.waited_s(11) == 3
    observed.sample(sample(edge="e1"), 11)
    assert observed.waited_s(11) == 1.5


def test_idle_times_are_told_by_the_call_that_ends_them() -> None:
    observed = Observed(CONCURRENCY, 0)
    assert observed.sample(sample(arrivals=1, in_flight=1, interval_s=0), 10) is None, "the first call ends no known idle time"
    assert observed.sample(sample(concurrency=0.5), 11) is None
    assert observed.sample(sample(), 12) is None
    assert observed.last_active == 11
    assert observed.sample(sample(arrivals=1, in_flight=1, interval_s=0), 41) == 30


def test_a_rest_keeps_nothing_but_calls_in_flight() -> None:
    observed = Observed(CONCURRENCY, 0)
    observed.sample(sample(in_flight=3, edge="e0"), 1)
    observed.sample(sample(edge="e1"), 1)
    observed.rest()
    assert observed.resting
    assert observed.load == 3
    assert observed.averages(1) == (0, 0)
    assert not observed.forget_edge("e1")


def test_another_metric_forgets_the_old_one() -> None:
    observed = Observed(CONCURRENCY, 0)
    observed.sample(sample(in_flight=3), 1)
    observed.configure(ScaleSettings(metric=Metric.RPS, target=50))
    assert observed.averages(1) == (0, 0)
    observed.sample(sample(arrivals=5), 2)
    assert observed.averages(2) == (5, 5)


def test_another_window_keeps_what_was_told() -> None:
    observed = Observed(CONCURRENCY, 0)
    for second in range(1, 11):
        observed.sample(sample(in_flight=second), second)
    observed.configure(ScaleSettings(window_s=6))
    stable, _ = observed.averages(9.5) or (0, 0)
    assert stable == pytest.approx((5 + 6 + 7 + 8 + 9 + 10) / 6)


@given(
    intervals=st.lists(st.tuples(st.floats(0.15, 1.5), st.just(0.0) | st.floats(0.01, 50)), min_size=1, max_size=40),
    offset=st.floats(0, 0.85),
)
def test_the_sum_over_whole_seconds_is_exactly_the_load(intervals: list[tuple[float, float]], offset: float) -> None:
    """One edge that tells without a gap: each second that is over holds the load's integral over it."""
    observed, now = Observed(ScaleSettings(window_s=600), 0), 1000 + offset
    pieces = []
    for interval_s, concurrency in intervals:
        pieces.append((now, now + interval_s, concurrency))
        now += interval_s
        observed.sample(sample(concurrency=concurrency, interval_s=interval_s), now)
    first, over = int(1000 + offset), ceil(now) + 1
    observed.sample(sample(concurrency=0, interval_s=over - now), over)  # so that the last second is over
    stable, _ = observed.averages(over) or (0, 0)
    area = sum((end - start) * concurrency for start, end, concurrency in pieces)
    start_covered = 1 - offset  # the first second counts for the time that was told of
    if first == int(now):
        return  # all within one second
    head = sum((min(end, first + 1) - start) * c for start, end, c in pieces if start < first + 1)
    expected = area - head + head / start_covered
    if any(concurrency for _, _, concurrency in pieces):
        began = next(int(start) for start, _, concurrency in pieces if concurrency)
        seconds = over - began
        assert stable * seconds == pytest.approx(expected, abs=1e-3 * seconds)
