"""Hand-over between leaders: ledgers, shares and tenures against a model of links that break and leaders that come and go."""

from __future__ import annotations

from collections import deque

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.edge import member
from gateway.edge.dispatcher import Dispatcher
from gateway.edge.messages import Claim, Grant, Recall, Return, Want
from gateway.edge.slots import SlotLedger
from gateway.edge.tenure import MARGIN_S, TENURE_S, Absences, Sighting, Tenure
from orchestration.events import Event, FunctionChanged, ReplicaChanged
from orchestration.replica import ReplicaState
from tests.gateway.edge.test_dispatcher import Bench, FakeCall, replica
from tests.gateway.edge.test_slots import function

LOOK_EVERY_S = 2.0
RENEW_WITHIN_S = 10.0
LEASE_S = 15.0


class Lease:
    """Who leads, as the API server has it."""

    def __init__(self) -> None:
        self.holder = ""
        self.renewed_at = float("-inf")
        self.edges: set[str] = set()


class Leader:
    """A process that can lead. `reaches` says whether it reaches the API server."""

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.alive = self.reaches = True
        self.leads = self.serves = False
        self.renewed_at = float("-inf")
        self.events: deque[Event] = deque()
        self.down: dict[str, deque[Grant | Recall]] = {}
        self.absences = Absences()
        self.ledger = SlotLedger(lambda edge, message: self.down[edge].append(message))
        self.ledger.apply(FunctionChanged(function(limit)))

    def known(self) -> set[str]:
        return set(self.down) | self.absences.names()

    def take_over(self, edges: set[str], now: float) -> None:
        self.leads = self.serves = True
        self.ledger.forget_all()
        for edge in edges:
            self.absences.begin(edge, now)
        self.ledger.await_edges(edges)
        self.ledger.begin()

    def lead_again(self, now: float) -> None:
        self.leads = True
        self.absences.begin_again(now)
        self.absences.begin("*", now)

    def cease(self) -> None:
        self.leads = False
        self.ledger.await_edges({"*"})

    def step_down(self) -> None:
        self.leads = self.serves = False
        self.down.clear()
        self.absences = Absences()
        self.ledger.forget_all()

    def lose(self, edge: str, now: float) -> None:
        if self.down.pop(edge, None) is not None:
            self.ledger.lose(edge)
            self.absences.begin(edge, now)

    def look(self, now: float) -> None:
        if self.leads:
            for edge in self.absences.over(now):
                self.absences.end(edge)
                self.ledger.leave(edge)


class Edge:
    """One edge: its dispatcher, and what is on its way to and from it."""

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.bench = Bench()
        self.tenure = Tenure()
        self.leader: Leader | None = None
        self.events: deque[Event] = deque()
        self.up: deque[Want | Return] = deque()
        self.calls: list[FakeCall] = []
        self.orphans: set[int] = set()
        """Calls whose slots were given up: the replica's own limit counts them."""
        self.lease_seen = self.lease_changed_at = float("-inf")
        self.looks_at, self.look_takes_s = 0.0, 0.0
        self.dispatcher = Dispatcher(
            "ns", "echo", "echo-00001", self.bench, concurrency=limit, queue_calls=500, tell_slots=self.tell
        )
        share = self.dispatcher.share
        assert share is not None
        self.share = share

    def tell(self, message: Want | Return) -> None:
        if self.leader is not None:
            self.up.append(message)

    def unlink(self) -> None:
        self.leader = None
        self.up.clear()
        self.share.unlinked()

    def link(self, leader: Leader, now: float) -> list[Claim]:
        claims = self.share.claim()
        self.leader = leader
        self.tenure.confirmed(now)
        self.share.look()
        return claims

    def hear(self, message: Event | Grant | Recall) -> None:
        if isinstance(message, Grant):
            self.share.grant(message)
        elif isinstance(message, Recall):
            self.share.recall(message)
        elif isinstance(message, ReplicaChanged):
            self.dispatcher.replica_changed(message.replica)

    def look(self, lease: Lease, now: float) -> None:
        if lease.renewed_at != self.lease_seen:
            self.lease_seen, self.lease_changed_at = lease.renewed_at, now
        leads = bool(lease.holder) and now < self.lease_changed_at + LEASE_S
        if self.leader is not None and leads and self.leader.name != lease.holder:
            self.unlink()
        if self.leader is not None and leads and self.name in self.leader.down:
            self.tenure.confirmed(now)
        if self.tenure.is_over(Sighting(now, leads, lease.holder), now):
            self.unlink()
            self.orphans |= {call.number for call in self.running()}
            self.share.give_up()

    def running(self) -> list[FakeCall]:
        return [c for c in self.calls if c.backend is not None and not c.over]

    def waiting(self) -> list[FakeCall]:
        return [c for c in self.calls if c.backend is None and c.refusal is None and not c.over]


