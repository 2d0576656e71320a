"""From names to revisions."""

from __future__ import annotations

import msgspec
import pytest

from gateway.edge.call import CLIENT_LEFT
from gateway.edge.dispatcher import Dispatcher
from gateway.edge.routes import Route, Routes, split_target
from gateway.edge.tally import Tally
from orchestration.events import FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.function import Function
from orchestration.names import FunctionId
from orchestration.replica import Replica, ReplicaState
from orchestration.rollout import deploy
from orchestration.spec import FunctionSpec
from orchestration.traffic import TrafficTarget
from tests.gateway.edge.test_dispatcher import Bench


@pytest.fixture
def routes() -> Routes:
    bench = Bench()

    def make(namespace: str, function: str, revision: str, timeout_s: float, concurrency: int) -> Dispatcher:
        return Dispatcher(namespace, function, revision, bench, concurrency=concurrency, timeout_s=timeout_s)

    return Routes(make, bench.now)


def function(name: str = "echo", namespace: str = "openfaas-fn", revisions: int = 1) -> Function:
    made: Function | None = None
    for number in range(revisions):
        spec = FunctionSpec(service=name, image="x", namespace=namespace, env_vars={"N": str(number)})
        made = deploy(made, spec, "sha256:0", 0.0)
    assert made is not None
    return made


TARGETS = {
    b"/function/echo": (b"echo", b"/"),
    b"/function/echo/": (b"echo", b"/"),
    b"/function/echo/a/b": (b"echo", b"/a/b"),
    b"/function/echo?": (b"echo", b"/?"),
    b"/function/echo?a=/b": (b"echo", b"/?a=/b"),
    b"/function/echo/?a": (b"echo", b"/?a"),
    b"/function/echo.ns//x?y#z": (b"echo.ns", b"//x?y#z"),
    b"/function/": (b"", b"/"),
    b"/function//x": (b"", b"/x"),
}


@pytest.mark.parametrize("target", TARGETS)
def test_the_prefix_is_stripped_and_the_rest_kept(target: bytes) -> None:
    assert split_target(target) == TARGETS[target]


def test_the_default_namespace_may_be_left_out_and_others_not(routes: Routes) -> None:
    routes.apply(FunctionChanged(function()))
    routes.apply(FunctionChanged(function(namespace="other")))
    assert set(routes.names) == {b"echo", b"echo.openfaas-fn", b"echo.other"}
    assert routes.names[b"echo"] is routes.names[b"echo.openfaas-fn"]


def test_traffic_is_dealt_out_by_percent_and_evenly(routes: Routes) -> None:
    both = function(revisions=2)
    old, new = (revision.name for revision in both.revisions)
    routes.apply(FunctionChanged(msgspec.structs.replace(both, traffic=(TrafficTarget(old, 90), TrafficTarget(new, 10)))))
    picked = [routes.names[b"echo"].pick() for _ in range(200)]
    names = [dispatcher.revision for dispatcher in picked if dispatcher]
    assert [names[i : i + 10].count(new) for i in range(0, 200, 10)] == [1] * 20


def test_no_traffic_means_no_dispatcher() -> None:
    assert Route(FunctionId("ns", "echo"), Tally(), []).pick() is None


def test_a_removed_function_is_forgotten_when_its_last_replica_has_stopped(routes: Routes) -> None:
    echo = function()
    replica = Replica(id="r", namespace="openfaas-fn", function="echo", revision=echo.newest.name, state=ReplicaState.PENDING)
    routes.apply(FunctionChanged(echo))
    routes.apply(ReplicaChanged(replica))
    routes.apply(FunctionRemoved("openfaas-fn", "echo"))
    assert routes.names == {}
    assert list(routes.dispatchers) == [echo.newest.key]
    routes.apply(ReplicaChanged(msgspec.structs.replace(replica, state=ReplicaState.STOPPED)))
    assert routes.dispatchers == {}


def test_settings_reach_a_dispatcher_whose_replica_was_heard_of_first(routes: Routes) -> None:
    echo = function()
    routes.apply(
        ReplicaChanged(
            Replica(id="r", namespace="openfaas-fn", function="echo", revision=echo.newest.name, state=ReplicaState.PENDING)
        )
    )
    routes.apply(FunctionChanged(echo))
    assert routes.dispatchers[echo.newest.key].concurrency == 100


def test_counts_are_of_ended_calls(routes: Routes) -> None:
    routes.apply(FunctionChanged(function()))
    routes.names[b"echo"].tally.count(CLIENT_LEFT, 0.1)
    assert routes.counts() == {FunctionId("openfaas-fn", "echo"): 1}


def tagged(traffic: tuple[TrafficTarget, ...], name: str = "echo", namespace: str = "openfaas-fn") -> Function:
    return msgspec.structs.replace(function(name, namespace, revisions=2), traffic=traffic)


