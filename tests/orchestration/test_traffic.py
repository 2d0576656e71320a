from __future__ import annotations

import pytest

from orchestration.traffic import FOLLOWING, LATEST, InvalidTraffic, TrafficTarget, check_table, follows, share_of, tags_of

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
