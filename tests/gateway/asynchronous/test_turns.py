"""Queues take turns: no queue gets more than it has room for, none is passed over while another has more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.asynchronous.turns import deal, interleaved

rooms = st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.integers(1, 50), min_size=1, max_size=8)


@given(rooms, st.integers(1, 300))
def test_what_is_dealt_fits_and_is_as_even_as_it_can_be(room: dict[str, int], calls: int) -> None:
    dealt = dict(deal(room, calls))
    assert 1 <= sum(dealt.values()) <= calls
    assert all(0 < count <= room[queue] for queue, count in dealt.items())
    if calls >= len(room):
        assert dealt.keys() == room.keys()
        full = {count for queue, count in dealt.items() if count < room[queue]}
        assert len(full) <= 1 and all(count <= max(full, default=count) for count in dealt.values())


def test_who_was_served_longest_ago_is_first_when_there_is_not_one_for_each() -> None:
    assert deal({"a": 5, "b": 5, "c": 5}, 2) == [("a", 1), ("b", 1)]


@given(st.lists(st.lists(st.integers(), max_size=6), max_size=6))
def test_interleaving_keeps_every_call_and_each_queue_s_order(lists: list[list[int]]) -> None:
    named = [[(number, place) for place in range(len(calls))] for number, calls in enumerate(lists)]
    mixed = interleaved(named)
    assert sorted(mixed) == sorted(pair for calls in named for pair in calls)
    for number, calls in enumerate(named):
        assert [pair for pair in mixed if pair[0] == number] == calls
    assert [place for _, place in mixed] == sorted(place for _, place in mixed)
