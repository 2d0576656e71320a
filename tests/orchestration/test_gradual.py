from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.gradual import GradualSettings, Outcomes, gradual_settings, quantile_s, verdict, wilson
from orchestration.settings import InvalidSetting
from orchestration.spec import FunctionSpec
from telemetry.histogram import Histogram

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SETTINGS = GradualSettings(duration_s=60.0)


def outcomes(calls: int, failed: int = 0, took_s: float = 0.02, slow: int = 0, slow_s: float = 1.0) -> Outcomes:
    """`calls` calls, `slow` of them of `slow_s`, the others of `took_s`."""
    durations = Histogram(BOUNDS_S)
    for n in range(calls):
        durations.observe(BOUNDS_S, slow_s if n < slow else took_s)
    return Outcomes(failed, durations, BOUNDS_S)


ABORTS = {
    "all of a few failed": (outcomes(60), outcomes(3, 3), "3 of 3 calls failed (100 %), 0 of 60 on the old revision"),
    "a tenth failed, none before": (outcomes(600), outcomes(30, 3), "3 of 30 calls failed (10 %)"),
    "six percent failed of many": (outcomes(6000, 30), outcomes(400, 24), "24 of 400 calls failed (6 %)"),
    "fifty times slower": (outcomes(200), outcomes(40, took_s=1.0), "p95 is"),
    "a fifth is slow": (outcomes(200), outcomes(100, slow=20), "over 100 calls"),
}
GOES_ON = {
    "no call at all": (outcomes(0), outcomes(0)),
    "nobody calls the new one": (outcomes(600), outcomes(0)),
    "two failed: that may be chance": (outcomes(600), outcomes(2, 2)),
    "three failed of many, of which few failed before": (outcomes(60), outcomes(60, 3)),
    "both fail, as when a database is away": (outcomes(200, 100), outcomes(40, 21)),
    "nothing to compare with": (outcomes(0), outcomes(40, 40)),
    "slow, but of too few calls": (outcomes(200), outcomes(19, took_s=1.0)),
    "a little slower": (outcomes(200, took_s=0.02), outcomes(100, took_s=0.024)),
    "a few slow ones": (outcomes(200), outcomes(100, slow=6)),
    "few calls, of which the old one had no slow one by chance": (outcomes(20), outcomes(20, slow=4)),
    "faster": (outcomes(200, took_s=1.0), outcomes(100)),
    "the old one is beyond what is told apart": (outcomes(200, took_s=90.0), outcomes(100, took_s=90.0)),
}


@pytest.mark.parametrize("case", ABORTS)
def test_a_revision_that_does_worse_is_told(case: str) -> None:
    old, new, told = ABORTS[case]
    assert told in verdict(old, new, SETTINGS)
    assert "\n" not in verdict(old, new, SETTINGS)


@pytest.mark.parametrize("case", GOES_ON)
def test_what_is_not_shown_is_not_held_against_it(case: str) -> None:
    assert verdict(*GOES_ON[case], SETTINGS) == ""


def test_only_what_is_asked_for_aborts() -> None:
    slow, failing = (outcomes(200), outcomes(40, took_s=1.0)), (outcomes(200), outcomes(40, 40))
    assert verdict(*slow, msgspec.structs.replace(SETTINGS, latency=False)) == ""
    assert verdict(*failing, msgspec.structs.replace(SETTINGS, errors=False)) == ""


@given(st.integers(0, 500), st.integers(0, 500))
def test_the_interval_holds_the_rate_that_was_seen(hits: int, misses: int) -> None:
    low, high = wilson(hits, hits + misses)
    assert 0 <= low <= high <= 1
    if hits + misses:
        assert low - 1e-9 <= hits / (hits + misses) <= high + 1e-9


@given(st.integers(20, 2000), st.floats(0.001, 50), st.integers(0, 100))
def test_a_revision_that_does_as_the_old_one_is_never_given_up(calls: int, took_s: float, failed: int) -> None:
    same = outcomes(calls, min(failed, calls), took_s)
    assert verdict(same, same, SETTINGS) == ""


@pytest.mark.parametrize("tail", [0.03, 0.06, 0.1])
def test_of_two_that_do_the_same_hardly_ever_one_is_given_up_though_it_is_judged_each_second(tail: float) -> None:
    dice, given_up = random.Random(1), 0
    for _ in range(60):
        old, new = outcomes(0), outcomes(0)
        for _ in range(100):  # seconds
            for side in (old, new):
                for _ in range(5):
                    side.durations.observe(BOUNDS_S, 1.0 if dice.random() < tail else 0.02)
            if verdict(old, new, SETTINGS):
                given_up += 1
                break
    assert given_up <= 1


def test_a_quantile_lies_within_its_bucket() -> None:
    spread = outcomes(100, took_s=0.02, slow=10)
    assert 0.01 < quantile_s(spread.durations, BOUNDS_S, 0.5) <= 0.025
    assert 0.5 < quantile_s(spread.durations, BOUNDS_S, 0.95) <= 1.0
    assert quantile_s(outcomes(3, took_s=90).durations, BOUNDS_S, 0.95) == 60.0


def test_annotations_say_how_calls_move() -> None:
    said = {
        "com.pinnace.rollout.duration": "10m",
        "com.pinnace.rollout.steps": "1, 10%, 50",
        "com.pinnace.rollout.abort-on": "errors",
    }
    settings = gradual_settings(FunctionSpec(service="hello", image="x", annotations=said))
    assert settings == GradualSettings(600.0, (1, 10, 50), errors=True, latency=False)
    assert settings.step_s == 200.0
    assert gradual_settings(FunctionSpec(service="hello", image="x")).duration_s == 0
    knative = FunctionSpec(service="hello", image="x", annotations={"serving.knative.dev/rollout-duration": "120s"})
    assert gradual_settings(knative).duration_s == 120


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("duration", "soon"),
        ("duration", "169h"),
        ("steps", "50,25"),
        ("steps", "0,50"),
        ("steps", "50,100"),
        ("steps", "5,x"),
        ("steps", ""),
        ("abort-on", "rain"),
        ("abort-on", "nothing,errors"),
        ("abort-on", ""),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(key: str, text: str) -> None:
    with pytest.raises(InvalidSetting, match=f"com.pinnace.rollout.{key}"):
        gradual_settings(FunctionSpec(service="hello", image="x", annotations={f"com.pinnace.rollout.{key}": text}))


def test_steps_are_a_second_long_at_least() -> None:
    with pytest.raises(InvalidSetting, match="3 steps in 2s"):
        gradual_settings(FunctionSpec(service="hello", image="x", annotations={"com.pinnace.rollout.duration": "2s"}))
