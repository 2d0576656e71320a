"""Shared limits: the ledger and the edges' shares against a model, with every order of messages that links allow."""

from __future__ import annotations

from collections import deque

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.edge.backend import Backend
from gateway.edge.dispatcher import Dispatcher
from gateway.edge.messages import Grant, Recall, Return, Want
from gateway.edge.slots import SlotLedger, shares, spread
from orchestration.events import Event, FunctionChanged, ReplicaChanged
from orchestration.function import Function
from orchestration.replica import ReplicaState
from orchestration.rollout import deploy
from orchestration.spec import FunctionSpec
from tests.gateway.edge.test_dispatcher import Bench, FakeCall, replica


def function(limit: int) -> Function:
    return deploy(
        None, FunctionSpec(service="echo", image="x", namespace="ns", env_vars={"max_inflight": str(limit)}), "sha256:0", 0.0
    )


class Place:
    """One edge: its dispatcher, and the messages that are on their way to and from it."""

    def __init__(self, limit: int, clock: Bench) -> None:
        self.bench = Bench()
        self.clock = clock
        self.down: deque[Event | Grant | Recall] = deque()
        self.up: deque[Want | Return] = deque()
        self.calls: list[FakeCall] = []
        self.dispatcher = Dispatcher(
            "ns", "echo", "echo-00001", self.bench, concurrency=limit, queue_calls=50, tell_slots=self.up.append
        )

    def hear(self) -> None:
        message = self.down.popleft()
        share = self.dispatcher.share
        assert share is not None
        if isinstance(message, Grant):
            share.grant(message)
        elif isinstance(message, Recall):
            share.recall(message)
        elif isinstance(message, ReplicaChanged):
            self.dispatcher.replica_changed(message.replica)

    def running(self) -> list[FakeCall]:
        return [c for c in self.calls if c.backend is not None and not c.over]

    def waiting(self) -> list[FakeCall]:
        return [c for c in self.calls if c.backend is None and c.refusal is None and not c.over]


class World:
    """A ledger and its edges. Time stands still unless a test moves `clock.time`."""

    def __init__(self, limit: int, edges: int) -> None:
        self.limit = limit
        self.clock = Bench()
        self.places: dict[str, Place] = {}
        self.function = function(limit)
        self.ledger = SlotLedger(lambda edge, message: self.places[edge].down.append(message))
        self.ledger.apply(FunctionChanged(self.function))
        self.states: dict[int, ReplicaState] = {}
        self.started = 0
        self.made = 0
        for _ in range(edges):
            self.join()

    def join(self) -> str:
        edge = f"edge-{self.started}"
        self.started += 1
        place = self.places[edge] = Place(self.limit, self.clock)
        for number, state in self.states.items():
            place.down.append(ReplicaChanged(replica(number, state)))
        self.ledger.join(edge)
        return edge

    def die(self, edge: str) -> None:
        del self.places[edge]
        self.ledger.leave(edge)

    def replica(self, number: int, state: ReplicaState) -> None:
        if state is ReplicaState.STOPPED:
            self.states.pop(number, None)
        else:
            self.states[number] = state
        event = ReplicaChanged(replica(number, state))
        for place in self.places.values():
            place.down.append(event)
        self.ledger.apply(event)

    def call(self, edge: str) -> FakeCall:
        place = self.places[edge]
        call = FakeCall(self.made, started=self.clock.time)
        self.made += 1
        place.calls.append(call)
        place.dispatcher.admit(call, self.clock.time)
        return call

    def end(self, edge: str, call: FakeCall) -> None:
        assert call.backend is not None
        call.over = True
        self.places[edge].dispatcher.release(call.backend, self.clock.time)

    def heard_by_ledger(self, edge: str) -> None:
        message = self.places[edge].up.popleft()
        if isinstance(message, Want):
            self.ledger.wanted(edge, message)
        else:
            self.ledger.returned(edge, message)

    def settle(self) -> int:
        """Deliver everything; returns how many messages that took."""
        messages = 0
        for _ in range(10_000):
            busy = False
            for edge, place in self.places.items():
                while place.down:
                    place.hear()
                    messages += 1
                    busy = True
                if place.bench._soon:
                    place.bench.turn()
                    busy = True
                while place.up:
                    self.heard_by_ledger(edge)
                    messages += 1
                    busy = True
            if not busy:
                return messages
        raise AssertionError("messages go round for ever")

    def in_flight(self) -> dict[str, int]:
        """Calls at each replica that was never closed, over all edges."""
        sums: dict[str, int] = {}
        for place in self.places.values():
            for backend in place.dispatcher._backends.values():
                sums[backend.id] = sums.get(backend.id, 0) + backend.in_flight
        return sums


