from __future__ import annotations

import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given

from orchestration.traffic import (
    FOLLOWING,
    LATEST,
    InvalidTraffic,
    TrafficTarget,
    check_table,
    follows,
    parts_of,
    share_of,
    tags_of,
)

KNOWN = ("hello-00001", "hello-00002")
OLD, NEW = KNOWN


def test_targets_that_say_nothing_are_left_out() -> None:
    table = (TrafficTarget(OLD, 100), TrafficTarget(NEW, 0), TrafficTarget(NEW, 0, "green"))
    assert check_table(table, KNOWN) == (TrafficTarget(OLD, 100), TrafficTarget(NEW, 0, "green"))


WRONG = {
    "a revision that is not kept": ((TrafficTarget("hello-00009", 100),), "no revision 'hello-00009'"),
    "too little": ((TrafficTarget(OLD, 99),), "come to 99"),
    "too much": ((TrafficTarget(OLD, 60), TrafficTarget(NEW, 41)), "come to 101"),
    "nothing": ((), "come to 0"),
    "less than none": ((TrafficTarget(OLD, -1), TrafficTarget(NEW, 101)), "0 to 100"),
    "a tag twice": ((TrafficTarget(OLD, 100, "x"), TrafficTarget(NEW, 0, "x")), "'x' is given twice"),
    "a revision twice": ((TrafficTarget(OLD, 50), TrafficTarget(OLD, 50)), "named twice"),
    "a tag with a capital": ((TrafficTarget(OLD, 100, "Green"),), "'Green'"),
    "a tag that separates": ((TrafficTarget(OLD, 100, "a--b"),), "without '--'"),
    "an empty tag": ((TrafficTarget(OLD, 100, ""),), "tag ''"),
    "a long tag": ((TrafficTarget(OLD, 100, "x" * 51),), "1 to 50"),
    "a table without end": (tuple(TrafficTarget(OLD, 0, f"t{n}") for n in range(65)), "at most 64"),
}


@pytest.mark.parametrize("why", WRONG)
def test_a_table_that_cannot_be_is_refused_with_what_is_wrong(why: str) -> None:
    table, told = WRONG[why]
    with pytest.raises(InvalidTraffic, match=told):
        check_table(table, KNOWN)


def test_shares_and_tags_of_a_revision_add_up() -> None:
    table = (TrafficTarget(LATEST, 10, "next"), TrafficTarget(OLD, 70), TrafficTarget(OLD, 20, "blue"))
    assert share_of(table, OLD) == 90
    assert tags_of(table, OLD) == ("blue",)
    assert follows(table)
    assert follows(FOLLOWING)
    assert not follows((TrafficTarget(OLD, 100), TrafficTarget(LATEST, 0, "next")))


@pytest.mark.parametrize(
    ("shares", "replicas", "parts"),
    [
        ((90, 10), 4, (3, 1)),
        ((90, 10), 10, (9, 1)),
        ((90, 10), 1, (1, 1)),
        ((90, 10), 0, (0, 0)),
        ((50, 50), 3, (2, 1)),
        ((98, 1, 1), 2, (1, 1, 1)),
        ((34, 33, 33), 5, (2, 2, 1)),
        ((100,), 7, (7,)),
    ],
)
def test_replicas_are_dealt_out_as_calls_are(shares: tuple[int, ...], replicas: int, parts: tuple[int, ...]) -> None:
    table = tuple(TrafficTarget(f"hello-{number}", share) for number, share in enumerate(shares))
    assert tuple(parts_of(table, replicas).values()) == parts


@given(st.lists(st.integers(0, 100), min_size=1, max_size=8).filter(any), st.integers(0, 50))
def test_none_with_a_share_goes_without_and_who_has_more_calls_has_no_less(shares: list[int], replicas: int) -> None:
    table = tuple(TrafficTarget(f"hello-{number}", share) for number, share in enumerate(shares))
    parts = parts_of((*table, TrafficTarget("tagged", 0, "tag")), replicas)
    assert parts.keys() == {target.revision for target in table if target.percent}
    assert sum(parts.values()) == (max(replicas, len(parts)) if replicas else 0)
    assert not replicas or min(parts.values()) >= 1
    ranked = sorted((target.percent, parts[target.revision]) for target in table if target.percent)
    for (less, few), (more, many) in itertools.pairwise(ranked):
        assert few <= many or less == more
