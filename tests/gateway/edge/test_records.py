from __future__ import annotations

from gateway.edge.context import CallIds
from gateway.edge.records import KEPT, PASSED_ON, CallRecord, Records
from gateway.edge.tally import Tally


def record(number: int = 0, *, code: int = 200, waited_s: float = 0.0) -> CallRecord:
    marks = b"X-Call-Id: call-%d\r\nX-Start-Time: %d\r\n" % (number, (1_700_000_000 + number) * 10**9)
    return CallRecord(marks, b"GET", code, waited_s, 0.02, "r1")


def test_id_and_start_are_read_from_the_lines_that_the_call_carried() -> None:
    mine = CallRecord(CallIds().marks(b"chosen.by-me"), b"GET", 200, 0.0, 0.1, "r")
    assert mine.id == "chosen.by-me"
    assert record(5).started_at == 1_700_000_005.0


def test_errors_and_calls_that_waited_outlive_a_crowd_of_others() -> None:
    records = Records()
    for number, odd in enumerate((record(1, code=503), record(2, waited_s=0.3), record(3, code=499))):
        records.keep(odd)
        for other in range(KEPT):
            records.keep(record(100 + number * KEPT + other))
    kept = records.all()
    assert [one.id for one in kept[-3:]] == ["call-3", "call-2", "call-1"]
    assert len(kept) == KEPT + 3
    assert kept[0].id == f"call-{100 + 3 * KEPT - 1}", "newest first"


def test_a_call_in_both_rings_is_told_once() -> None:
    records = Records()
    records.keep(record(1, code=500))
    assert len(records.recent) == len(records.notable) == 1
    assert [one.id for one in records.all()] == ["call-1"]


def test_what_is_passed_on_is_the_newest_and_is_gone_then() -> None:
    records, others = Records(), Records()
    for number in range(10):
        records.keep(record(number, code=500 if number % 2 else 200))
    others.add(*records.take())
    assert records.all() == []
    assert [one.id for one in others.recent] == [f"call-{n}" for n in range(10 - PASSED_ON, 10)]
    assert [one.id for one in others.notable] == ["call-3", "call-5", "call-7", "call-9"]


def test_a_tally_counts_what_it_records_and_makes_no_ring_before() -> None:
    assert Tally().records is None
    tally = Tally()
    tally.ended(record(1, code=500))
    assert tally.codes == {500: 1}
    assert tally.records is not None
    assert [one.code for one in tally.records.recent] == [500]
    assert tally.copy().records is None
