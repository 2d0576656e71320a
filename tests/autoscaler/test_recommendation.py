"""Knative's published vectors for its decider, and laws that hold for every recommendation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.recommendation import Recommender
from orchestration.decisions import Rule
from orchestration.scaling import Metric, ScaleSettings

UTILISATION = 0.75


def settings(target: float, burst: float, **others: Any) -> ScaleSettings:
    """What the vectors share: the aim is `target`, rates are 10."""
    rates = {"up_rate": 10.0, "down_rate": 10.0} | others
    return ScaleSettings(target=target / UTILISATION, utilisation=UTILISATION, burst_capacity=burst, **rates)


Step = tuple[tuple[int, float, float], tuple[int, int]]
CASES: dict[str, tuple[ScaleSettings, list[Step]]] = {
    # name: settings, steps of (ready, stable, panic) -> (replicas, spare)
    "1 nothing to do": (settings(10, 100), [((1, 0, 0), (0, -87))]),
    "2 burst capacity -1": (settings(181, -1), [((1, 21, 26), (1, -1))]),
    "3 burst capacity 0": (settings(10, 0), [((1, 50, 49), (5, 0))]),
    "4": (settings(10, 100), [((1, 50, 50), (5, -137))]),
    "5": (settings(10, 100), [((5, 50, 50), (5, -84))]),
    "8 slow upwards": (settings(1, 1982, up_rate=1.1), [((2, 3, 3.1), (3, -1983))]),
    "9 slow downwards": (settings(10, 1982, down_rate=1.1), [((100, 1, 1), (90, -650))]),
    "11 panic": (settings(10, 84), [((1, 50, 100), (10, -171))]),
    "12 stable above panic": (settings(10, 101), [((1, 50, 10), (5, -98)), ((1, 100, 10), (10, -98))]),
    "13 rps": (settings(10, 101, metric=Metric.RPS), [((1, 50, 50), (5, -138)), ((1, 100, 99), (10, -187))]),
    "16 falls when calm": (settings(10, 98), [((8, 100, 100), (10, -92)), ((8, 50, 50), (5, -42))]),
    "17 calm": (settings(10, 75), [((1, 1, 0), (1, -62)), ((1, 0, 0), (0, -62))]),
    "19 growth": (
        settings(1, 101),
        [
            ((1, 6, 6), (6, -106)),
            ((6, 36, 36), (36, -129)),
            ((36, 216, 216), (216, -269)),
            ((216, 1296, 1296), (1296, -1109)),
            ((1296, 1296, 1296), (1296, 331)),
        ],
    ),
    "21 limited upwards": (settings(10, 61), [((1, 1000, 1001), (10, -1049)), ((10, 1000, 1001), (100, -929))]),
    "23 none ready": (settings(10, 81), [((0, 1000, 888), (10, -969))]),
}


@pytest.mark.parametrize("name", CASES)
def test_knatives_vectors(name: str) -> None:
    given, steps = CASES[name]
    recommender = Recommender(0.0)
    for (ready, stable, panic), (replicas, spare) in steps:
        found = recommender.recommend(given, 0.0, ready=ready, stable=stable, panic=panic)
        assert found.replicas == replicas
        assert recommender.spare(given, ready, panic) == pytest.approx(spare, abs=1)


@pytest.mark.parametrize(
    ("name", "delay_s", "steps"),
    [
        (
            "27 delay",
            300.0,
            [(2, 40, 4), (300, 0, 4), (302, 0, 0), (540, 40, 4), (600, 30, 4), (660, 0, 4), (840, 0, 3), (900, 0, 0)],
        ),
        ("29 none", 0.0, [(2, 40, 4), (2.5, 20, 2)]),
    ],
)
def test_scale_down_delay_as_knatives_vectors_go(name: str, delay_s: float, steps: list[tuple[float, float, int]]) -> None:
    given = settings(10, 0, window_s=0.0, panic_threshold=100.0, down_delay_s=delay_s)
    recommender = Recommender(0.0)
    for now, load, replicas in steps:
        assert recommender.recommend(given, now, ready=0, stable=load, panic=load).replicas == replicas


def test_panic_holds_the_count_for_a_stable_window_after_its_cause_has_gone() -> None:
    given, recommender = settings(10, 0), Recommender(0.0)
    assert recommender.recommend(given, 0, ready=1, stable=10, panic=100) == (10, Rule.PANIC)
    assert recommender.recommend(given, 60, ready=10, stable=50, panic=0) == (10, Rule.PANIC)
    assert recommender.recommend(given, 60.1, ready=10, stable=50, panic=0) == (5, Rule.STABLE)


def test_panic_is_prolonged_by_its_cause() -> None:
    given, recommender = settings(10, 0), Recommender(0.0)
    recommender.recommend(given, 0, ready=1, stable=10, panic=100)
    recommender.recommend(given, 50, ready=4, stable=10, panic=100)
    assert recommender.recommend(given, 100, ready=10, stable=10, panic=10).replicas == 10
    assert not recommender.recommend(given, 111, ready=10, stable=10, panic=10).replicas > 1


def test_after_a_restart_nothing_is_taken_away_for_a_stable_window() -> None:
    given, recommender = settings(10, 0), Recommender(100.0, kept=5)
    assert recommender.recommend(given, 101, ready=5, stable=0, panic=0).replicas == 5
    assert recommender.recommend(given, 160, ready=5, stable=0, panic=0).replicas == 5
    assert recommender.recommend(given, 160.1, ready=5, stable=0, panic=0).replicas == 0


def test_one_replica_after_a_restart_is_no_reason_to_hold() -> None:
    assert Recommender(0.0, kept=1).recommend(settings(10, 0), 1, ready=1, stable=0, panic=0).replicas == 0


def test_activation_is_the_least_for_any_load() -> None:
    given, recommender = settings(10, 0, activation_replicas=3), Recommender(0.0)
    assert recommender.recommend(given, 0, ready=0, stable=1, panic=1).replicas == 3
    assert Recommender(0.0).recommend(given, 0, ready=3, stable=0, panic=0).replicas == 0


def test_what_no_route_points_to_may_go_at_once() -> None:
    given = settings(10, 0, down_rate=1.1, down_delay_s=60.0)
    assert Recommender(0.0).recommend(given, 0, ready=100, stable=0, panic=0).replicas == 90
    assert Recommender(0.0).recommend(given, 0, ready=100, stable=0, panic=0, reachable=False).replicas == 0


loads = st.floats(0, 1e5)


@given(target=st.floats(0.01, 1e4), ready=st.integers(0, 500), low=loads, more=loads, panic=loads)
def test_more_load_never_asks_for_fewer(target: float, ready: int, low: float, more: float, panic: float) -> None:
    given = settings(target, 0)
    for steps in ((low, panic, low + more, panic), (panic, low, panic, low + more)):
        less = Recommender(0.0).recommend(given, 0, ready=ready, stable=steps[0], panic=steps[1])
        greater = Recommender(0.0).recommend(given, 0, ready=ready, stable=steps[2], panic=steps[3])
        assert greater.replicas >= less.replicas


@given(
    up=st.floats(1.1, 20),
    down=st.floats(1.1, 20),
    ready=st.integers(0, 500),
    steps=st.lists(st.tuples(loads, loads), min_size=1),
)
def test_rates_bound_every_step(up: float, down: float, ready: int, steps: list[tuple[float, float]]) -> None:
    given, recommender = settings(10, 0, up_rate=up, down_rate=down), Recommender(0.0)
    for now, (stable, panic) in enumerate(steps):
        found = recommender.recommend(given, now, ready=ready, stable=stable, panic=panic)
        assert max(1, ready) // down <= found.replicas <= max(1, ready) * up + 1
