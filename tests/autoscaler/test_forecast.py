from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.forecast import Forecast


def of(*idle_times: float) -> Forecast:
    forecast = Forecast()
    for seconds in idle_times:
        forecast.add(seconds)
    return forecast


@pytest.mark.parametrize(
    ("idle_times", "due"),
    [
        ((300, 300, 300, 300), None),  # four are too few
        ((300, 300, 300, 300, 300), (298.5, 301.5)),  # half a percent
        ((10, 10, 10, 10, 10), (9, 11)),  # a second
        ((300, 302, 301, 299, 300), (293, 308)),  # twice the difference
        ((900, 300, 302, 301, 299, 300), (293, 308)),  # the last five only
        ((300, 300, 300, 300, 2), None),
    ],
)
def test_the_next_is_due_as_the_last_five_were(idle_times: tuple[float, ...], due: tuple[float, float] | None) -> None:
    assert of(*idle_times).due() == due


def test_failures_are_counted_and_fade() -> None:
    assert of(*[300] * 5).fails == 0.5
    assert of(*[300] * 6).fails == pytest.approx(1 / 3)
    assert of(*[300] * 40).fails < 0.04
    failed = of(*[300] * 40, 200)
    assert failed.fails > 0.05
    for _ in range(100):
        failed.add(300)
    assert failed.fails < 0.03


@settings(deadline=None)
@given(st.lists(st.floats(1, 1e6), max_size=80))
def test_what_is_known_stays_in_bounds_and_reads_back(idle_times: list[float]) -> None:
    forecast = of(*idle_times)
    due = forecast.due()
    assert due is None or 0 < due[0] < due[1]
    assert 0 < forecast.fails < 1
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(forecast), type=Forecast) == forecast


@pytest.mark.parametrize(
    "damaged", [[[0.5], 0, 0], [[1.0] * 6, 0, 0], [[float("inf")], 0, 0], [[], 1.0, 2.0], [[], 51.0, 0], [[], -1, -1]]
)
def test_what_no_idle_times_give_is_refused(damaged: list[object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(damaged, Forecast)
