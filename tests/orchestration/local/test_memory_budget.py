"""One budget for what waits to be forked."""

from __future__ import annotations

import os

from orchestration.local.memory_budget import MemoryBudget, proportional_bytes

MB = 1 << 20


def test_what_is_over_the_budget_is_dropped_whatever_it_is() -> None:
    budget, dropped = MemoryBudget(10 * MB), []
    assert budget.keep("stem", cost_s=0.05, size_bytes=4 * MB, drop=lambda: dropped.append("stem"))
    assert budget.keep(("ns", "f-00001"), cost_s=0.2, size_bytes=5 * MB, drop=lambda: dropped.append("f"))
    assert budget.keep(("ns", "g-00001"), cost_s=0.3, size_bytes=5 * MB, drop=lambda: dropped.append("g"))
    assert dropped == ["stem"]
    assert "stem" not in budget
    assert budget.used_bytes == 10 * MB


def test_who_has_no_room_is_told_and_not_dropped() -> None:
    budget, dropped = MemoryBudget(10 * MB), []
    assert budget.keep("dear", cost_s=9.0, size_bytes=8 * MB, drop=lambda: dropped.append("dear"))
    assert not budget.keep("cheap", cost_s=0.01, size_bytes=8 * MB, drop=lambda: dropped.append("cheap"))
    assert dropped == []
    assert budget.used_bytes == 8 * MB


def test_nobody_is_dropped_for_what_has_no_room_alone() -> None:
    budget, dropped = MemoryBudget(10 * MB), []
    budget.keep("cheap", cost_s=0.01, size_bytes=8 * MB, drop=lambda: dropped.append("cheap"))
    assert not budget.keep("vast", cost_s=9.0, size_bytes=11 * MB, drop=lambda: dropped.append("vast"))
    assert dropped == []
    assert "cheap" in budget


def test_use_keeps_and_what_is_forgotten_takes_no_room() -> None:
    budget, dropped = MemoryBudget(10 * MB), []
    for name in ("a", "b"):
        budget.keep(name, cost_s=0.1, size_bytes=5 * MB, drop=lambda name=name: dropped.append(name))  # type: ignore[misc]
    budget.use("a")
    budget.keep("c", cost_s=0.15, size_bytes=5 * MB, drop=lambda: dropped.append("c"))
    assert dropped == ["b"]
    budget.forget("a")
    budget.forget("a")
    assert budget.keep("d", cost_s=0.1, size_bytes=5 * MB, drop=lambda: dropped.append("d"))
    assert dropped == ["b"]


def test_the_memory_of_a_process_is_what_the_kernel_says() -> None:
    assert 1 * MB < proportional_bytes(os.getpid()) < 4096 * MB
    assert proportional_bytes(1 << 22) == 0
