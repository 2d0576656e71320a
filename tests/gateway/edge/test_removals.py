"""What an edge, and who leads edges, keep of functions that came and went: nothing."""

from __future__ import annotations

import time

import msgspec
import pytest

from gateway.edge.edge import Edge
from gateway.edge.gathered import Gathered
from gateway.edge.messages import Load, Return, Want
from gateway.edge.settings import EdgeSettings
from gateway.edge.slots import SlotLedger
from orchestration.events import Event, FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.load import LoadSample
from orchestration.replica import Endpoint, Replica, ReplicaState
from orchestration.rollout import deploy, promote
from orchestration.spec import FunctionSpec
from tests.held import entries


class World:
    """An edge of two, the ledger of slots, and what edges told."""

    def __init__(self) -> None:
        self.edge = Edge(
            EdgeSettings(port=0),
            control=Endpoint(unix="/nowhere"),
            on_load=lambda sample: None,
            on_released=lambda replica: None,
            on_slots=lambda message: None,
        )
        self.gathered = Gathered()
        self.ledger = SlotLedger(lambda edge, message: self.edge.share(message) if edge == "edge-0" else None)
        for name in ("edge-0", "edge-1"):
            self.ledger.join(name)

    def tell(self, event: Event) -> None:
        for part in (self.edge, self.gathered, self.ledger):
            part.apply(event)

    def come_and_go(self, number: int, replica_first: bool) -> None:
        spec = FunctionSpec(service=f"f{number}", image="x", env_vars={"max_inflight": "1"})
        first = deploy(None, spec, "sha256:a", 0.0)
        self.tell(FunctionChanged(first))
        replica = Replica(
            id=f"r{number}",
            namespace=spec.namespace,
            function=spec.service,
            revision=first.newest.name,
            state=ReplicaState.RUNNING,
            endpoint=Endpoint(unix=f"/nowhere-{number}"),
        )
        self.tell(ReplicaChanged(replica))
        self.tell(FunctionChanged(promote(deploy(first, spec, "sha256:b", 1.0), 2.0)))
        sample = LoadSample(
            edge="edge-1",
            namespace=spec.namespace,
            function=spec.service,
            revision=first.newest.name,
            at=time.monotonic(),
            interval_s=1.0,
            concurrency=1.0,
            arrivals=1,
            in_flight=1,
            queued=0,
            oldest_wait_s=0.0,
            idle_replicas=(),
        )
        self.gathered.hear("edge-1", Load(sample))
        goes: list[Event] = [
            ReplicaChanged(msgspec.structs.replace(replica, state=state))
            for state in (ReplicaState.DRAINING, ReplicaState.STOPPED)
        ]
        goes.insert(2 if replica_first else 0, FunctionRemoved(spec.namespace, spec.service))
        for event in goes:
            self.tell(event)
        # what the other edge had sent before it heard of that
        for calls in (3, 0):
            self.ledger.wanted("edge-1", Want(spec.namespace, first.newest.name, calls, 0.0))
        self.ledger.returned("edge-1", Return(replica.id, 1, 1))
        self.gathered.hear("edge-1", Load(msgspec.structs.replace(sample, in_flight=0)))


@pytest.mark.parametrize("replica_first", [True, False])
async def test_nothing_is_kept_of_a_thousand_functions_that_came_and_went(replica_first: bool) -> None:
    world = World()
    world.come_and_go(0, replica_first)
    before = entries(world.edge, world.gathered, world.ledger)
    for number in range(1, 1001):
        world.come_and_go(number, replica_first)
    after = entries(world.edge, world.gathered, world.ledger)
    grown = {place: count - before.get(place, 0) for place, count in after.items() if count > before.get(place, 0)}
    assert sum(grown.values()) <= 10, grown


def test_an_edge_that_ends_wants_nothing_any_more_of_what_nobody_knows() -> None:
    world = World()
    for number in range(1000):
        world.ledger.wanted("edge-1", Want("openfaas-fn", f"gone-{number}-00001", 1, 0.0))
    world.ledger.leave("edge-1")
    assert entries(world.ledger).get("SlotLedger._revisions", 0) == 0
