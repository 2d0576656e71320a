"""The dispatcher against a model: no call lost, none served twice, first come first served, limits never exceeded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.edge.backend import Backend
from gateway.edge.dispatcher import SERVED_IN_ONE_TURN, Dispatcher
from gateway.edge.refusal import Refusal
from orchestration.load import LoadSample
from orchestration.replica import Endpoint, Replica, ReplicaState


class NoConnections:
    """Stands for a pool: remembers only whether it was retired."""

    def __init__(self) -> None:
        self.retired = False

    def take(self) -> Any:
        return None

    def connect(self, call: Any) -> None:
        raise AssertionError("the dispatcher leaves connecting to calls")

    @property
    def unused(self) -> int:
        return 0

    def retire(self) -> None:
        self.retired = True

    def prune(self, unused_since: float) -> None: ...


class Bench:
    """The world around a dispatcher: a clock, a loop's next turn, and what it tells."""

    def __init__(self) -> None:
        self.time = 0.0
        self.samples: list[LoadSample] = []
        self.released: list[str] = []
        self.stirring: set[Dispatcher] = set()
        self._soon: list[Callable[[], object]] = []

    def on_load(self, sample: LoadSample) -> None:
        self.samples.append(sample)

    def on_released(self, replica_id: str) -> None:
        self.released.append(replica_id)

    def stirred(self, dispatcher: Dispatcher) -> None:
        self.stirring.add(dispatcher)

    def soon(self, function: Callable[[], object]) -> object:
        self._soon.append(function)
        return None

    def now(self) -> float:
        return self.time

    def connections(self, endpoint: Endpoint) -> NoConnections:
        return NoConnections()

    def turn(self) -> None:
        """Run what was asked for the next turn of the loop."""
        functions, self._soon = self._soon, []
        for function in functions:
            function()


class FakeCall:
    def __init__(self, number: int, held: int = 1, started: float = 0.0) -> None:
        self.number = number
        self.held = held
        self.started = started
        self.backend: Backend | None = None
        self.starts = 0
        self.refusal: Refusal | None = None
        self.over = False
        self.waits: list[tuple[float, bool]] = []

    def waited(self, now: float, cold: bool) -> None:
        self.waits.append((now - self.started, cold))

    def start(self, backend: Backend) -> None:
        assert self.backend is None and not self.over and self.refusal is None
        self.backend = backend
        self.starts += 1

    def refuse(self, refusal: Refusal) -> None:
        assert self.backend is None and not self.over and self.refusal is None
        self.refusal = refusal


def make_dispatcher(bench: Bench, *, concurrency: int = 0, queue_calls: int = 100, queue_bytes: int = 1000) -> Dispatcher:
    return Dispatcher(
        "ns", "echo", "echo-00001", bench, concurrency=concurrency, queue_calls=queue_calls, queue_bytes=queue_bytes
    )


def replica(number: int, state: ReplicaState, reason: str = "") -> Replica:
    endpoint = Endpoint(unix=f"/r{number}") if state is ReplicaState.RUNNING else None
    return Replica(
        id=f"r{number}", namespace="ns", function="echo", revision="echo-00001", state=state, endpoint=endpoint, reason=reason
    )


