"""Named cases of a decision, and laws that hold under any load."""

from __future__ import annotations

import itertools
from math import ceil, inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.decider import Decider
from orchestration.decisions import Decision, Rule
from orchestration.scaling import Metric, ScaleSettings
from orchestration.schedule import parse_schedule
from tests.autoscaler.samples import sample

MONDAY_NOON = 1_700_481_600.0 + 6 * 3600  # 2023-11-20 12:00 UTC + 6 h = 18:00


class Bench:
    """A decider with a place of replicas that start and stop at once unless told otherwise."""

    def __init__(self, *, capacity: int = 10, replicas: int = 1, **settings: Any) -> None:
        self.settings = ScaleSettings(**({"target": float(capacity or 100)} | settings))
        self.now, self.wall = 1000.0, MONDAY_NOON
        self.wanted = self.ready = replicas
        self.starting = 0
        self.starts_at_once = True
        self.decider = Decider(self.settings, capacity, self.now, replicas=replicas)
        self.changes: list[int] = []

    def decide(self) -> Decision:
        decision = self.decider.decide(self.now, self.wall, wanted=self.wanted, ready=self.ready, starting=self.starting)
        if decision.replicas != self.wanted:
            self.changes.append(decision.replicas)
        self.wanted = decision.replicas
        if self.starts_at_once or self.wanted < self.ready:
            self.ready = min(self.wanted, self.ready + self.starting) if not self.starts_at_once else self.wanted
        self.starting = self.wanted - self.ready
        return decision

    def tell(self, **load: Any) -> Decision:
        self.decider.observe(sample(**load), self.now)
        return self.decide()

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds

    def load(self, seconds: int, **load: Any) -> Decision:
        """Tell the same load each second."""
        for _ in range(seconds):
            self.passes(1)
            decision = self.tell(**load)
        return decision

    def quiet(self, seconds: float) -> None:
        """Nothing happens: decisions only when the decider asks to be looked at."""
        until, self_looks = self.now + seconds, 0
        while self.decider.look_at <= until:
            self.passes(max(0.0, self.decider.look_at - self.now))
            self.decide()
            self_looks += 1
            assert self_looks < 10_000
        self.passes(until - self.now)


# rising


def test_a_burst_at_zero_asks_for_the_whole_queue_in_the_first_decision() -> None:
    bench = Bench(replicas=0, zero=True, max_replicas=40)
    decision = bench.tell(arrivals=100, queued=100, interval_s=0.0)
    assert (decision.replicas, decision.rule) == (ceil(100 / 7), Rule.BACKLOG)
    assert decision.reason == "100 waiting at zero / target 7 → 15"


def test_one_call_at_zero_wakes_one() -> None:
    assert Bench(replicas=0, zero=True).tell(arrivals=1, queued=1, interval_s=0.0).replicas == 1


def test_a_call_at_zero_wakes_the_floor_where_there_is_one() -> None:
    assert Bench(replicas=0, min_replicas=3).tell(arrivals=1, queued=1, interval_s=0.0).replicas == 3


def test_what_is_twice_too_much_is_decided_at_once() -> None:
    bench = Bench(max_replicas=40)
    bench.passes(0.02)
    decision = bench.tell(arrivals=100, in_flight=10, queued=90, interval_s=0.0)
    assert (decision.replicas, decision.rule) == (15, Rule.BACKLOG)


def test_a_queue_that_flickers_asks_for_nothing_and_one_that_stays_does() -> None:
    bench = Bench(capacity=1, replicas=2, target=1.0, utilisation=0.7)
    bench.load(70, in_flight=1)
    bench.passes(0.3)
    assert bench.tell(in_flight=2, queued=1, oldest_wait_s=0.005, interval_s=0.0, concurrency=1.0).replicas == 2
    bench.passes(0.1)
    decision = bench.tell(in_flight=2, queued=1, oldest_wait_s=0.105, interval_s=0.1, concurrency=3.0)
    assert (decision.replicas, decision.rule) == (5, Rule.BACKLOG)
    assert "2 in flight + 1 waiting / target 0.7 → 5" in decision.reason


