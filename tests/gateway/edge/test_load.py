"""Exact load."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.edge.load import LoadMeter


def test_three_calls_for_a_fifth_and_one_for_the_rest() -> None:
    meter = LoadMeter(10.0)
    for _ in range(3):
        meter.arrived(10.0)
    meter.left(10.2)
    meter.left(10.2)
    assert list(meter.read(11.0)) == pytest.approx([1.0, 1.4, 3])
    assert list(meter.read(12.0)) == pytest.approx([1.0, 1.0, 0])


def test_no_time_has_passed() -> None:
    meter = LoadMeter(0.0)
    meter.arrived(0.0)
    assert meter.read(0.0) == (0.0, 1.0, 1)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), max_size=20), st.lists(st.floats(0, 200), max_size=5))
def test_the_integral_is_the_sum_of_durations_however_often_it_is_read(
    calls: list[tuple[float, float]], readings: list[float]
) -> None:
    changes = [(start, 0) for start, _ in calls] + [(start + length, 1) for start, length in calls]
    events = sorted(changes + [(at, 2) for at in readings])
    meter = LoadMeter(0.0)
    area = 0.0
    for at, kind in events:
        if kind == 0:
            meter.arrived(at)
        elif kind == 1:
            meter.left(at)
        else:
            interval_s, average, _ = meter.read(at)
            area += interval_s * average
    interval_s, average, _ = meter.read(300.0)
    assert area + interval_s * average == pytest.approx(sum(length for _, length in calls), abs=1e-6)
