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


def test_what_was_added_since_a_copy_adds_up_to_the_whole() -> None:
    tally, total = Tally(), Tally()
    told = Tally()
    for code, seconds in ((200, 0.001), (200, 3.0), (499, 0.2), (504, 61.0)):
        tally.count(code, seconds)
        total.add(tally.since(told))
        told = tally.copy()
    assert (total.completed, total.codes, total.buckets) == (tally.completed, tally.codes, tally.buckets)
    assert abs(total.seconds - tally.seconds) < 1e-9
    assert tally.since(told).codes == {}
    assert told.buckets is not tally.buckets