def test_replicas_that_start_count_so_that_nothing_is_asked_for_twice() -> None:
    bench = Bench(replicas=0, zero=True, max_replicas=100)
    bench.starts_at_once = False
    assert bench.tell(arrivals=50, queued=50, interval_s=0.0).replicas == 8
    for _ in range(5):
        bench.load(1, queued=50, oldest_wait_s=5.0)
    bench.load(1, queued=79, oldest_wait_s=5.0)
    assert bench.changes[0] == 8
    assert bench.changes[1:] in ([], [ceil(79 / 7)]), "only what the averages say may be added"


def test_no_oscillation_with_replicas_that_start_slowly() -> None:
    """A closed loop of 50 calls, each of them in flight or waiting, and replicas that need 5 s."""
    bench = Bench(replicas=0, zero=True, max_replicas=100)
    bench.starts_at_once = False
    bench.tell(arrivals=50, queued=50, interval_s=0.0)
    for second in range(120):
        if second == 5:
            bench.ready, bench.starting, bench.starts_at_once = bench.wanted, 0, True
        in_flight = min(50, 10 * bench.ready)
        bench.load(1, in_flight=in_flight, queued=50 - in_flight, oldest_wait_s=1.0 if in_flight < 50 else 0.0)
    assert bench.changes == [8]


def test_growth_below_the_panic_threshold_is_served_when_calls_wait() -> None:
    bench = Bench(replicas=10, max_replicas=40)
    bench.load(70, in_flight=65)
    assert bench.wanted == 10
    bench.load(1, in_flight=100, queued=30, oldest_wait_s=0.3)
    assert bench.wanted == ceil(130 / 7)


def test_panic_is_said_to_ask_or_to_keep() -> None:
    bench = Bench(metric=Metric.CPU, target=500.0, utilisation=0.9, replicas=1)
    for cpu in (100, 100, 100, 1800):
        bench.passes(5)
        bench.decider.measured(cpu, bench.now)
    assert bench.decide().reason == "1517 m of CPU over 6s / target 450 → 4; in panic"
    bench.passes(8)
    bench.decider.measured(100, bench.now)
    assert bench.decide().reason.endswith("in panic 4 are kept")


def test_what_is_not_known_is_not_asked_for_again_and_again() -> None:
    bench = Bench(metric=Metric.CPU, target=500.0, replicas=3)
    bench.decide()
    assert bench.decider.look_at == inf


def test_steady_load_has_what_it_needs() -> None:
    bench = Bench(max_replicas=40)
    bench.load(80, in_flight=50)
    assert bench.wanted == ceil(50 / 7)


def test_calls_a_second() -> None:
    bench = Bench(metric=Metric.RPS, target=50.0, utilisation=0.9)
    decision = bench.load(70, arrivals=100, in_flight=2)
    assert decision.replicas == ceil(100 / 45)
    assert decision.reason.startswith("100 calls/s over 1m / target 45 → 3")


def test_what_is_measured_decides_and_what_is_not_known_changes_nothing() -> None:
    bench = Bench(metric=Metric.CPU, target=500.0, utilisation=0.9, replicas=3)
    decision = bench.load(5, in_flight=1)
    assert (decision.replicas, decision.rule) == (3, Rule.NO_DATA)
    assert decision.reason == "cpu is not known → 3 kept"
    assert decision.stable is None
    bench.decider.measured(1800, bench.now)
    bench.passes(1)
    decision = bench.decide()
    assert decision.replicas == ceil(1800 / 450)


def test_a_metric_of_ones_own_wakes_from_zero() -> None:
    bench = Bench(metric=Metric.CUSTOM, target=10.0, utilisation=1.0, replicas=0, zero=True, zero_after_s=30)
    assert bench.decide().replicas == 0
    for _ in range(3):
        bench.passes(5)
        bench.decider.measured(35, bench.now)
        bench.decide()
    assert bench.wanted == 4
    for _ in range(30):
        bench.passes(5)
        bench.decider.measured(0, bench.now)
        bench.decide()
    assert bench.wanted == 0


# bounds