class Cluster:
    """All of it. Nothing moves unless it is told to; `pass_time` does what everybody does all the time."""

    def __init__(self, limit: int, edges: int, leaders: int = 2) -> None:
        self.limit = limit
        self.now = 0.0
        self.lease = Lease()
        self.leaders = [Leader(f"leader-{n}", limit) for n in range(leaders)]
        self.edges: dict[str, Edge] = {}
        self.states: dict[int, ReplicaState] = {}
        self.numbers = 0
        for _ in range(edges):
            self.add_edge()

    def add_edge(self) -> Edge:
        self.numbers += 1
        edge = self.edges[f"edge-{self.numbers}"] = Edge(f"edge-{self.numbers}", self.limit)
        edge.events.extend(ReplicaChanged(replica(n, state)) for n, state in self.states.items())
        return edge

    def add_leader(self) -> None:
        self.numbers += 1
        leader = Leader(f"leader-{self.numbers}", self.limit)
        leader.events.extend(ReplicaChanged(replica(n, state)) for n, state in self.states.items())
        self.leaders.append(leader)

    def replica(self, number: int, state: ReplicaState) -> None:
        if state is ReplicaState.STOPPED:
            self.states.pop(number, None)
        else:
            self.states[number] = state
        event = ReplicaChanged(replica(number, state))
        for queue in (*(edge.events for edge in self.edges.values()), *(leader.events for leader in self.leaders)):
            queue.append(event)

    def renew(self, leader: Leader) -> None:
        """What the election does every two seconds, for one process."""
        lease = self.lease
        if not leader.alive or not leader.reaches:
            if leader.leads and self.now >= leader.renewed_at + RENEW_WITHIN_S:
                leader.cease()
            return
        if lease.holder == leader.name:
            lease.renewed_at = leader.renewed_at = self.now
            lease.edges = leader.known()
            if not leader.leads:
                leader.lead_again(self.now)
        elif not lease.holder or self.now >= lease.renewed_at + LEASE_S:
            if leader.serves:
                self.unlink_all(leader)
                leader.step_down()
            leader.take_over(lease.edges, self.now)
            lease.holder, lease.renewed_at, leader.renewed_at = leader.name, self.now, self.now
        elif leader.serves:
            self.unlink_all(leader)
            leader.step_down()

    def unlink_all(self, leader: Leader) -> None:
        for edge in self.edges.values():
            if edge.leader is leader:
                edge.unlink()

    def connect(self, edge: Edge) -> None:
        """An edge dials who leads, if that one answers."""
        leader = next((each for each in self.leaders if each.name == self.lease.holder), None)
        if edge.leader is not None or leader is None or not (leader.alive and leader.leads and leader.reaches):
            return
        leader.lose(edge.name, self.now)
        self.lease.edges.add(edge.name)  # before it can own anything
        leader.down[edge.name] = deque()
        leader.absences.end(edge.name)
        leader.ledger.join(edge.name, edge.link(leader, self.now))

    def break_link(self, edge: Edge, *, seen_by_edge: bool, seen_by_leader: bool) -> None:
        leader = edge.leader
        if leader is not None and seen_by_leader:
            leader.lose(edge.name, self.now)
        if seen_by_edge or leader is None or edge.name not in leader.down:
            edge.unlink()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for leader in self.leaders:
            if leader.alive:
                self.renew(leader)
                leader.look(self.now)
        for edge in self.edges.values():
            edge.bench.time = self.now
            if edge.leader is not None and edge.leader.leads and edge.name in edge.leader.down:
                edge.tenure.confirmed(self.now)
            if self.now >= edge.looks_at:
                edge.looks_at = self.now + edge.look_takes_s
                edge.look(self.lease, self.now)

    def deliver(self, edge: Edge, way: int) -> None:
        leader = edge.leader
        if way == 0 and edge.events:
            edge.hear(edge.events.popleft())
        elif leader is None or edge.name not in leader.down:
            return
        elif way == 1 and leader.down[edge.name]:
            edge.hear(leader.down[edge.name].popleft())
        elif way == 2 and edge.up:
            message = edge.up.popleft()
            if isinstance(message, Want):
                leader.ledger.wanted(edge.name, message)
            else:
                leader.ledger.returned(edge.name, message)

    def settle(self) -> None:
        for _ in range(20_000):
            busy = False
            for leader in self.leaders:
                if leader.alive and leader.events:
                    leader.ledger.apply(leader.events.popleft())
                    busy = True
            for edge in self.edges.values():
                linked = edge.leader is not None and edge.name in edge.leader.down
                while edge.events or (linked and edge.leader is not None and (edge.up or edge.leader.down[edge.name])):
                    for way in range(3):
                        self.deliver(edge, way)
                    busy = True
                if edge.bench._soon:
                    edge.bench.turn()
                    busy = True
            if not busy:
                return
        raise AssertionError("messages go round for ever")

    def heal(self) -> None:
        """Everybody reaches everybody for a minute: there is a leader, and nothing is waited for any more."""
        for leader in self.leaders:
            leader.reaches = True
        if not any(leader.alive for leader in self.leaders):
            self.add_leader()
        for edge in self.edges.values():
            if edge.leader is not None and (not edge.leader.alive or edge.name not in edge.leader.down):
                edge.unlink()
        for leader in self.leaders:  # which notice who is silent
            for name in set(leader.down):
                if self.edges[name].leader is not leader:
                    leader.lose(name, self.now)
        for _ in range(30):
            self.pass_time(LOOK_EVERY_S)
            self.settle()
            for edge in self.edges.values():
                self.connect(edge)
            self.settle()
        for edge in self.edges.values():
            edge.dispatcher.sweep(self.now)
        self.settle()

    def in_flight(self) -> dict[int, int]:
        """Calls at each replica that have a slot, over all edges."""
        sums: dict[int, int] = {}
        for edge in self.edges.values():
            for call in edge.running():
                if call.number not in edge.orphans and call.backend is not None:
                    number = int(call.backend.id.removeprefix("r"))
                    sums[number] = sums.get(number, 0) + 1
        return sums

    def owned(self, number: int) -> int:
        return sum(edge.share.slots(f"r{number}") for edge in self.edges.values())


