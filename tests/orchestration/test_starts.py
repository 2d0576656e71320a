"""What starts took: timed by phase, remembered in bounds, counted."""

from __future__ import annotations

from orchestration.names import FunctionId
from orchestration.starts import BOUNDS_S, REMEMBERED, Start, StartBook, Stopwatch

HELLO = FunctionId("dev", "hello")


def start(number: int = 0, *, failed: str = "", ready_s: float = 0.004) -> Start:
    return Start(
        replica=f"r{number}", revision="hello-00001", kind="zygote", at=float(number),
        placed_s=0.0, prepared_s=0.0, made_s=0.002, ready_s=ready_s, failed=failed,
    )  # fmt: skip


def test_phases_follow_one_another() -> None:
    now = [10.0]
    watch = Stopwatch("r", "hello-00001", 1000.0, lambda: now[0])
    for phase, took in (("placed", 0.5), ("prepared", 0.25), ("made", 0.125), ("ready", 1.0)):
        now[0] += took
        watch.over(phase)
    watch.kind = "stem"
    timed = watch.start()
    assert (timed.placed_s, timed.prepared_s, timed.made_s, timed.ready_s) == (0.5, 0.25, 0.125, 1.0)
    assert (timed.total_s, timed.kind, timed.at, timed.failed) == (1.875, "stem", 1000.0, "")


def test_a_start_that_failed_early_has_what_was_timed_until_then() -> None:
    now = [0.0]
    watch = Stopwatch("r", "hello-00001", 1000.0, lambda: now[0])
    now[0] = 0.5
    watch.over("placed")
    failed = watch.start(failed="boom")
    assert (failed.placed_s, failed.total_s, failed.failed) == (0.5, 0.5, "boom")


def test_the_last_ones_of_each_function_are_remembered_the_latest_first() -> None:
    book = StartBook()
    for number in range(REMEMBERED + 5):
        book.add(HELLO, start(number))
    book.add(FunctionId("dev", "other"), start(99))
    assert [s.replica for s in book.last(HELLO)] == [f"r{n}" for n in range(REMEMBERED + 4, 4, -1)]
    book.forget(HELLO)
    assert book.last(HELLO) == ()
    assert len(book.last(FunctionId("dev", "other"))) == 1


def test_what_succeeded_is_counted_by_kind_and_phase_and_what_failed_apart() -> None:
    book = StartBook()
    for ready_s in (0.001, 0.0011, 0.3, 100.0):
        book.add(HELLO, start(ready_s=ready_s))
    book.add(HELLO, start(failed="boom"))
    ready = book.histograms["zygote", "ready"]
    assert ready.counts[0] == 1
    assert ready.counts[1] == 1
    assert ready.counts[BOUNDS_S.index(0.5)] == 1
    assert ready.counts[-1] == 1
    assert sum(ready.counts) == 4
    assert round(ready.sum_s, 4) == 100.3021
    assert book.failures == {"zygote": 1}