def test_max_bounds_and_says_so() -> None:
    decision = Bench(replicas=0, max_replicas=5).tell(arrivals=100, queued=100, interval_s=0.0)
    assert (decision.replicas, decision.rule) == (5, Rule.MAX)
    assert decision.reason.endswith("limited by max 5")


def test_min_is_the_floor() -> None:
    bench = Bench(min_replicas=2, replicas=1)
    decision = bench.decide()
    assert (decision.replicas, decision.rule) == (2, Rule.MIN)


def test_initial_scale_holds_until_it_was_reached_once() -> None:
    bench = Bench(replicas=5, initial_replicas=5)
    bench.ready, bench.starting, bench.starts_at_once = 0, 5, False
    bench.passes(61)
    assert bench.decide().rule is Rule.INITIAL
    bench.ready, bench.starting, bench.starts_at_once = 5, 0, True
    bench.decide()
    bench.quiet(120)
    assert bench.wanted == 1


def test_initial_scale_holds_a_last_time_in_the_decision_that_sees_it_reached() -> None:
    """Knative's table of bounds: 5 to 1, initial scale 5 just reached → 5 kept for this round."""
    bench = Bench(replicas=5, initial_replicas=5)
    bench.passes(61)
    assert (bench.decide().replicas, bench.decider.look_at) == (5, bench.now + 2)
    bench.passes(2)
    assert bench.decide().replicas == 2


@pytest.mark.parametrize(
    ("idle_s", "zero", "retention_s", "count"),
    [
        (299, True, 0, 1),  # active one second less than the window
        (300, True, 0, 0),
        (300, True, 60, 1),  # retention longer, and not over
        (360, True, 60, 0),
        (5000, False, 0, 1),  # scale to zero disabled
    ],
)
def test_knatives_table_of_bounds_and_zero(idle_s: float, zero: bool, retention_s: float, count: int) -> None:
    """What has a meaning without an activator: window and retention are one idle time, counted from the last call."""
    bench = Bench(replicas=1, window_s=300, zero=zero, zero_after_s=300 + retention_s)
    bench.load(1, in_flight=1)
    bench.tell(concurrency=0.0)
    bench.quiet(idle_s)
    assert bench.decide().replicas == count


def test_activation_scale() -> None:
    bench = Bench(activation_replicas=3)
    bench.load(3, in_flight=1)
    assert bench.wanted == 3


def test_a_schedule_is_a_floor_while_it_holds() -> None:
    bench = Bench(schedule=parse_schedule("0 19 * * * | 0 20 * * * | 4 | UTC"), zero=True, zero_after_s=60)
    bench.decide()
    begins_at = bench.now + 3600
    bench.quiet(3599)
    assert bench.wanted == 0
    assert bench.decider.due_at == pytest.approx(begins_at)
    bench.quiet(2)
    assert bench.wanted == 4
    assert bench.decider.due_at == inf
    bench.quiet(3600)
    assert bench.wanted == 0
    assert bench.changes == [0, 4, 0]


def test_a_call_that_is_due_finds_a_replica() -> None:
    bench = Bench(replicas=1, zero=True, zero_after_s=10)
    bench.decide()
    bench.quiet(20)
    assert bench.wanted == 0
    assert bench.decider.due_at == inf
    bench.decider.expect(bench.now + 100, lead_s=0.5)
    due_at = bench.now + 99.5
    bench.decide()
    assert bench.decider.due_at == due_at
    bench.quiet(99.4)
    assert bench.wanted == 0
    bench.quiet(0.2)
    assert bench.wanted == 1
    bench.quiet(30)
    assert bench.wanted == 0, "the call did not come"


# falling


def test_idle_for_the_time_that_was_set_is_zero_whatever_the_windows_say() -> None:
    bench = Bench(zero=True, zero_after_s=10, max_replicas=40)
    bench.load(70, in_flight=90)
    assert bench.wanted == ceil(90 / 7)
    ended = bench.now
    bench.tell()
    bench.quiet(9.9)
    assert bench.wanted > 0
    bench.quiet(0.2)
    assert bench.wanted == 0
    assert bench.now - ended == pytest.approx(10.1)


