"""Hand-over between leaders: ledgers, shares and tenures against a model of links that break and leaders that come and go."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.edge import member
from gateway.edge.tenure import MARGIN_S, TENURE_S, Sighting, Tenure
from orchestration.replica import ReplicaState
from tests.gateway.edge.cluster import LOOK_EVERY_S, Cluster, Edge
from tests.gateway.edge.test_dispatcher import FakeCall


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
