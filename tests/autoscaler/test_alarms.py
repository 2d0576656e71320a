"""One time for each key, whatever was asked for before."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.alarms import MOST_STALE, Alarms


def test_the_earliest_time_counts_and_only_once() -> None:
    alarms: Alarms[str] = Alarms()
    for at in (9.0, 5.0, 7.0, inf):
        alarms.set("a", at)
    alarms.set("b", 6.0)
    alarms.set("c", inf)
    assert alarms.first == 5
    assert alarms.due(4.9) == []
    assert alarms.due(6) == ["a", "b"]
    assert alarms.due(100) == []
    assert (alarms.first, len(alarms)) == (inf, 0)


def test_who_is_gone_is_not_looked_at() -> None:
    alarms: Alarms[str] = Alarms()
    alarms.set("a", 1.0)
    alarms.forget("a")
    alarms.forget("b")
    assert alarms.first == inf
    assert alarms.due(2) == []


def test_times_that_count_no_more_do_not_pile_up() -> None:
    """An idle function that may go to zero in a month is looked at in two seconds first: each time, the month stays behind."""
    alarms: Alarms[str] = Alarms()
    for now in range(0, 2000, 2):
        alarms.set("a", now + 30 * 86400.0)
        alarms.set("a", now + 2.0)
        assert alarms.due(now + 2.0) == ["a"]
        assert len(alarms) <= 2 + MOST_STALE


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.booleans()), max_size=60))
def test_what_is_due_is_that_of_a_naive_model(steps: list[tuple[str, int, bool]]) -> None:
    alarms: Alarms[str] = Alarms()
    times: dict[str, int] = {}
    for key, at, look in steps:
        alarms.set(key, at)
        times[key] = min(at, times.get(key, at))
        if look:
            due = sorted((when, who) for who, when in times.items() if when <= 25)
            assert alarms.due(25) == [who for _, who in due]
            for _, who in due:
                del times[who]
