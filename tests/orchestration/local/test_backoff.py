"""The kubelet's rule for restarts, as a table."""

from __future__ import annotations

import pytest

from orchestration.local.backoff import restart_wait_s


@pytest.mark.parametrize(
    ("ran_s", "waits_s"),
    [
        ([1] * 8, [0, 10, 20, 40, 80, 160, 300, 300]),
        ([599, 599, 600, 1, 1], [0, 10, 0, 10, 20]),
        ([1, 1, 1, 700, 700, 1], [0, 10, 20, 0, 0, 10]),
    ],
)
def test_the_first_restart_is_immediate_then_waits_double_until_it_ran_long(ran_s: list[float], waits_s: list[float]) -> None:
    waits: list[float] = []
    previous: float | None = None
    for ran in ran_s:
        previous = restart_wait_s(previous, ran)
        waits.append(previous)
    assert waits == waits_s
