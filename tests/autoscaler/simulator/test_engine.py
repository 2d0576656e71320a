from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.simulator.distribution import Distribution
from autoscaler.simulator.engine import Engine, Model
from autoscaler.simulator.synthetic import make
from autoscaler.simulator.trace import Call
from tests.autoscaler.simulator.policies import Fixed, OnDemand, simulate


def test_a_call_at_zero_waits_for_the_start() -> None:
    measures, (call,), samples = simulate([(10.0, 0.5)], OnDemand(idle_s=5))
    assert (call.word, call.cold, call.waited_s) == ("served", True, 1.0)
    assert (measures.cold, measures.calls, measures.served, measures.started, measures.largest) == (1, 1, 1, 1, 1)
    # told at 10 (it waits, and goes on to), 11 (runs), 12 (has ended), 13 (nothing more): idle since 12, so until 17
    assert [s.at for s in samples] == [10, 10.25, 10.5, 10.75, 11, 12, 13]
    figures = [(s.arrivals, s.in_flight, s.queued) for s in samples]
    assert figures == [(1, 0, 1), (0, 0, 1), (0, 0, 1), (0, 0, 1), (0, 1, 0), (0, 0, 0), (0, 0, 0)]
    assert [s.concurrency for s in samples] == [1, 1, 1, 1, 1, 0.5, 0], "the first one looks back on no time"
    assert measures.replica_s == pytest.approx(7.0)
    assert measures.memory_mib_s == pytest.approx(700.0)
    assert measures.writes == 2


def test_two_calls_on_one_replica_run_one_after_the_other() -> None:
    measures, calls, _ = simulate([(10.0, 2.0), (10.5, 2.0)], Fixed(1))
    assert [(c.waited_s, c.cold) for c in calls] == [(0.0, False), (1.5, False)]
    assert measures.replica_s == pytest.approx(100.0)
    assert measures.busy_s == 4.0


def test_a_freed_slot_goes_to_the_oldest_and_is_no_cold_start() -> None:
    """The second replica would be ready at 12; the first one is free at 11.5, before that."""
    _, calls, _ = simulate([(9.0, 1.5), (10.9, 0.5), (11.0, 0.2)], OnDemand(idle_s=60))
    assert [c.waited_s for c in calls] == pytest.approx([1.0, 0.6, 0.9])
    assert [c.cold for c in calls] == [True, False, True]


def test_a_burst_is_told_as_one_and_served_by_all_that_start() -> None:
    measures, calls, samples = simulate([(10.0, 3.0)] * 4, OnDemand(idle_s=60, per=2), limit=2)
    assert (samples[0].arrivals, samples[0].queued, samples[0].in_flight) == (4, 4, 0)
    assert measures.started == 2
    assert [c.waited_s for c in calls] == [1.0] * 4


def test_a_full_queue_drops_and_an_old_call_leaves() -> None:
    measures, calls, _ = simulate(
        [(10.0, 5.0)] * 3, Fixed(1), start=Distribution.constant(50.0), queue_calls=2, queue_timeout_s=20.0
    )
    assert sorted((c.word, c.waited_s) for c in calls) == [("dropped", 0.0), ("expired", 20.0), ("expired", 20.0)]
    assert (measures.dropped, measures.expired, measures.served, measures.cold) == (1, 2, 0, 0)


def test_a_call_runs_to_its_end_on_a_replica_that_was_let_go() -> None:
    class Once(OnDemand):
        def decide(self, now: float, *, wanted: int, ready: int, starting: int) -> int:
            return 1 if now < 15 else 0

    measures, (call,), _ = simulate([(10.0, 30.0)], Once(idle_s=0))
    assert call.word == "served"
    assert measures.replica_s == pytest.approx(40.0), "from 0 to 40, though nothing was wanted from 15 on"


