from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.lead_time import LeadTime


def after(*starts: float) -> float:
    lead_time = LeadTime()
    for seconds in starts:
        lead_time.started(seconds)
    return lead_time.lead_s


@pytest.mark.parametrize(
    ("starts", "lead_s"),
    [
        ([], 1.0),
        ([2.0], 2.5),
        ([0.003], 0.25),  # a fork of a zygote
        ([2.0, 4.0, 2.0], 5.0),  # the longest of a few
        ([2.0] * 19 + [60.0], 2.5),  # one mishap of twenty
        ([2.0] * 18 + [60.0] * 2, 75.0),
        ([60.0] * 20 + [2.0] * 19, 2.5),  # long ago
        ([1000.0], 300.0),
        ([-1.0], 0.25),
        ([nan, inf], 1.0),
    ],
)
def test_the_lead_covers_what_starts_take(starts: list[float], lead_s: float) -> None:
    assert after(*starts) == pytest.approx(lead_s)


@settings(deadline=None)
@given(st.lists(st.floats(0, 200), min_size=1, max_size=60))
def test_all_but_one_of_the_last_twenty_would_have_been_in_time(starts: list[float]) -> None:
    late = [seconds for seconds in starts[-20:] if seconds > after(*starts)]
    assert len(late) <= 1
