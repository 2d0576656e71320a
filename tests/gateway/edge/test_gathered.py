"""What several edges told, added up."""

from __future__ import annotations

import msgspec

from gateway.edge.figures import EdgeFigures
from gateway.edge.gathered import Gathered
from gateway.edge.messages import Count, Counted
from gateway.edge.tally import Tally
from orchestration.events import FunctionChanged, FunctionRemoved
from orchestration.function import Function
from orchestration.names import FunctionId
from orchestration.traffic import TrafficTarget
from tests.gateway.edge.test_routes import function

OLD, NEW = ("openfaas-fn", "echo-00001"), ("openfaas-fn", "echo-00002")


def split(*targets: TrafficTarget) -> Function:
    return msgspec.structs.replace(function(revisions=2), traffic=targets)


def counted(revision: tuple[str, str], code: int) -> Counted:
    tally = Tally()
    tally.count(code, 0.01)
    return Counted((), EdgeFigures(), (Count.of(FunctionId(*revision), tally),))


def test_calls_of_revisions_add_up_over_edges_while_they_are_told_apart() -> None:
    gathered = Gathered()
    gathered.apply(FunctionChanged(split(TrafficTarget(OLD[1], 50), TrafficTarget(NEW[1], 50))))
    for edge in ("edge-0", "edge-1"):
        gathered.hear(edge, counted(OLD, 200))
    gathered.hear("edge-0", counted(NEW, 500))
    gathered.hear("edge-0", counted(("openfaas-fn", "other-00001"), 500))
    assert {key: tally.codes for key, tally in gathered.revisions().items()} == {OLD: {200: 2}, NEW: {500: 1}}
    gathered.forget("edge-0")
    assert gathered.revisions()[OLD].completed == 2, "what an edge that is gone had counted stays counted"
    gathered.apply(FunctionChanged(split(TrafficTarget(NEW[1], 100))))
    assert gathered.revisions() == {}
    gathered.apply(FunctionChanged(split(TrafficTarget(OLD[1], 50), TrafficTarget(NEW[1], 50))))
    assert gathered.revisions()[OLD].completed == 0
    gathered.apply(FunctionRemoved("openfaas-fn", "echo"))
    assert gathered.revisions() == {}