class HandOver(RuleBasedStateMachine):
    """Edges and leaders come, die, and lose sight of each other; messages and events arrive late."""

    @initialize(limit=st.integers(1, 4), edges=st.integers(2, 3))
    def begin(self, limit: int, edges: int) -> None:
        self.cluster = Cluster(limit, edges)
        self.next_replica = 0
        self.next_call = 0
        self.cluster.pass_time(LOOK_EVERY_S)
        self.a_replica_is_ready()

    def edge(self, data: st.DataObject) -> Edge:
        return self.cluster.edges[data.draw(st.sampled_from(sorted(self.cluster.edges)))]

    @rule(data=st.data(), count=st.integers(1, 5))
    def calls_come(self, data: st.DataObject, count: int) -> None:
        edge = self.edge(data)
        for _ in range(count):
            call = FakeCall(self.next_call, started=self.cluster.now)
            self.next_call += 1
            edge.calls.append(call)
            edge.dispatcher.admit(call, self.cluster.now)

    @rule(data=st.data())
    def a_call_ends(self, data: st.DataObject) -> None:
        edge = self.edge(data)
        if running := edge.running():
            call = data.draw(st.sampled_from(running))
            assert call.backend is not None
            call.over = True
            edge.dispatcher.release(call.backend, self.cluster.now)

    @rule()
    def a_replica_is_ready(self) -> None:
        self.cluster.replica(self.next_replica, ReplicaState.RUNNING)
        self.next_replica += 1

    @precondition(lambda self: self.cluster.states)
    @rule(data=st.data(), state=st.sampled_from([ReplicaState.DRAINING, ReplicaState.RUNNING, ReplicaState.STOPPED]))
    def a_replica_changes(self, data: st.DataObject, state: ReplicaState) -> None:
        self.cluster.replica(data.draw(st.sampled_from(sorted(self.cluster.states))), state)

    @rule(seconds=st.sampled_from([0.5, LOOK_EVERY_S]), times=st.integers(1, 8))
    def time_passes(self, seconds: float, times: int) -> None:
        for _ in range(times):
            self.cluster.pass_time(seconds)

    @rule(data=st.data(), way=st.integers(0, 2))
    def something_arrives(self, data: st.DataObject, way: int) -> None:
        self.cluster.deliver(self.edge(data), way)

    @rule()
    def everything_arrives(self) -> None:
        self.cluster.settle()

    @rule(data=st.data())
    def a_leader_hears_of_an_event(self, data: st.DataObject) -> None:
        leader = data.draw(st.sampled_from(self.cluster.leaders))
        if leader.alive and leader.events:
            leader.ledger.apply(leader.events.popleft())

    @rule(data=st.data())
    def an_edge_dials(self, data: st.DataObject) -> None:
        self.cluster.connect(self.edge(data))

    @rule(data=st.data(), edge=st.booleans(), leader=st.booleans())
    def a_link_breaks(self, data: st.DataObject, edge: bool, leader: bool) -> None:
        self.cluster.break_link(self.edge(data), seen_by_edge=edge, seen_by_leader=leader)

    @rule(data=st.data())
    def a_turn_of_a_loop(self, data: st.DataObject) -> None:
        self.edge(data).bench.turn()

    @precondition(lambda self: len(self.cluster.edges) > 1)
    @rule(data=st.data())
    def an_edge_dies(self, data: st.DataObject) -> None:
        edge = self.edge(data)
        self.cluster.break_link(edge, seen_by_edge=True, seen_by_leader=True)
        del self.cluster.edges[edge.name]
        for leader in self.cluster.leaders:
            leader.lose(edge.name, self.cluster.now)

    @precondition(lambda self: len(self.cluster.edges) < 4)
    @rule()
    def an_edge_comes(self) -> None:
        self.cluster.add_edge()

    @rule(data=st.data())
    def a_leader_dies(self, data: st.DataObject) -> None:
        leader = data.draw(st.sampled_from(self.cluster.leaders))
        leader.alive = leader.leads = leader.serves = False
        self.cluster.unlink_all(leader)
        self.cluster.leaders.remove(leader)
        self.cluster.add_leader()

    @rule(data=st.data())
    def a_leader_resigns(self, data: st.DataObject) -> None:
        leader = data.draw(st.sampled_from(self.cluster.leaders))
        if leader.leads and self.cluster.lease.holder == leader.name and leader.reaches:
            leader.cease()
            self.cluster.lease.holder = ""

    @rule(data=st.data(), reaches=st.booleans())
    def a_leader_and_the_api_server(self, data: st.DataObject, reaches: bool) -> None:
        data.draw(st.sampled_from(self.cluster.leaders)).reaches = reaches

    @rule()
    def everything_heals(self) -> None:
        """When there is a leader and nothing is on its way, no call waits beside a free slot."""
        self.cluster.heal()
        used = self.cluster.in_flight()
        ready = [n for n, state in self.cluster.states.items() if state is ReplicaState.RUNNING]
        orphans = any(call.number in e.orphans for e in self.cluster.edges.values() for call in e.running())
        free = [n for n in ready if used.get(n, 0) < self.cluster.limit]
        waiting = sum(len(edge.waiting()) for edge in self.cluster.edges.values())
        assert orphans or not (free and waiting), (free, waiting)

    @invariant()
    def limits_hold(self) -> None:
        if hasattr(self, "cluster"):
            for number, count in self.cluster.in_flight().items():
                assert count <= self.cluster.limit, number
            for number in range(self.next_replica):
                assert self.cluster.owned(number) <= self.cluster.limit, number