def test_a_tag_names_its_revision_whatever_its_share_is(routes: Routes) -> None:
    routes.apply(FunctionChanged(tagged((TrafficTarget("echo-00001", 100), TrafficTarget("echo-00002", 0, "green")))))
    assert set(routes.names) == {b"echo", b"echo.openfaas-fn", b"echo--green", b"echo--green.openfaas-fn"}
    plain, green = routes.names[b"echo"], routes.names[b"echo--green"]
    assert {plain.pick().revision for _ in range(100)} == {"echo-00001"}  # type: ignore[union-attr]
    assert {green.pick().revision for _ in range(100)} == {"echo-00002"}  # type: ignore[union-attr]
    assert plain.tagged("green") is green
    assert plain.tagged("blue") is None
    assert green.tagged("blue") is green, "the path says more than the header"
    assert green.tally is plain.tally


def test_a_tag_that_is_taken_away_names_nothing(routes: Routes) -> None:
    routes.apply(FunctionChanged(tagged((TrafficTarget("echo-00001", 100), TrafficTarget("echo-00002", 0, "green")))))
    routes.apply(FunctionChanged(tagged((TrafficTarget("echo-00001", 100, "blue"),))))
    assert b"echo--green" not in routes.names
    assert b"echo--blue.openfaas-fn" in routes.names
    routes.apply(FunctionRemoved("openfaas-fn", "echo"))
    assert routes.names == {}


MISSING = {
    (b"echo--blue", None): "function echo.openfaas-fn has no tag 'blue': its tags are green",
    (b"echo--blue.openfaas-fn", None): "function echo.openfaas-fn has no tag 'blue': its tags are green",
    (b"echo", b"blue"): "function echo.openfaas-fn has no tag 'blue': its tags are green",
    (b"bare.other", b"blue"): "function bare.other has no tag 'blue': it has none",
    (b"nope--blue", None): "nope--blue.openfaas-fn",
    (b"nope", None): "nope.openfaas-fn",
}


@pytest.mark.parametrize("asked", MISSING)
def test_an_unknown_tag_is_told_from_an_unknown_function(routes: Routes, asked: tuple[bytes, bytes | None]) -> None:
    routes.apply(FunctionChanged(tagged((TrafficTarget("echo-00001", 100), TrafficTarget("echo-00002", 0, "green")))))
    routes.apply(FunctionChanged(function("bare", "other")))
    refusal = routes.missing(*asked)
    assert refusal.status == 404
    assert MISSING[asked] in refusal.text


def test_calls_that_wait_at_a_revision_with_a_tag_stay_and_others_follow_the_traffic(routes: Routes) -> None:
    routes.apply(FunctionChanged(function()))
    old = routes.dispatchers[("openfaas-fn", "echo-00001")]
    kept: list[Dispatcher] = []
    routes._reroute = lambda dispatcher, route: kept.append(dispatcher)  # type: ignore[method-assign]
    old.waiting[object()] = True  # type: ignore[index]
    routes.apply(FunctionChanged(tagged((TrafficTarget("echo-00002", 100), TrafficTarget("echo-00001", 0, "blue")))))
    assert kept == []
    routes.apply(FunctionChanged(tagged((TrafficTarget("echo-00002", 100),))))
    assert kept == [old]
    old.waiting.clear()


def test_calls_that_wait_at_a_revision_that_is_collected_follow_the_traffic(routes: Routes) -> None:
    routes.apply(FunctionChanged(tagged((TrafficTarget("echo-00001", 100),))))
    old = routes.dispatchers[("openfaas-fn", "echo-00001")]
    moved: list[Dispatcher] = []
    routes._reroute = lambda dispatcher, route: moved.append(dispatcher)  # type: ignore[method-assign]
    old.waiting[object()] = True  # type: ignore[index]
    both = tagged((TrafficTarget("echo-00002", 100),))
    routes.apply(FunctionChanged(msgspec.structs.replace(both, revisions=both.revisions[1:])))
    assert moved == [old]


def test_revisions_are_counted_where_calls_can_come_to_several(routes: Routes) -> None:
    routes.apply(FunctionChanged(function()))
    assert routes.counted == {}
    routes.apply(FunctionChanged(tagged((TrafficTarget("echo-00001", 90), TrafficTarget("echo-00002", 10)))))
    old, new = (routes.dispatchers["openfaas-fn", name] for name in ("echo-00001", "echo-00002"))
    assert old.counted is not None
    assert old.counted is not new.counted
    assert routes.counted == {("openfaas-fn", "echo-00001"): old.counted, ("openfaas-fn", "echo-00002"): new.counted}
    counted = old.counted
    routes.apply(FunctionChanged(tagged((TrafficTarget("echo-00001", 50), TrafficTarget("echo-00002", 50)))))
    assert old.counted is counted, "they go on"
    routes.apply(FunctionChanged(tagged((TrafficTarget("echo-00002", 100),))))
    assert not routes.counted
    assert all(dispatcher.counted is None for dispatcher in (old, new))
    routes.apply(FunctionChanged(tagged((TrafficTarget("echo-00001", 90), TrafficTarget("echo-00002", 10)))))
    routes.apply(FunctionRemoved("openfaas-fn", "echo"))
    assert routes.counted == {}