class SharedLimits(RuleBasedStateMachine):
    """Edges come and die, replicas too, calls come, end, leave and are refused; messages arrive late but in order."""

    @initialize(limit=st.integers(1, 5), edges=st.integers(1, 4))
    def begin(self, limit: int, edges: int) -> None:
        self.world = World(limit, edges)
        self.next_replica = 0

    def edge(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.world.places)))

    @rule(data=st.data(), count=st.integers(1, 8))
    def calls_come(self, data: st.DataObject, count: int) -> None:
        edge = self.edge(data)
        for _ in range(count):
            self.world.clock.time += 0.003
            self.world.call(edge)

    @rule(data=st.data())
    def a_call_ends(self, data: st.DataObject) -> None:
        edge = self.edge(data)
        if running := self.world.places[edge].running():
            self.world.clock.time += 0.01
            self.world.end(edge, data.draw(st.sampled_from(running)))

    @rule(data=st.data())
    def a_client_leaves(self, data: st.DataObject) -> None:
        place = self.world.places[self.edge(data)]
        if waiting := place.waiting():
            call = data.draw(st.sampled_from(waiting))
            call.over = True
            place.dispatcher.leave(call, self.world.clock.time)

    @rule(data=st.data())
    def a_replica_refuses(self, data: st.DataObject) -> None:
        place = self.world.places[self.edge(data)]
        if running := [c for c in place.running() if c.backend is not None and c.backend.open]:
            call = data.draw(st.sampled_from(running))
            backend, call.backend = call.backend, None
            assert backend is not None
            place.dispatcher.turned_away(call, backend, self.world.clock.time)

    @rule()
    def a_replica_is_ready(self) -> None:
        self.world.replica(self.next_replica, ReplicaState.RUNNING)
        self.next_replica += 1

    @precondition(lambda self: self.world.states)
    @rule(data=st.data(), state=st.sampled_from([ReplicaState.DRAINING, ReplicaState.PENDING, ReplicaState.STOPPED]))
    def a_replica_goes(self, data: st.DataObject, state: ReplicaState) -> None:
        self.world.replica(data.draw(st.sampled_from(sorted(self.world.states))), state)

    @precondition(lambda self: len(self.world.places) > 1)
    @rule(data=st.data())
    def an_edge_dies(self, data: st.DataObject) -> None:
        self.world.die(self.edge(data))

    @precondition(lambda self: len(self.world.places) < 5)
    @rule()
    def an_edge_comes(self) -> None:
        self.world.join()

    @rule(data=st.data())
    def a_message_arrives(self, data: st.DataObject) -> None:
        edge = self.edge(data)
        place = self.world.places[edge]
        if place.down:
            place.hear()
        if place.up:
            self.world.heard_by_ledger(edge)

    @rule(data=st.data())
    def a_turn_of_a_loop(self, data: st.DataObject) -> None:
        self.world.places[self.edge(data)].bench.turn()

    @rule()
    def everything_arrives(self) -> None:
        """When nothing is on its way, no call waits beside a free slot, whichever edge owns that."""
        self.world.settle()
        self.world.clock.time += 1.0
        for place in self.world.places.values():
            place.dispatcher.sweep(self.world.clock.time)
        self.world.settle()
        in_flight = self.world.in_flight()
        free = [
            number
            for number, state in self.world.states.items()
            if state is ReplicaState.RUNNING and in_flight.get(f"r{number}", 0) < self.world.limit
        ]
        waiting = sum(len(place.waiting()) for place in self.world.places.values())
        assert not (free and waiting), (free, waiting)

    @invariant()
    def limits_hold(self) -> None:
        if hasattr(self, "world"):
            for replica_id, count in self.world.in_flight().items():
                assert count <= self.world.limit, replica_id


SharedLimits.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestSharedLimits = SharedLimits.TestCase


def ready(limit: int, edges: int, replicas: int = 1) -> World:
    world = World(limit, edges)
    for number in range(replicas):
        world.replica(number, ReplicaState.RUNNING)
    world.settle()
    return world


def owned(world: World) -> list[int]:
    """How many slots each edge owns, by name."""
    return [sum(b.slots for b in world.places[edge].dispatcher.open_backends()) for edge in sorted(world.places)]


@given(st.integers(0, 300), st.lists(st.integers(0, 100), min_size=1, max_size=12))
def test_spreading_takes_what_is_asked_as_evenly_as_it_can(amount: int, sizes: list[int]) -> None:
    taken = spread(amount, sizes)
    assert sum(taken) == min(amount, sum(sizes))
    assert all(0 <= part <= size for part, size in zip(taken, sizes, strict=True))
    unfinished = [part for part, size in zip(taken, sizes, strict=True) if part < size]
    assert not unfinished or max(taken) - min(unfinished) <= 1


