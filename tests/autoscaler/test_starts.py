"""Bounds on what starts at a time, and turns for those who find no room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.starts import StartLimits, Starts


def test_each_function_and_all_of_them_have_a_bound() -> None:
    starts: Starts[str] = Starts(StartLimits(per_function=4, total=6))
    assert starts.room("a") == 4
    starts.set("a", 3)
    assert (starts.room("a"), starts.room("b")) == (1, 3)
    starts.set("a", 1)
    assert (starts.total, starts.room("b")) == (1, 4)


def test_who_waits_longest_is_next_and_nobody_goes_before() -> None:
    starts: Starts[str] = Starts(StartLimits(per_function=4, total=4))
    starts.set("a", 4)
    for key in ("b", "c"):
        assert starts.room(key) == 0
        starts.wait(key)
    assert starts.next() is None
    starts.set("a", 2)
    assert (starts.next(), starts.room("b"), starts.room("c"), starts.room("a")) == ("b", 2, 0, 0)
    starts.served("b")
    assert (starts.next(), starts.room("c")) == ("c", 2)
    starts.forget("c")
    assert (starts.next(), starts.room("a")) == (None, 2)


def test_who_is_at_its_own_bound_holds_nobody_up() -> None:
    starts: Starts[str] = Starts(StartLimits(per_function=4, total=8))
    starts.set("a", 4)
    starts.wait("a")
    assert (starts.room("b"), starts.next()) == (4, None)
    starts.set("a", 1)
    starts.set("b", 4)
    starts.set("c", 3)
    starts.wait("a")
    assert starts.room("d") == 0
    starts.set("c", 2)
    assert (starts.next(), starts.room("a"), starts.room("d")) == ("a", 1, 0)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), max_size=40))
def test_asking_for_no_more_than_there_is_room_keeps_the_bounds(steps: list[tuple[str, int]]) -> None:
    starts: Starts[str] = Starts(StartLimits(per_function=5, total=8))
    held: dict[str, int] = {}
    for key, asked in steps:
        if asked > held.get(key, 0):
            asked = held.get(key, 0) + min(asked - held.get(key, 0), starts.room(key))
        held[key] = asked
        starts.set(key, asked)
        assert starts.total == sum(held.values()) <= 8
        assert max(held.values()) <= 5
