from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.simulator.drawing import bars, clock, lines, number, ticks, time_ticks
from tests.autoscaler.simulator.test_comparison import small


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (0, [0, 1]),
        (5, [0, 1, 2, 3, 4, 5]),
        (4689, [0, 1000, 2000, 3000, 4000, 5000]),
        (0.3, [0, 0.1, 0.2, 0.3]),
        (66, [0, 20, 40, 60, 80]),
    ],
)
def test_ticks(most: float, expected: list[float]) -> None:
    assert ticks(most) == pytest.approx(expected)


@given(st.floats(1e-6, 1e12))
def test_ticks_are_few_even_and_reach_the_most(most: float) -> None:
    found = ticks(most)
    assert 2 <= len(found) <= 8
    assert found[-1] >= most * (1 - 1e-6)
    assert found[1] * (len(found) - 1) == pytest.approx(found[-1])


def test_the_time_axis_has_the_unit_of_its_length() -> None:
    assert [clock(moment, 8 * 3600) for moment in time_ticks(8 * 3600)][:3] == ["0h", "1h", "2h"]
    assert [clock(moment, 600) for moment in time_ticks(600)][:3] == ["0m", "2m", "4m"]
    assert clock(20, 90) == "20s"
    assert (number(12345.6), number(12.345), number(0)) == ("12,346", "12.3", "0")


def test_what_is_drawn(tmp_path: Path) -> None:
    comparison = small(tmp_path)
    cold = bars(comparison)[0]
    assert [(bar.name, bar.low <= bar.value <= bar.high) for bar in cold.bars] == [("pinnace", True), ("knative", True)]
    replicas, so_far, calls = lines(comparison)
    assert [line.name for line in replicas.lines] == ["pinnace", "knative"]
    assert so_far.lines[0].values[-1] == comparison.results[0].runs[0].cold_starts
    assert sum(calls.lines[0].values) * 180 / len(calls.lines[0].values) == pytest.approx(38)
