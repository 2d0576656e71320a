"""A model of leaders, edges and the links between them: what is late or lost on its way, and who knows of whom."""

from __future__ import annotations

from collections import deque

from gateway.edge.dispatcher import Dispatcher
from gateway.edge.messages import Claim, Grant, Recall, Return, Want
from gateway.edge.slots import SlotLedger
from gateway.edge.tenure import Absences, Sighting, Tenure
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
