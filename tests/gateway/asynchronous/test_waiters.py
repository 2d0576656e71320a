from __future__ import annotations

from gateway.asynchronous.waiters import Waiters


async def test_only_those_who_wait_for_that_call_are_told_and_they_all_are() -> None:
    waiters = Waiters()
    with waiters.waiting("a") as one, waiters.waiting("a") as two, waiters.waiting("b") as other:
        waiters.over(["a", "nobody"])
        assert one.is_set() and two.is_set() and not other.is_set()
        waiters.alarm()
        assert other.is_set()


async def test_who_leaves_is_forgotten_and_the_others_of_the_same_call_are_not() -> None:
    waiters = Waiters()
    assert not waiters
    with waiters.waiting("a") as stays:
        with waiters.waiting("a") as leaves:
            pass
        assert waiters
        waiters.over(["a"])
        assert stays.is_set() and not leaves.is_set()
    assert not waiters
