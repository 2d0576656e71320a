"""Counters for people."""

from __future__ import annotations

from gateway.edge.tally import BOUNDS_S, Tally


def test_calls_are_counted_by_code_and_by_duration() -> None:
    tally = Tally()
    tally.count(200, 0.001)
    tally.count(200, 0.0011)
    tally.count(504, 61.0)
    assert (tally.completed, tally.codes) == (3, {200: 2, 504: 1})
    assert (tally.buckets[0], tally.buckets[1], tally.buckets[-1]) == (1, 1, 1)
    assert len(tally.buckets) == len(BOUNDS_S) + 1