def test_without_zero_the_floor_is_reached_when_the_window_is_over() -> None:
    bench = Bench(max_replicas=40)
    bench.load(70, in_flight=90)
    bench.tell()
    bench.quiet(60 + 10)
    assert bench.wanted == 1
    assert bench.decider.look_at == inf or bench.decider.look_at > bench.now + 10


def test_one_step_halves_at_most_and_two_seconds_lie_between_steps() -> None:
    bench = Bench(replicas=16, max_replicas=40, window_s=6)
    bench.passes(100)
    times = []
    for _ in range(200):
        bench.passes(0.1)
        before = bench.wanted
        bench.decide()
        if bench.wanted != before:
            times.append((bench.now, bench.wanted))
    assert [count for _, count in times] == [8, 4, 2, 1]
    assert all(later - sooner >= 2 for (sooner, _), (later, _) in itertools.pairwise(times))


def test_calls_in_flight_keep_the_replicas_that_they_fill() -> None:
    bench = Bench(replicas=8, max_replicas=40, window_s=6)
    bench.passes(100)
    decision = bench.tell(concurrency=1.0, in_flight=45, interval_s=0.2)
    assert (decision.replicas, decision.rule) == (5, Rule.BUSY)


def test_a_count_set_by_hand_holds_for_a_window() -> None:
    bench = Bench()
    bench.decide()
    bench.decider.overruled(bench.now, 6)
    bench.wanted = bench.ready = 6
    assert bench.decide().reason.endswith("→ 0; set by hand: 6 are kept")
    bench.quiet(59)
    assert bench.wanted == 6
    bench.quiet(20)
    assert bench.wanted == 1


def test_zero_by_hand_stays_until_a_call_comes() -> None:
    bench = Bench(min_replicas=2, replicas=2, schedule=parse_schedule("0 0 1 1 * | 59 23 31 12 * | 4 | UTC"))
    bench.decide()
    bench.decider.overruled(bench.now, 0)
    bench.wanted = bench.ready = 0
    assert bench.decide().rule is Rule.STOPPED
    bench.quiet(5000)
    assert bench.wanted == 0
    bench.tell(arrivals=1, queued=1, interval_s=0.0)
    assert bench.wanted == 4


def test_zero_by_hand_is_not_undone_by_calls_that_were_told_of_before_or_that_still_run() -> None:
    bench = Bench()
    bench.load(1, in_flight=3, queued=2)
    bench.decider.overruled(bench.now, 0)
    bench.wanted = bench.ready = 0
    assert bench.decide().replicas == 0
    assert bench.load(1, in_flight=3).replicas == 0
    assert bench.load(1, in_flight=2, queued=1).replicas == 1


def test_a_count_set_by_hand_holds_for_a_window_also_where_it_was_idle_for_long() -> None:
    bench = Bench(replicas=0, zero=True, zero_after_s=10)
    bench.decide()
    bench.quiet(5000)
    bench.decider.overruled(bench.now, 3)
    bench.wanted = bench.ready = 3
    assert bench.decide().replicas == 3
    bench.quiet(59)
    assert bench.wanted == 3
    bench.quiet(2)
    assert bench.wanted == 0
    bench.decider.overruled(bench.now, 1)
    bench.wanted = bench.ready = 1
    assert bench.decide().reason.endswith("set by hand: not to zero within 1m")
    bench.quiet(59)
    assert bench.wanted == 1
    bench.quiet(2)
    assert bench.wanted == 0


def test_a_deploy_ends_a_stop_by_hand() -> None:
    bench = Bench(schedule=parse_schedule("0 0 1 1 * | 59 23 31 12 * | 4 | UTC"))
    bench.decide()
    bench.decider.overruled(bench.now, 0)
    bench.wanted = bench.ready = 0
    assert bench.decide().rule is Rule.STOPPED
    bench.wanted = bench.ready = 1  # as a new revision has
    assert bench.decide().rule is Rule.SCHEDULE