def cut_off(limit: int) -> tuple[Cluster, Edge, Edge]:
    """A leader, an edge with all slots of one replica and calls on half of them, which is cut off, and another edge."""
    cluster = Cluster(limit, 2)
    cluster.pass_time(LOOK_EVERY_S)
    for edge in cluster.edges.values():
        cluster.connect(edge)
    first, second = cluster.edges.values()
    cluster.replica(0, ReplicaState.RUNNING)
    cluster.settle()
    call(cluster, first, limit)
    cluster.settle()
    assert first.share.slots("r0") == limit
    cluster.break_link(first, seen_by_edge=True, seen_by_leader=True)
    return cluster, first, second


def call(cluster: Cluster, edge: Edge, count: int) -> None:
    for number in range(count):
        new = FakeCall(1000 * cluster.numbers + number, started=cluster.now)
        edge.calls.append(new)
        edge.dispatcher.admit(new, cluster.now)


@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("look_takes_s", [0.0, member.LOOK_EVERY_S + member.LOOK_WITHIN_S], ids=["quick", "slow looks"])
def test_the_slots_of_an_edge_that_is_cut_off_go_to_others_after_it_has_given_them_up(limit: int, look_takes_s: float) -> None:
    """With slow looks it sees half a second before its tenure ends that this goes on, and the next time as late as may be."""
    cluster, first, second = cut_off(limit)
    first.look_takes_s = look_takes_s
    first.looks_at = cluster.now + (TENURE_S - 0.5) % look_takes_s if look_takes_s else 0.0
    call(cluster, second, limit)
    began = cluster.now
    while not second.share.slots("r0"):
        cluster.pass_time(0.5)
        cluster.settle()
        assert cluster.owned(0) <= limit
        assert first.share.slots("r0") == limit or cluster.now - began >= TENURE_S
        assert cluster.now - began <= TENURE_S + MARGIN_S + 0.5
    assert (first.share.slots("r0"), len(second.running())) == (0, limit)


