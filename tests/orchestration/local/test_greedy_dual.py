"""What is kept within a budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestration.local.greedy_dual import GreedyDual

MB = 1 << 20


def test_everything_is_kept_while_it_fits() -> None:
    kept: GreedyDual[str] = GreedyDual(100 * MB)
    assert kept.put("a", cost_s=1.0, size_bytes=50 * MB) == []
    assert kept.put("b", cost_s=0.1, size_bytes=50 * MB) == []
    assert kept.used_bytes == 100 * MB


def test_the_cheapest_to_make_again_for_its_size_goes_first() -> None:
    kept: GreedyDual[str] = GreedyDual(100 * MB)
    kept.put("dear", cost_s=1.0, size_bytes=40 * MB)
    kept.put("cheap", cost_s=0.1, size_bytes=40 * MB)
    assert kept.put("new", cost_s=0.5, size_bytes=40 * MB) == ["cheap"]


def test_the_large_one_goes_before_the_small_one_that_costs_the_same() -> None:
    kept: GreedyDual[str] = GreedyDual(100 * MB)
    kept.put("large", cost_s=0.2, size_bytes=70 * MB)
    kept.put("small", cost_s=0.2, size_bytes=20 * MB)
    assert kept.put("new", cost_s=0.2, size_bytes=20 * MB) == ["large"]


def test_use_keeps() -> None:
    kept: GreedyDual[str] = GreedyDual(100 * MB)
    kept.put("used", cost_s=0.1, size_bytes=40 * MB)
    kept.put("idle", cost_s=0.2, size_bytes=40 * MB)
    for _ in range(3):
        kept.use("used")
    assert kept.put("new", cost_s=0.3, size_bytes=40 * MB) == ["idle"]


def test_what_was_used_once_upon_a_time_falls_behind() -> None:
    kept: GreedyDual[object] = GreedyDual(2 * MB)
    kept.put("old", cost_s=0.1, size_bytes=MB)
    for _ in range(10):
        kept.use("old")
    passing = 0
    while "old" in kept:
        kept.put(passing, cost_s=0.1, size_bytes=MB)
        passing += 1
    assert 20 <= passing <= 26  # every second one that passes adds its own 0.1 s a MB to the clock


def test_what_never_fits_is_not_kept() -> None:
    kept: GreedyDual[str] = GreedyDual(10 * MB)
    kept.put("small", cost_s=0.1, size_bytes=5 * MB)
    assert kept.put("huge", cost_s=0.1, size_bytes=20 * MB) == ["huge"]
    assert "small" in kept
    assert GreedyDual[str](0).put("any", cost_s=1.0, size_bytes=1) == ["any"]


def test_what_is_forgotten_takes_no_room() -> None:
    kept: GreedyDual[str] = GreedyDual(10 * MB)
    kept.put("a", cost_s=0.1, size_bytes=8 * MB)
    kept.forget("a")
    kept.use("a")
    assert kept.put("b", cost_s=0.1, size_bytes=8 * MB) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 5), st.integers(1, 60), st.booleans()), max_size=60))
def test_the_budget_holds_whatever_happens(steps: list[tuple[int, float, int, bool]]) -> None:
    kept: GreedyDual[int] = GreedyDual(100)
    there: set[int] = set()
    for key, cost_s, size, use in steps:
        if use:
            kept.use(key)
        else:
            there.add(key)
            there -= set(kept.put(key, cost_s=cost_s, size_bytes=size))
        assert kept.used_bytes <= 100
        assert {key for key in range(10) if key in kept} == there
