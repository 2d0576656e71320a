"""Counters for people."""

from __future__ import annotations

from gateway.edge.tally import BOUNDS_S, Tally


def test_calls_are_counted_by_code_and_by_duration() -> None:
    tally = Tally()
    tally.count(200, 0.001)
    tally.count(200, 0.0011)
    tally.count(504, 61.0)
    assert (tally.completed, tally.codes) == (3, {200: 2, 504: 1})
    assert tally.by_code[200].buckets[:3] == [1, 1, 0]
    assert (tally.by_code[504].buckets[-1], tally.by_code[504].seconds) == (1, 61.0)
    assert len(tally.by_code[200].buckets) == len(BOUNDS_S) + 1


def test_openfaas_buckets_are_among_ours() -> None:
    assert {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0} <= set(BOUNDS_S)


def test_what_was_added_since_a_copy_adds_up_to_the_whole() -> None:
    tally, total = Tally(), Tally()
    told = Tally()
    for code, seconds in ((200, 0.001), (200, 3.0), (499, 0.2), (504, 61.0)):
        tally.started += 1
        tally.waited(seconds / 2, cold=code == 200)
        tally.count(code, seconds)
        if code == 200:
            tally.began(seconds)
        tally.illustrate(code, "ab", seconds, 1e9)
        total.add(tally.since(told))
        told = tally.copy()
    assert (total.started, total.completed, total.cold) == (4, 4, 2)
    for code, durations in tally.by_code.items():
        assert total.by_code[code].buckets == durations.buckets
        assert total.by_code[code].exemplars == durations.exemplars
        assert abs(total.by_code[code].seconds - durations.seconds) < 1e-9
    assert tally.waits is not None and total.waits is not None
    assert total.waits.buckets == tally.waits.buckets
    assert tally.first_bytes is not None and total.first_bytes is not None
    assert total.first_bytes.buckets == tally.first_bytes.buckets
    assert (total.first_bytes.count, tally.since(told).first_bytes) == (2, None)
    assert (tally.since(told).codes, tally.since(told).waits) == ({}, None)
    assert told.by_code[200].buckets is not tally.by_code[200].buckets


def test_an_exemplar_is_told_once() -> None:
    tally = Tally()
    tally.count(200, 0.2)
    tally.illustrate(200, "ab", 0.2, 5.0)
    told = tally.copy()
    tally.count(200, 0.2)
    assert tally.since(told).by_code[200].exemplars is None
    assert told.by_code[200].exemplars == {7: ("ab", 0.2, 5.0)}