def test_an_edge_that_comes_back_in_time_has_what_it_had() -> None:
    cluster, first, second = cut_off(3)
    cluster.pass_time(LOOK_EVERY_S)
    cluster.connect(first)
    call(cluster, second, 1)
    cluster.settle()
    assert (first.share.slots("r0"), cluster.owned(0)) == (3, 3)
    for running in first.running():
        assert running.backend is not None
        running.over = True
        first.dispatcher.release(running.backend, cluster.now)
    cluster.settle()
    assert len(second.running()) == 1


def test_edges_go_on_while_nobody_leads_and_a_new_leader_takes_their_word() -> None:
    cluster, first, second = cut_off(2)
    (leader,) = (each for each in cluster.leaders if each.leads)
    for each in cluster.leaders:
        each.alive = False
    cluster.unlink_all(leader)
    for _ in range(60):
        cluster.pass_time(LOOK_EVERY_S)
    assert first.share.slots("r0") == 2, "two minutes without anybody who leads"
    cluster.add_leader()
    cluster.pass_time(LOOK_EVERY_S)
    cluster.connect(second)
    call(cluster, second, 1)
    cluster.settle()
    assert not second.running(), "the other edge may own all"
    cluster.connect(first)
    cluster.settle()
    first.running()[0].over = True
    backend = first.calls[0].backend
    assert backend is not None
    first.dispatcher.release(backend, cluster.now)
    cluster.settle()
    assert (len(second.running()), cluster.owned(0)) == (1, 2)


def test_who_hears_from_nobody_goes_on() -> None:
    tenure = Tenure()
    tenure.confirmed(0.0)
    assert not tenure.is_over(Sighting(TENURE_S - 0.1, True, "a"), TENURE_S - 0.1)
    assert tenure.is_over(Sighting(1000.0, True, "a"), 1000.0), "no look between, and then somebody leads"


HandOver.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestHandOver = HandOver.TestCase