class DispatcherModel(RuleBasedStateMachine):
    """Random arrivals, ends, deaths, drains, retries, cancels; `calls` is the truth about every call."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.dispatcher = make_dispatcher(self.bench, concurrency=2, queue_calls=5)
        self.calls: list[FakeCall] = []
        self.order: list[FakeCall] = []  # of waiting calls, as they should be served
        self.states: dict[int, ReplicaState] = {}
        self.next_replica = 0
        self.arrivals = 0

    def waiting(self) -> list[FakeCall]:
        return [c for c in self.order if c.backend is None and c.refusal is None and not c.over]

    def running(self) -> list[FakeCall]:
        return [c for c in self.calls if c.backend is not None and not c.over]

    @rule(held=st.integers(1, 400))
    def arrive(self, held: int) -> None:
        call = FakeCall(len(self.calls), held)
        self.calls.append(call)
        self.order.append(call)
        self.bench.time += 0.01
        self.arrivals += 1
        self.dispatcher.admit(call, self.bench.time)

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(self.running()))
        assert call.backend is not None
        call.over = True
        self.dispatcher.release(call.backend, self.bench.time)

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def fail_unsent(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(self.running()))
        backend, call.backend = call.backend, None
        assert backend is not None
        self.order.remove(call)
        self.order.insert(0, call)
        self.dispatcher.rest(backend, self.bench.time)
        self.dispatcher.put_back(call, backend)

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def turn_away(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(self.running()))
        backend, call.backend = call.backend, None
        assert backend is not None
        self.order.remove(call)
        self.order.insert(0, call)
        self.dispatcher.turned_away(call, backend, self.bench.time)

    @precondition(lambda self: self.waiting())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(self.waiting()))
        call.over = True
        self.dispatcher.leave(call, self.bench.time)

    @rule()
    def become_ready(self) -> None:
        number, self.next_replica = self.next_replica, self.next_replica + 1
        self.states[number] = ReplicaState.RUNNING
        self.dispatcher.replica_changed(replica(number, ReplicaState.RUNNING))

    @precondition(lambda self: self.states)
    @rule(data=st.data(), state=st.sampled_from(list(ReplicaState)))
    def change_state(self, data: st.DataObject, state: ReplicaState) -> None:
        number = data.draw(st.sampled_from(sorted(self.states)))
        if state is ReplicaState.STOPPED:
            del self.states[number]
        else:
            self.states[number] = state
        self.dispatcher.replica_changed(replica(number, state, "boom"))

    @rule(seconds=st.floats(0.01, 2.0))
    def pass_time(self, seconds: float) -> None:
        self.bench.time += seconds
        self.dispatcher.sweep(self.bench.time)
        self.dispatcher.tick(self.bench.time)

    @rule()
    def turn(self) -> None:
        self.bench.turn()

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        assert list(self.dispatcher.waiting) == self.waiting()
        assert self.dispatcher.in_flight == len(self.running())
        assert self.dispatcher.meter.level == len(self.running()) + len(self.waiting())
        assert self.dispatcher.queue.held_bytes == sum(c.held for c in self.waiting())

    @invariant()
    def limits_hold(self) -> None:
        held: dict[Backend, int] = {}
        for call in self.running():
            assert call.backend is not None
            held[call.backend] = held.get(call.backend, 0) + 1
        for backend, count in held.items():
            assert count == backend.in_flight <= 2

    @invariant()
    def nobody_waits_beside_a_free_slot(self) -> None:
        free = [b for b in self.dispatcher._ready if b.in_flight < b.limit]
        assert not (free and self.dispatcher.waiting)

    @invariant()
    def nobody_waits_for_what_cannot_run(self) -> None:
        assert not (self.dispatcher.broken and self.dispatcher.waiting)

    @invariant()
    def idle_draining_replicas_were_released(self) -> None:
        for number, state in self.states.items():
            busy = any(c.backend is not None and c.backend.id == f"r{number}" for c in self.running())
            if state is ReplicaState.DRAINING and not busy:
                assert f"r{number}" in self.bench.released

    def teardown(self) -> None:
        self.bench.time += 1.0
        self.dispatcher.tick(self.bench.time)
        self.bench.turn()
        assert sum(sample.arrivals for sample in self.bench.samples) == self.arrivals


DispatcherModel.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestDispatcherModel = DispatcherModel.TestCase


def ready(dispatcher: Dispatcher, *numbers: int) -> None:
    for number in numbers:
        dispatcher.replica_changed(replica(number, ReplicaState.RUNNING))


def admit(dispatcher: Dispatcher, count: int, now: float = 0.0) -> list[FakeCall]:
    calls = [FakeCall(i) for i in range(count)]
    for call in calls:
        dispatcher.admit(call, now)
    return calls


def test_calls_spread_over_the_least_loaded_replicas() -> None:
    dispatcher = make_dispatcher(Bench(), concurrency=10)
    ready(dispatcher, 0, 1, 2)
    calls = admit(dispatcher, 6)
    assert sorted(c.backend.id for c in calls if c.backend) == ["r0", "r0", "r1", "r1", "r2", "r2"]


def test_a_replica_that_drains_no_more_still_has_its_calls() -> None:
    bench = Bench()
    dispatcher = make_dispatcher(bench, concurrency=1)
    ready(dispatcher, 0)
    first, second = admit(dispatcher, 2)
    dispatcher.replica_changed(replica(0, ReplicaState.DRAINING))
    dispatcher.replica_changed(replica(0, ReplicaState.RUNNING))
    assert (first.starts, second.starts, bench.released) == (1, 0, [])
    assert first.backend is not None
    dispatcher.release(first.backend, 1.0)
    assert (second.starts, bench.released) == (1, [])


def test_a_call_that_waited_learns_how_long_and_whether_for_a_replica() -> None:
    bench = Bench()
    dispatcher = make_dispatcher(bench, concurrency=1)
    cold, warm = admit(dispatcher, 1)[0], FakeCall(1, started=2.0)
    bench.time = 1.5
    ready(dispatcher, 0)
    dispatcher.admit(warm, 2.0)
    bench.time = 2.5
    assert dispatcher.oldest_wait_s(2.5) == 0.5
    assert cold.backend is not None
    dispatcher.release(cold.backend, 2.5)
    assert (cold.waits, warm.waits) == ([(1.5, True)], [(0.5, False)])
    assert dispatcher.oldest_wait_s(2.5) == 0.0


def test_a_burst_at_zero_is_told_once_and_whole_though_it_takes_a_few_turns_to_come() -> None:
    bench = Bench()
    dispatcher = make_dispatcher(bench)
    for calls in (1, 9, 40):
        admit(dispatcher, calls)
        bench.turn()
        assert not bench.samples
    bench.turn()
    assert [(s.queued, s.arrivals, s.in_flight) for s in bench.samples] == [(50, 50, 0)]


def test_a_burst_that_goes_on_is_told_of_after_a_few_milliseconds() -> None:
    bench = Bench()
    dispatcher = make_dispatcher(bench)
    while not bench.samples:
        admit(dispatcher, 1)
        bench.time += 0.001
        bench.turn()
    assert bench.samples[0].queued == 5


def test_a_queue_that_has_doubled_is_told_at_once_and_one_that_stays_each_sweep() -> None:
    bench = Bench()
    dispatcher = make_dispatcher(bench, concurrency=1)
    ready(dispatcher, 0)
    admit(dispatcher, 1)
    bench.turn()
    for _ in range(9):  # one at a time, a turn each
        admit(dispatcher, 1)
        bench.turn()
    assert [s.queued for s in bench.samples] == [0, 2, 4, 8]
    bench.time = 0.25
    dispatcher.sweep(bench.time)
    assert (bench.samples[-1].queued, bench.samples[-1].oldest_wait_s) == (9, 0.25)


def test_an_active_time_is_measured_from_its_first_call() -> None:
    bench = Bench()
    dispatcher = make_dispatcher(bench)
    bench.time = 600.0
    dispatcher.admit(FakeCall(0, started=600.0), 600.0)
    bench.time = 600.5
    bench.turn()
    assert (bench.samples[0].interval_s, bench.samples[0].concurrency) == (0.5, 1.0)


def test_one_more_than_the_queue_holds_is_refused_at_once() -> None:
    dispatcher = make_dispatcher(Bench(), queue_calls=3)
    calls = admit(dispatcher, 4)
    assert [c.refusal and (c.refusal.status, c.refusal.retry_after_s) for c in calls] == [None, None, None, (503, 1)]


def test_bytes_bound_the_queue_too() -> None:
    dispatcher = make_dispatcher(Bench(), queue_bytes=100)
    big, bigger = FakeCall(0, 60), FakeCall(1, 60)
    dispatcher.admit(big, 0.0)
    dispatcher.admit(bigger, 0.0)
    assert bigger.refusal is not None
    assert bigger.refusal.status == 503
    big.held += 50
    dispatcher.grew(big, 50)
    assert big.refusal is not None
    assert (dispatcher.queue.held_bytes, dispatcher.meter.level) == (0, 0)


def test_a_ready_replica_takes_a_bounded_number_in_one_turn() -> None:
    bench = Bench()
    dispatcher = make_dispatcher(bench, queue_calls=1000, queue_bytes=10_000)
    calls = admit(dispatcher, 150)
    ready(dispatcher, 0)
    assert sum(c.starts for c in calls) == SERVED_IN_ONE_TURN
    bench.turn()
    bench.turn()
    assert [c.starts for c in calls] == [1] * 150


def test_calls_waiting_for_a_revision_that_cannot_run_are_refused_and_learn_who_may_know_why() -> None:
    dispatcher = make_dispatcher(Bench())
    dispatcher.replica_changed(replica(0, ReplicaState.PENDING))
    (waiting,) = admit(dispatcher, 1)
    dispatcher.replica_changed(replica(0, ReplicaState.CRASH_LOOP, "ImportError: no module named x"))
    (late,) = admit(dispatcher, 1)
    for call in (waiting, late):
        assert call.refusal is not None
        assert (call.refusal.status, call.refusal.retry_after_s) == (503, 10)
        assert "ImportError" not in call.refusal.text
        assert "faas describe echo.ns and faas logs echo.ns say why" in call.refusal.text


def test_hope_keeps_calls_waiting_while_another_replica_starts() -> None:
    dispatcher = make_dispatcher(Bench())
    dispatcher.replica_changed(replica(0, ReplicaState.CRASH_LOOP, "boom"))
    dispatcher.replica_changed(replica(1, ReplicaState.PENDING))
    (call,) = admit(dispatcher, 1)
    ready(dispatcher, 1)
    assert call.starts == 1


def test_an_active_revision_is_told_each_second_and_an_idle_one_falls_silent() -> None:
    bench = Bench()
    dispatcher = make_dispatcher(bench)
    ready(dispatcher, 0)
    (call,) = admit(dispatcher, 1)
    bench.turn()
    assert call.backend is not None
    bench.time = 0.5
    dispatcher.release(call.backend, 0.5)
    for second in range(1, 6):
        bench.time = float(second)
        dispatcher.tick(bench.time)
    assert [(s.concurrency, s.in_flight, s.idle_replicas) for s in bench.samples] == [
        (1.0, 1, ()),
        (0.5, 0, ("r0",)),
        (0.0, 0, ("r0",)),
    ]


def test_an_unknown_draining_replica_is_released_at_once() -> None:
    bench = Bench()
    make_dispatcher(bench).replica_changed(replica(7, ReplicaState.DRAINING))
    assert bench.released == ["r7"]


def test_a_replica_that_restarts_elsewhere_gets_calls_there() -> None:
    dispatcher = make_dispatcher(Bench())
    ready(dispatcher, 0)
    dispatcher.replica_changed(msgspec.structs.replace(replica(0, ReplicaState.RUNNING), endpoint=Endpoint(unix="/new")))
    (call,) = admit(dispatcher, 1)
    assert call.backend is not None
    assert call.backend.endpoint.unix == "/new"
    assert dispatcher.ready == 1


def test_a_slot_that_was_refused_rests_and_is_tried_again() -> None:
    dispatcher = make_dispatcher(Bench(), concurrency=2)
    ready(dispatcher, 0)
    served, refused = admit(dispatcher, 2)
    backend, refused.backend = refused.backend, None
    assert backend is not None
    dispatcher.turned_away(refused, backend, 0.0)
    (late,) = admit(dispatcher, 1)
    assert (refused.starts, late.starts, dispatcher.quiet) == (1, 0, False)
    dispatcher.sweep(0.05)
    assert refused.starts == 1
    dispatcher.sweep(0.1)
    assert (refused.starts, late.starts) == (2, 0)
    served.over = True
    dispatcher.release(backend, 0.2)
    assert late.starts == 1


def test_what_a_busy_replica_goes_on_finishing_does_not_open_its_resting_slots() -> None:
    dispatcher = make_dispatcher(Bench(), concurrency=3)
    ready(dispatcher, 0)
    _, _, refused = admit(dispatcher, 3)
    backend, refused.backend = refused.backend, None
    assert backend is not None
    dispatcher.turned_away(refused, backend, 0.0)
    assert backend.limit == 2
    dispatcher.release(backend, 0.01)
    assert refused.starts == 2, "a slot that a call of ours has left is free for the next"
    assert backend.in_flight == 2