def test_a_scale_down_takes_idle_replicas_before_busy_ones() -> None:
    class Shrinks(Fixed):
        def decide(self, now: float, *, wanted: int, ready: int, starting: int) -> int:
            return 2 if now < 20 else 1

    # The older replica gets the call and keeps it; the newer, idle one goes at the tick of 20.
    measures, (call,), samples = simulate([(19.5, 10.0)], Shrinks(2))
    assert call.waited_s == 0
    assert measures.replica_s == pytest.approx(100 + 20.5)
    assert samples[-1].idle_replicas == ("1",)


def test_what_lingers_holds_memory_for_longer() -> None:
    measures, _, _ = simulate([(10.0, 0.5)], OnDemand(idle_s=5), linger_s=30.0)
    assert measures.replica_s == pytest.approx(37.0)


def test_what_is_held_after_the_end_is_not_counted() -> None:
    measures, (call,), _ = simulate([(98.0, 10.0)], OnDemand(idle_s=5), length_s=100.0)
    assert call.word == "served"
    assert measures.replica_s == pytest.approx(2.0)


def test_the_next_call_of_a_timer_is_told_of_before_it_comes() -> None:
    policy = OnDemand(idle_s=5)
    simulate([(60.0, 0.1), (120.0, 0.1)], policy, trigger="timer", knows_timers=True, length_s=200.0)
    assert policy.expected == [(60.0, 1.0), (120.0, 1.0)]
    other = OnDemand(idle_s=5)
    simulate([(60.0, 0.1)], other, trigger="http", knows_timers=True)
    assert other.expected == []


def test_clients_wait_for_their_answers() -> None:
    """One replica, one call at a time of 0.5 s: two clients for 10 s end 20 calls, and the two that wait at the end."""
    trace = make("clients:clients=2,at=10s,until=20s,run=500ms,length=1m")
    engine = Engine(trace.workloads[0], Fixed(1), Model(start=Distribution.constant(1.0), limit=1), trace, 1)
    measures = engine.run()
    assert measures.served == measures.calls == 21


calls = st.lists(st.tuples(st.floats(0, 50), st.floats(0, 20)), max_size=40).map(sorted)


@given(
    calls=calls,
    limit=st.integers(0, 3),
    queue_calls=st.integers(0, 5),
    queue_timeout_s=st.floats(0.5, 20),
    idle_s=st.floats(0, 20),
    starts=st.tuples(st.floats(0, 5), st.floats(0, 5)).map(sorted),
)
@settings(max_examples=60, deadline=None)
def test_laws(
    calls: list[Call], limit: int, queue_calls: int, queue_timeout_s: float, idle_s: float, starts: list[float]
) -> None:
    model: dict[str, Any] = {
        "limit": limit,
        "queue_calls": queue_calls,
        "queue_timeout_s": queue_timeout_s,
        "start": Distribution((0.0, 1.0), starts),
    }
    measures, outcomes, samples = simulate(calls, OnDemand(idle_s, per=limit or 4), **model)
    # each call is served, dropped or expired exactly once
    assert sorted((o.came, o.runs_s) for o in outcomes) == calls
    assert measures.served + measures.dropped + measures.expired == measures.calls == len(calls)
    assert measures.served == sum(o.word == "served" for o in outcomes)
    # waits are not negative, and bounded
    assert all(0 <= o.waited_s <= queue_timeout_s + 1e-9 for o in outcomes)
    assert measures.cold <= measures.served
    # load is conserved: what samples integrate to is what calls waited and ran
    told = sum(s.concurrency * s.interval_s for s in samples)
    assert told == pytest.approx(sum(o.waited_s + (o.runs_s if o.word == "served" else 0) for o in outcomes), abs=1e-6)
    assert sum(s.arrivals for s in samples) == len(calls)
    # replica-seconds are the integral of the counts
    assert sum(measures.timeline.replica_s) == pytest.approx(measures.replica_s)
    # the same again
    again, *_ = simulate(calls, OnDemand(idle_s, per=limit or 4), **model)
    for name in ("replica_s", "cold", "writes", "started"):
        assert getattr(again, name) == getattr(measures, name)
