"""Which edges have let go of replicas that drain."""

from __future__ import annotations

import msgspec

from gateway.edge.releases import MOST_UNKNOWN, Releases
from orchestration.events import ReplicaChanged
from orchestration.replica import Replica, ReplicaState
from tests.held import entries


class World:
    def __init__(self, *edges: str) -> None:
        self.edges = list(edges)
        self.told: list[str] = []
        self.releases = Releases(lambda: self.edges, self.told.append)

    def replica(self, name: str, *states: ReplicaState) -> None:
        made = Replica(id=name, namespace="openfaas-fn", function="hello", revision="hello-00001", state=ReplicaState.PENDING)
        for state in states:
            self.releases.apply(ReplicaChanged(msgspec.structs.replace(made, state=state)))


def test_the_last_edge_that_lets_go_releases_a_replica_once() -> None:
    world = World("a", "b")
    world.replica("r", ReplicaState.RUNNING, ReplicaState.DRAINING)
    world.releases.released("r", "a")
    assert world.told == []
    world.releases.released("r", "b")
    world.releases.released("r", "b")
    assert world.told == ["r"]


def test_an_edge_that_is_gone_has_let_go() -> None:
    world = World("a", "b")
    world.replica("r", ReplicaState.DRAINING)
    world.releases.released("r", "a")
    world.edges.remove("b")
    world.releases.changed()
    assert world.told == ["r"]


def test_an_edge_may_let_go_before_the_replica_is_heard_of() -> None:
    world = World("a")
    world.releases.released("r", "a")
    world.replica("r", ReplicaState.DRAINING)
    assert world.told == ["r"]


def test_nothing_is_kept_of_replicas_that_have_stopped_whenever_edges_say_that_they_let_go() -> None:
    world = World("a", "b")
    for number in range(1000):
        name = f"r{number}"
        world.replica(name, ReplicaState.RUNNING, ReplicaState.DRAINING)
        world.releases.released(name, "a")
        world.replica(name, ReplicaState.STOPPED)
        world.releases.released(name, "b")  # its word was under way
    held = entries(world.releases)
    assert max(held.values()) <= MOST_UNKNOWN
    assert not held.keys() & {"Releases._draining", "Releases._known"}
