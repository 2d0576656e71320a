from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.decider import decide
from orchestration.settings import ScaleSettings

ZERO = ScaleSettings(min_replicas=1, max_replicas=4, zero=True, zero_after_s=60)
STAYS = ScaleSettings(min_replicas=2, max_replicas=4)


@pytest.mark.parametrize(
    ("name", "settings", "wanted", "in_flight", "queued", "idle_s", "replicas"),
    [
        ("a waiting call wakes it with one", ZERO, 0, 0, 1, 0, 1),
        ("a waiting call wakes it with the floor", STAYS, 0, 0, 9, 0, 2),
        ("zero by hand stays zero", STAYS, 0, 0, 0, 999, 0),
        ("idle not long enough", ZERO, 1, 0, 0, 59.9, 1),
        ("idle long enough", ZERO, 3, 0, 0, 60, 0),
        ("idle but not allowed to zero", STAYS, 2, 0, 0, 9999, 2),
        ("busy is never idle", ZERO, 1, 1, 0, 9999, 1),
        ("waiting is never idle", ZERO, 1, 0, 1, 9999, 1),
        ("below the floor", STAYS, 1, 5, 0, 0, 2),
        ("above the ceiling", STAYS, 9, 5, 0, 0, 4),
        ("inside the bounds a scale by hand is kept", STAYS, 3, 0, 0, 0, 3),
    ],
)
def test_decide(
    name: str, settings: ScaleSettings, wanted: int, in_flight: int, queued: int, idle_s: float, replicas: int
) -> None:
    decision = decide(settings, wanted=wanted, in_flight=in_flight, queued=queued, idle_s=idle_s)
    assert decision.replicas == replicas, name
    assert decision.reason


@given(
    low=st.integers(0, 50),
    extra=st.integers(0, 50),
    zero=st.booleans(),
    wanted=st.integers(0, 200),
    in_flight=st.integers(0, 1000),
    queued=st.integers(0, 1000),
    idle_s=st.floats(0, 1e6),
)
def test_bounds_hold_and_calls_never_find_zero(
    low: int, extra: int, zero: bool, wanted: int, in_flight: int, queued: int, idle_s: float
) -> None:
    settings = ScaleSettings(low, max(1, low + extra), zero)
    replicas = decide(settings, wanted=wanted, in_flight=in_flight, queued=queued, idle_s=idle_s).replicas
    assert replicas <= settings.max_replicas
    assert replicas == 0 or replicas >= settings.min_replicas
    if queued:
        assert replicas >= 1