def test_what_may_not_be_at_zero_any_more_comes_back() -> None:
    bench = Bench(replicas=0, zero=True, zero_after_s=10)
    assert bench.decide().replicas == 0
    bench.decider.configure(ScaleSettings(min_replicas=2, target=10.0), 10)
    decision = bench.decide()
    assert (decision.replicas, decision.rule) == (2, Rule.MIN)


def test_another_revision_begins_with_no_calls_and_no_idle_time() -> None:
    bench = Bench(zero=True, zero_after_s=10)
    bench.load(3, in_flight=5)
    bench.passes(100)
    bench.decider.moved(bench.now)
    assert bench.decide().in_flight == 0
    bench.quiet(9.9)
    assert bench.wanted > 0
    bench.quiet(0.2)
    assert bench.wanted == 0


def test_a_schedule_follows_a_wall_clock_that_is_set() -> None:
    """Or one that ran on while the machine slept and its steady clock stood."""
    bench = Bench(schedule=parse_schedule("0 19 * * * | 0 20 * * * | 4 | UTC"))
    bench.decide()
    bench.wall += 3600
    bench.quiet(60)
    assert bench.wanted == 4
    bench.wall -= 3600
    bench.quiet(60 + 10)
    assert bench.wanted == 1


def test_a_restart_takes_nothing_away_for_a_window() -> None:
    bench = Bench(replicas=7)
    assert bench.decide().reason.endswith("→ 0; the platform has just started: 7 are kept")
    bench.quiet(59)
    assert bench.wanted == 7
    bench.quiet(15)
    assert bench.wanted == 1


def test_what_is_idle_at_its_floor_is_not_looked_at_and_keeps_no_windows() -> None:
    bench = Bench()
    bench.load(10, in_flight=3)
    bench.tell()
    bench.quiet(200)
    assert bench.decider.look_at == inf
    assert bench.decider.observed.resting


# laws

loads = st.lists(
    st.tuples(st.floats(0.05, 5), st.integers(0, 300), st.integers(0, 300), st.floats(0, 3)), min_size=1, max_size=60
)


@given(
    low=st.integers(0, 20),
    extra=st.integers(0, 30),
    zero=st.booleans(),
    capacity=st.integers(0, 50),
    replicas=st.integers(0, 60),
    steps=loads,
)
def test_bounds_hold_and_calls_never_find_zero(
    low: int, extra: int, zero: bool, capacity: int, replicas: int, steps: list[tuple[float, int, int, float]]
) -> None:
    high = max(1, low + extra)
    bench = Bench(
        capacity=capacity, replicas=replicas, min_replicas=low, max_replicas=high, zero=zero or low == 0, zero_after_s=20
    )
    for pause, in_flight, queued, waited_s in steps:
        bench.passes(pause)
        decision = bench.tell(in_flight=in_flight, queued=queued, oldest_wait_s=waited_s, arrivals=queued)
        assert decision.replicas <= high
        assert decision.replicas == 0 or decision.replicas >= low
        assert decision.replicas or not queued
        assert decision.reason
        bench.quiet(pause)
        assert bench.wanted <= high


@given(capacity=st.integers(1, 50), few=st.integers(1, 300), more=st.integers(0, 300), replicas=st.integers(0, 20))
def test_more_calls_never_ask_for_fewer_replicas(capacity: int, few: int, more: int, replicas: int) -> None:
    counts = []
    for load in (few, few + more):
        bench = Bench(capacity=capacity, replicas=replicas, max_replicas=1000)
        bench.passes(0.5)
        fit = min(load, capacity * replicas)
        counts.append(bench.tell(in_flight=fit, queued=load - fit, oldest_wait_s=0.2, interval_s=0.5).replicas)
    assert counts[0] <= counts[1]


@given(steps=loads, replicas=st.integers(1, 20))
def test_a_metric_that_is_not_known_decides_nothing(steps: list[tuple[float, int, int, float]], replicas: int) -> None:
    bench = Bench(capacity=0, metric=Metric.MEMORY, target=100.0, replicas=replicas)
    for pause, in_flight, _, _ in steps:
        bench.passes(pause)
        bench.tell(in_flight=in_flight)
    assert bench.wanted == replicas
