"""The loop's turns with a clock that stands still unless a test moves it, and a queue that keeps calls by their keys."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.asynchronous.calls import Receipt, Submission
from gateway.asynchronous.store import QueueFull, StoreUnavailable
from gateway.timers.book import BookUnavailable, Mark, TimerId
from gateway.timers.timers import AT_A_TIME, LONGEST_RETRY_S, MARKS_TOGETHER, TELL_BEFORE_S, TOGETHER, Timers
from orchestration.events import FunctionChanged, FunctionRemoved
from orchestration.function import Function
from orchestration.names import FunctionId
from orchestration.revision import make_revision
from orchestration.spec import FunctionSpec
from orchestration.timers import Timer
from orchestration.traffic import TrafficTarget

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()
MINUTE = 60.0
TICK = FunctionId("openfaas-fn", "tick")


class Queue:
    """Keeps submissions by key, as a store does, for as long as the test runs."""

    def __init__(self) -> None:
        self.calls: dict[tuple[str, str], tuple[str, Submission]] = {}
        self.open: set[str] = set()
        self.failure: Exception | None = None

    async def submit(self, submissions: Sequence[Submission]) -> list[Receipt]:
        if self.failure is not None:
            raise self.failure
        receipts = []
        for one in submissions:
            key = (one.queue, one.idempotency_key)
            repeated = key in self.calls
            call_id, _ = self.calls.setdefault(key, (f"call-{len(self.calls)}", one))
            receipts.append(Receipt(call_id, repeated))
        return receipts

    async def is_open(self, call_id: str) -> bool:
        return call_id in self.open

    def runs(self, header: str = "X-Schedule-Time") -> list[str]:
        return [dict(one.headers)[header] for _, one in self.calls.values()]


class MemoryBook:
    def __init__(self) -> None:
        self.marks: dict[TimerId, Mark] = {}
        self.failure: BookUnavailable | None = None
        self.written = asyncio.Event()

    async def read(self) -> dict[TimerId, Mark]:
        if self.failure is not None:
            raise self.failure
        return dict(self.marks)

    async def write(self, marks: Mapping[TimerId, Mark], gone: Iterable[TimerId] = ()) -> None:
        if self.failure is not None:
            raise self.failure
        for name in gone:
            self.marks.pop(name, None)
        self.marks |= marks
        self.written.set()


class Bench:
    """What outlives a platform, and how one is started at `now`."""

    def __init__(self) -> None:
        self.now = NOON
        self.queue = Queue()
        self.book = MemoryBook()
        self.expected: list[tuple[str, float]] = []

    async def platform(self, *functions: Function, leads: bool = True) -> Timers:
        timers = Timers(
            self.queue.submit,
            self.queue.is_open,
            self.book,
            expect=lambda function, at: self.expected.append((function.name, at)),
            wall=lambda: self.now,
            leads=leads,
        )
        await timers.read()
        for function in functions:
            timers.apply(FunctionChanged(function))
        return timers

    async def run(self, timers: Timers, until: float) -> None:
        """Let the clock go on to `until`, looking when the loop would look."""
        at = await timers.turn()
        while at <= until:
            assert at > self.now, "it does not look again at once"
            self.now = at
            at = await timers.turn()
        self.now = until


@pytest.fixture
def bench() -> Bench:
    return Bench()


def function(schedule: str = "*/5 * * * *", name: str = "tick", deployed: float = NOON - 1, **settings: str) -> Function:
    annotations = {"topic": "cron-function", "schedule": schedule} | {f"com.pinnace.timer.{k}": v for k, v in settings.items()}
    spec = FunctionSpec(service=name, image=name, annotations=annotations)
    revision = make_revision(spec, "sha256:0", 1, deployed)
    traffic = (TrafficTarget(revision=revision.name, percent=100),)
    return Function(spec=spec, generation=1, revisions=(revision,), traffic=traffic, created_at=deployed, updated_at=deployed)


def at(*minutes: float) -> list[str]:
    return [datetime.fromtimestamp(NOON + m * MINUTE, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for m in minutes]


async def test_each_run_is_a_call_with_the_headers_of_openfaas_connector(bench: Bench) -> None:
    timers = await bench.platform(function())
    await bench.run(timers, NOON + 11 * MINUTE)
    assert bench.queue.runs() == at(0, 5, 10)
    ((_, first), *_) = bench.queue.calls.values()
    assert (first.queue, first.function, first.method, first.path, first.body) == ("tick.openfaas-fn", TICK, "POST", "/", b"")
    assert dict(first.headers) == {
        "X-Connector": "cron-connector",
        "X-Topic": "cron-function",
        "X-Schedule": "*/5 * * * *",
        "X-Schedule-Time": "2026-06-01T12:00:00Z",
    }
    assert not first.idempotency_key.isprintable()  # so that no client can take it
    assert (timers.counts.fired, timers.counts.missed) == (3, 0)


async def test_several_expressions_are_timers_of_their_own(bench: Bench) -> None:
    timers = await bench.platform(function("*/5 * * * *; */10 * * * *"), function("7 * * * *", "other"))
    await bench.run(timers, NOON + 10 * MINUTE)
    assert sorted(bench.queue.runs("X-Schedule")) == ["*/10 * * * *"] * 2 + ["*/5 * * * *"] * 3 + ["7 * * * *"]


async def test_a_platform_that_dies_after_the_call_is_kept_does_not_make_it_twice(bench: Bench) -> None:
    timers = await bench.platform(function())
    bench.book.failure = BookUnavailable("as if it died before the mark was written")
    await timers.turn()
    assert len(bench.queue.calls) == 1
    bench.book.failure = None
    bench.now += 2
    again = await bench.platform(function())
    await bench.run(again, NOON + 4 * MINUTE)
    assert bench.queue.runs() == at(0)
    assert again.counts.fired == 0


async def test_a_platform_that_dies_before_the_call_is_kept_makes_it_when_it_is_back(bench: Bench) -> None:
    timers = await bench.platform(function())
    bench.queue.failure = StoreUnavailable("as if it died in the middle")
    await timers.turn()
    bench.queue.failure = None
    bench.now += 20
    await (await bench.platform(function())).turn()
    assert bench.queue.runs() == at(0)


async def test_two_that_take_themselves_for_the_leader_make_each_run_once(bench: Bench) -> None:
    one, other = await bench.platform(function()), await bench.platform(function())
    for minute in range(11):
        bench.now = NOON + minute * MINUTE
        await one.turn()
        await other.turn()
    assert bench.queue.runs() == at(0, 5, 10)


async def test_who_takes_over_goes_on_where_the_other_ended(bench: Bench) -> None:
    one, other = await bench.platform(function()), await bench.platform(function(), leads=False)
    await bench.run(one, NOON + 6 * MINUTE)
    await other.turn()
    assert (mark := other.mark(TICK, Timer("*/5 * * * *"))) is not None
    assert mark.ran == NOON + 5 * MINUTE, "who follows can tell of the last run too"
    one.lead(False)
    bench.now = NOON + 10 * MINUTE + 5
    await one.turn()
    assert bench.queue.runs() == at(0, 5), "who does not lead makes none"
    other.lead(True)
    await bench.run(other, NOON + 16 * MINUTE)
    assert bench.queue.runs() == at(0, 5, 10, 15)
    assert other.counts.missed == 0


@pytest.mark.parametrize(("missed", "runs"), [("skip", []), ("once", [55]), ("all", list(range(5, 60, 5)))])
async def test_runs_missed_while_nobody_was_there(bench: Bench, missed: str, runs: list[float]) -> None:
    await bench.run(await bench.platform(function(missed=missed)), NOON + MINUTE)
    bench.now = NOON + 57 * MINUTE
    timers = await bench.platform(function(missed=missed))
    await bench.run(timers, NOON + 58 * MINUTE)
    assert bench.queue.runs() == at(0, *runs)
    assert timers.counts.missed == 11 - len(runs)
    await bench.run(timers, NOON + 60 * MINUTE)
    assert bench.queue.runs() == at(0, *runs, 60)


async def test_a_book_that_is_away_at_the_start_is_read_when_it_is_back(bench: Bench) -> None:
    await bench.run(await bench.platform(function(missed="all")), NOON + MINUTE)
    bench.now = NOON + 120 * MINUTE + 1
    timers = Timers(bench.queue.submit, bench.queue.is_open, bench.book, wall=lambda: bench.now)
    timers.apply(FunctionChanged(function(missed="all")))
    bench.book.failure = BookUnavailable("away")
    with pytest.raises(BookUnavailable):
        await timers.turn()
    assert bench.queue.runs() == at(0)
    bench.book.failure = None
    await timers.turn()
    assert bench.queue.runs() == at(0, *range(5, 121, 5)), "also what was missed longer ago than anybody would guess"


async def test_a_new_timer_owes_nothing_from_before_its_deploy(bench: Bench) -> None:
    timers = await bench.platform(function(deployed=NOON + 2 * MINUTE, missed="all"))
    bench.now = NOON + 2 * MINUTE
    await bench.run(timers, NOON + 6 * MINUTE)
    assert bench.queue.runs() == at(5)


async def test_a_deploy_is_a_beginning_though_the_platform_dies_at_once(bench: Bench) -> None:
    deployed = function(deployed=NOON + 2 * MINUTE)
    bench.now = NOON + 7 * MINUTE  # nobody looked at it before
    await (await bench.platform(deployed)).turn()
    assert bench.queue.runs() == at(5)


async def test_a_function_that_is_made_anew_owes_nothing_of_the_old_one(bench: Bench) -> None:
    await bench.run(await bench.platform(function(missed="all")), NOON + MINUTE)
    bench.now = NOON + 31 * MINUTE  # removed and deployed while no platform looked
    timers = await bench.platform(function(missed="all", deployed=NOON + 30.5 * MINUTE))
    await bench.run(timers, NOON + 36 * MINUTE)
    assert bench.queue.runs() == at(0, 35)


async def test_another_schedule_holds_at_once_and_a_removed_function_is_left_alone(bench: Bench) -> None:
    timers = await bench.platform(function())
    await bench.run(timers, NOON + 2 * MINUTE)
    timers.apply(FunctionChanged(function("*/3 * * * *", deployed=NOON + 2 * MINUTE)))
    await bench.run(timers, NOON + 7 * MINUTE)
    assert bench.queue.runs() == at(0, 3, 6)
    assert [name.timer.expression for name in bench.book.marks] == ["*/3 * * * *"]
    timers.apply(FunctionRemoved("openfaas-fn", "tick"))
    await bench.run(timers, NOON + 60 * MINUTE)
    assert len(bench.queue.calls) == 3
    assert bench.book.marks == {}


async def test_a_deploy_that_leaves_the_schedule_as_it_is_disturbs_nothing(bench: Bench) -> None:
    timers = await bench.platform(function())
    for minute in range(12):
        bench.now = NOON + minute * MINUTE
        timers.apply(FunctionChanged(msgspec.structs.replace(function(), updated_at=bench.now, generation=minute)))
        await timers.turn()
    assert bench.queue.runs() == at(0, 5, 10)


@pytest.mark.parametrize("failure", [QueueFull("full"), StoreUnavailable("away"), TimeoutError(), RuntimeError("a defect")])
async def test_what_cannot_be_submitted_is_tried_again(bench: Bench, failure: Exception) -> None:
    timers = await bench.platform(function())
    bench.queue.failure = failure
    looks = []
    for _ in range(3):
        looks.append(await timers.turn() - bench.now)
        bench.now += looks[-1]
    assert looks == [1, 2, 4]
    bench.queue.failure = None
    await timers.turn()
    assert bench.queue.runs() == at(0)
    assert (timers.counts.failed, timers.counts.fired) == (3, 1)


async def test_a_full_queue_of_one_function_keeps_up_no_other(bench: Bench) -> None:
    timers = await bench.platform(function(), function(name="other"))

    async def submit(submissions: Sequence[Submission]) -> list[Receipt]:
        if submissions[0].function == TICK:
            raise QueueFull("full")
        return await bench.queue.submit(submissions)

    timers._submit = submit
    await bench.run(timers, NOON + 6 * MINUTE)
    assert bench.queue.runs() == at(0, 5)


@pytest.mark.parametrize(("missed", "away"), [("once", 0), ("all", 90)])
async def test_of_many_timers_so_many_are_done_before_others_have_the_loop(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, missed: str, away: float
) -> None:
    many = [function(name=f"tick-{n}", deployed=NOON - MINUTE, missed=missed) for n in range(300)]
    bench.now -= MINUTE
    timers = await bench.platform(*many)
    await timers.turn()
    bench.now = NOON + away * MINUTE
    reckoned, submitted, written = [0], list[int](), list[int]()
    next_after, between = Timer.next_after, Timer.between
    submit, write = bench.queue.submit, bench.book.write

    def one(timer: Timer, now: float) -> float:
        reckoned[-1] += 1
        return next_after(timer, now)

    def each(timer: Timer, since: float, now: float) -> Iterator[float]:
        for instant in between(timer, since, now):
            reckoned[-1] += 1
            yield instant

    async def kept(submissions: Sequence[Submission]) -> list[Receipt]:
        submitted.append(len(submissions))
        return await submit(submissions)

    async def noted(marks: Mapping[TimerId, Mark], gone: Iterable[TimerId] = ()) -> None:
        written.append(len(marks))
        await write(marks, gone)

    async def others() -> None:
        while True:
            reckoned.append(0)
            await asyncio.sleep(0)

    monkeypatch.setattr(Timer, "next_after", one)
    monkeypatch.setattr(Timer, "between", each)
    monkeypatch.setattr(timers, "_submit", kept)
    monkeypatch.setattr(bench.book, "write", noted)
    watching = asyncio.create_task(others())
    await timers.turn()
    watching.cancel()
    runs = 19 if away else 1
    assert len(bench.queue.runs()) == sum(submitted) == 300 * runs
    assert sum(reckoned) >= 300 * runs
    assert max(reckoned) <= 2 * AT_A_TIME  # an instant, and the next one after it
    assert max(submitted) <= TOGETHER
    assert len(submitted) <= 1.5 * sum(submitted) / TOGETHER + 1, "they share submissions"
    assert (sum(written), max(written)) == (300, MARKS_TOGETHER)


async def test_one_that_cannot_be_made_costs_the_others_of_its_group_a_few_tries(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    timers = await bench.platform(*(function(name=f"other-{n}") for n in range(30)), function(), function(name="last"))
    tries = []

    async def submit(submissions: Sequence[Submission]) -> list[Receipt]:
        tries.append(len(submissions))
        if any(one.function == TICK for one in submissions):
            raise QueueFull("full")
        return await bench.queue.submit(submissions)

    timers._submit = submit
    await timers.turn()
    assert len(bench.queue.calls) == 31
    assert len(tries) <= 2 * 5 + 1  # 32, 16, 16, 8, 8 …
    assert (timers.counts.fired, timers.counts.failed) == (31, 1)
    assert [record.message.partition(" cannot")[0] for record in caplog.records] == [
        "the run of '*/5 * * * *' of tick.openfaas-fn"
    ]


async def test_a_store_that_is_away_is_asked_once_for_a_group_and_told_of_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    timers = await bench.platform(*(function(name=f"tick-{n}") for n in range(TOGETHER)))
    bench.queue.failure = StoreUnavailable("away")
    assert await timers.turn() == NOON + 1
    assert timers.counts.failed == TOGETHER
    (record,) = caplog.records
    assert "and those of 49 other timers, cannot be submitted, again in 1 s: away" in record.message
    bench.queue.failure = None
    bench.now += 1
    await timers.turn()
    assert len(bench.queue.calls) == TOGETHER


async def test_no_run_while_the_one_before_has_not_ended(bench: Bench) -> None:
    timers = await bench.platform(function(overlap="false"))
    await bench.run(timers, NOON + MINUTE)
    bench.queue.open = {"call-0"}
    await bench.run(timers, NOON + 11 * MINUTE)
    assert bench.queue.runs() == at(0)
    assert timers.counts.overlapping == 2
    bench.queue.open = set()
    await bench.run(timers, NOON + 16 * MINUTE)
    assert bench.queue.runs() == at(0, 15)


async def test_missed_runs_do_not_overlap_either(bench: Bench) -> None:
    await bench.run(await bench.platform(function(overlap="false", missed="all")), NOON + MINUTE)
    bench.now = NOON + 31 * MINUTE
    timers = await bench.platform(function(overlap="false", missed="all"))
    await timers.turn()
    assert bench.queue.runs() == at(0, 30)
    assert timers.counts.overlapping == 5


async def test_the_autoscaler_is_told_in_time_and_once(bench: Bench) -> None:
    timers = await bench.platform(function("0 * * * *"))
    await bench.run(timers, NOON + 54 * MINUTE)
    assert bench.expected == []
    await bench.run(timers, NOON + 59 * MINUTE)
    assert bench.expected == [("tick", NOON + 60 * MINUTE)]
    await bench.run(timers, NOON + 60 * MINUTE)
    assert bench.expected == [("tick", NOON + 60 * MINUTE)]
    assert bench.queue.runs() == at(0, 60)


async def test_a_frequent_timer_is_always_expected(bench: Bench) -> None:
    await bench.run(await bench.platform(function("* * * * *")), NOON + 2.5 * MINUTE)
    assert bench.expected == [("tick", NOON + m * MINUTE) for m in (1, 2, 3)]
    assert TELL_BEFORE_S > MINUTE


async def test_the_clock_set_back_repeats_nothing_and_set_far_back_stops_nothing(bench: Bench) -> None:
    timers = await bench.platform(function())
    await bench.run(timers, NOON + 6 * MINUTE)
    bench.now = NOON + 4 * MINUTE
    await bench.run(timers, NOON + 11 * MINUTE)
    assert bench.queue.runs() == at(0, 5, 10)
    bench.now = NOON - 1000 * MINUTE
    again = await bench.platform(function(deployed=NOON - 2000 * MINUTE))
    await bench.run(again, NOON - 994 * MINUTE)
    assert bench.queue.runs()[3:] == at(-995)


async def test_a_time_that_the_clock_repeats_is_one_run(bench: Bench) -> None:
    # On 25 October 2026 Berlin's clock goes from 03:00 (CEST) back to 02:00 (CET): 02:30 is 00:30 and 01:30 UTC.
    bench.now = datetime(2026, 10, 24, 23, tzinfo=UTC).timestamp()
    timers = await bench.platform(function("30 2 * * *", zone="Europe/Berlin", deployed=bench.now))
    await bench.run(timers, bench.now + 48 * 3600)
    assert bench.queue.runs() == ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]


async def test_a_time_that_the_clock_skips_is_run_right_after(bench: Bench) -> None:
    # On 29 March 2026 it goes from 02:00 (CET) to 03:00 (CEST), which is 01:00 UTC.
    bench.now = datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp()
    timers = await bench.platform(function("30 2 * * *", zone="Europe/Berlin", deployed=bench.now))
    await bench.run(timers, bench.now + 48 * 3600)
    assert bench.queue.runs() == ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]


async def test_a_platform_that_was_down_while_the_clock_changed_makes_the_run_that_was(bench: Bench) -> None:
    bench.now = datetime(2026, 10, 24, 23, tzinfo=UTC).timestamp()
    started = function("30 2 * * *", zone="Europe/Berlin", deployed=bench.now)
    await (await bench.platform(started)).turn()
    bench.now = datetime(2026, 10, 25, 1, 45, tzinfo=UTC).timestamp()  # the second 02:45
    timers = await bench.platform(started)
    await bench.run(timers, bench.now + 3600)
    assert bench.queue.runs() == ["2026-10-25T00:30:00Z"]


async def test_marks_of_functions_that_are_gone_are_forgotten_after_a_while(bench: Bench) -> None:
    gone = TimerId(FunctionId("openfaas-fn", "gone"), Timer("* * * * *"))
    bench.book.marks[gone] = Mark(NOON)
    timers = await bench.platform(function())
    await bench.run(timers, NOON + 6 * MINUTE)
    assert gone in bench.book.marks
    await bench.run(timers, NOON + 16 * MINUTE)
    assert gone not in bench.book.marks


async def test_a_bad_schedule_that_came_past_the_api_is_left_out(bench: Bench) -> None:
    timers = await bench.platform(function("61 * * * *"), function(name="other"))
    await timers.turn()
    assert [one.function.name for _, one in bench.queue.calls.values()] == ["other"]


async def test_the_loop_looks_when_a_function_comes_and_ends_with_its_context(bench: Bench) -> None:
    timers = await bench.platform()
    async with timers, asyncio.timeout(20):
        timers.apply(FunctionChanged(function()))
        await bench.book.written.wait()
    assert bench.queue.runs() == at(0)
    assert (mark := timers.mark(TICK, Timer("*/5 * * * *"))) is not None
    assert (mark.ran, mark.call_id) == (NOON, "call-0")


class Step(NamedTuple):
    """Time goes on by `seconds`; then one of two platforms looks, is killed and started anew before it does, hands over to the
    other one, or looks while the queue (`queue`) or the book (`book`) is away."""

    seconds: float
    who: int
    event: str


steps = st.lists(
    st.builds(
        Step,
        st.one_of(st.floats(0.1, 20), st.floats(20, 400)),  # in all, less than the hundred runs that are made up for
        st.integers(0, 1),
        st.sampled_from(["look", "look", "look", "kill", "lead", "queue", "book"]),
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=150)
@given(steps=steps, schedule=st.sampled_from(["* * * * *", "*/7 * * * *", "@every 50s", "3 * * * *"]))
async def test_whatever_is_killed_or_away_each_run_is_one_call(steps: list[Step], schedule: str) -> None:
    bench = Bench()
    deployed = function(schedule, deployed=NOON, missed="all")
    platforms = [await bench.platform(deployed), await bench.platform(deployed, leads=False)]
    await platforms[0].turn()
    for step in (*steps, Step(0.0, 0, "lead")):
        bench.now += step.seconds
        if step.event == "kill":
            platforms[step.who] = await bench.platform(deployed)
        elif step.event == "lead":
            platforms[1 - step.who].lead(False)
            platforms[step.who].lead(True)
        bench.queue.failure = StoreUnavailable("away") if step.event == "queue" else None
        bench.book.failure = BookUnavailable("away") if step.event == "book" else None
        with contextlib.suppress(BookUnavailable):
            await platforms[step.who].turn()
        bench.queue.failure = bench.book.failure = None
    bench.now += LONGEST_RETRY_S  # what could not be submitted last is tried again by then
    await platforms[0].turn()
    timer = Timer(schedule)
    made = sorted(dict(one.headers)["X-Schedule-Time"] for _, one in bench.queue.calls.values())
    wanted = [datetime.fromtimestamp(i, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for i in timer.until(NOON, bench.now, 10_000)]
    assert made == wanted