@pytest.mark.parametrize(
    ("limit", "edges", "expected"),
    [(100, 2, [50, 50]), (100, 3, [33, 33, 34]), (1, 2, [0, 1]), (3, 4, [0, 1, 1, 1])],
)
def test_slots_are_dealt_out_evenly(limit: int, edges: int, expected: list[int]) -> None:
    assert sorted(owned(ready(limit, edges))) == expected


def test_single_slots_of_many_replicas_spread_over_edges() -> None:
    names = ["edge-0", "edge-1", "edge-2", "edge-3"]
    owners = [max(names, key=shares(f"replica-{n}", 1, names).__getitem__) for n in range(400)]
    assert all(70 <= owners.count(name) <= 130 for name in names)


def test_a_saturated_edge_gets_the_idle_ones_slots() -> None:
    world = ready(100, 2)
    calls = [world.call("edge-0") for _ in range(100)]
    messages = world.settle()
    assert sum(c.starts for c in calls) == 100
    assert messages <= 10, "slots move many at a time"
    for call in calls:
        world.end("edge-0", call)
    assert world.call("edge-1").starts == 0, "all slots are where they were used last"
    world.settle()
    assert owned(world) == [50, 50], "half of what is idle comes back with the first that is asked for"


def test_a_single_slot_serves_calls_of_all_edges_in_the_order_in_which_they_came() -> None:
    world = ready(1, 3)
    order: list[FakeCall] = []
    calls = []
    for number in range(12):
        world.clock.time += 0.05
        edge = f"edge-{number % 3}"
        calls.append((edge, world.call(edge)))
        world.settle()
    while len(order) < 12:
        started = [(edge, call) for edge, call in calls if call.starts and not call.over]
        assert len(started) == 1
        order.append(started[0][1])
        world.end(*started[0])
        world.settle()
    assert [call.number for call in order] == list(range(12))


def test_a_slot_stays_where_calls_are_about_as_old() -> None:
    world = ready(1, 2)
    (owner,) = (edge for edge in world.places if world.places[edge].dispatcher.open_backends()[0].slots)
    (other,) = set(world.places) - {owner}
    mine = [world.call(owner) for _ in range(5)]
    theirs = world.call(other)
    world.settle()
    for call in mine[:4]:
        assert call.starts
        world.end(owner, call)
        assert world.settle() <= 2
    assert (mine[4].starts, theirs.starts) == (1, 0)
    world.end(owner, mine[4])
    world.settle()
    assert theirs.starts == 1


def test_slots_of_an_edge_that_died_go_to_those_who_wait() -> None:
    world = ready(4, 2)
    for _ in range(4):
        world.call("edge-0")
    world.settle()
    late = world.call("edge-1")
    world.settle()
    assert late.starts == 0
    world.die("edge-0")
    world.settle()
    assert late.starts == 1


def test_an_edge_that_comes_later_gets_its_part_of_what_is_idle() -> None:
    world = ready(100, 1, replicas=2)
    for _ in range(30):
        world.call("edge-0")
    edge = world.join()
    world.settle()
    assert sum(owned(world)) == 200
    assert world.call(edge).starts == 1, "without asking"
    assert min(owned(world)) >= 50


def test_an_edge_that_comes_later_gets_slots_with_its_first_call() -> None:
    world = ready(1, 1)
    edge = world.join()
    world.settle()
    call = world.call(edge)
    world.settle()
    assert call.starts == 1


def test_returns_from_before_a_replica_restarted_are_void() -> None:
    world = ready(2, 2)
    stale = Return("r0", 1, 1)
    world.replica(0, ReplicaState.PENDING)
    world.replica(0, ReplicaState.RUNNING)
    world.settle()
    world.ledger.returned("edge-0", stale)
    calls = [world.call("edge-0") for _ in range(4)]
    world.settle()
    assert sum(c.starts for c in calls) == 2


def test_an_unlimited_function_needs_no_slots() -> None:
    world = ready(0, 2)
    calls = [world.call("edge-0") for _ in range(500)]
    assert (sum(c.starts for c in calls), world.settle()) == (500, 0)


def test_a_limit_that_is_told_after_its_replica_counts_from_then_on() -> None:
    told: list[tuple[str, Grant | Recall]] = []
    ledger = SlotLedger(lambda edge, message: told.append((edge, message)))
    ledger.join("edge-0")
    ledger.apply(ReplicaChanged(replica(0, ReplicaState.RUNNING)))
    assert not told
    ledger.apply(FunctionChanged(function(3)))
    assert told == [("edge-0", Grant("ns", "echo-00001", "r0", 1, 3))]


def test_another_function_under_the_same_name_has_its_own_limit() -> None:
    world = ready(4, 2)
    smaller = msgspec.structs.replace(function(1), created_at=1.0)
    world.ledger.apply(FunctionChanged(smaller))
    world.settle()
    backends: list[Backend] = [b for p in world.places.values() for b in p.dispatcher.open_backends()]
    assert sum(backend.slots for backend in backends) == 1
