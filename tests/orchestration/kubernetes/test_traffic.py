"""Tables of traffic in a cluster: what follows from them, pure, and on a real API server."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from gateway.edge.tally import Tally
from gateway.monitor.rollouts import GradualRollouts
from orchestration.events import FunctionChanged
from orchestration.kubernetes.api import DEPLOYMENTS, FUNCTIONS, Kind
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.controller import Controller
from orchestration.kubernetes.names import ROLLOUT_ABORT_ANNOTATION, ROLLOUT_STEP_ANNOTATION
from orchestration.kubernetes.observed import function_of
from orchestration.kubernetes.secrets import Secrets
from orchestration.kubernetes.status import condition
from orchestration.kubernetes.traffic import requested, split_of
from orchestration.kubernetes.traffic_writer import TrafficWriter
from orchestration.kubernetes.view import View
from orchestration.rollout import NothingToMove, Outdated, Phase
from orchestration.spec import FunctionSpec
from orchestration.traffic import FOLLOWING, LATEST, InvalidTraffic, TrafficTarget
from tests.orchestration.kubernetes.test_controller import gone, replicas
from tests.orchestration.kubernetes.test_plan import Case, function
from tests.orchestration.kubernetes.world import World, eventually, platform, told

OLD, NEW = "hello-00001", "hello-00002"
GRADUAL = {"com.pinnace.rollout.duration": "60s", "com.pinnace.rollout.steps": "5,50"}


@pytest.fixture
def case() -> Case:
    """Two revisions, of which the newer one serves with two pods."""
    case = Case(function(replicas=2))
    case.settle()
    case.ready[OLD] = 2
    case.change(replicas=2, env={"VERSION": "2"})
    case.settle()
    case.ready[NEW] = 2
    case.settle()
    case.change(env={"VERSION": "2"})
    case.settle()
    return case


def table(case: Case, *targets: dict[str, Any], **spec: Any) -> None:
    case.change(env={"VERSION": "2"}, traffic=list(targets) or None, **spec)
    case.settle()


def annotate(case: Case, **annotations: str) -> None:
    metadata = msgspec.structs.replace(case.function.metadata, annotations=case.function.metadata.annotations | annotations)
    case.function = msgspec.structs.replace(case.function, metadata=metadata)
    case.settle()


def test_a_split_has_a_deployment_for_each_revision_with_its_share_of_the_pods(case: Case) -> None:
    table(case, {"revision": OLD, "percent": 50}, {"latest": True, "percent": 50, "tag": "next"})
    assert case.traffic == {OLD: 50, NEW: 50}
    assert (case.replicas(OLD), case.replicas(NEW)) == (1, 2)
    assert case.function.status.traffic[1].tag == "next"


def test_a_tag_alone_has_a_deployment_without_pods(case: Case) -> None:
    table(case, {"latest": True, "percent": 100}, {"revision": OLD, "percent": 0, "tag": "old"})
    assert (case.replicas(OLD), case.replicas(NEW)) == (0, 2)
    table(case)
    assert ("Deployment", OLD) in case.objects
    case.objects["Deployment", OLD]["status"] = {"observedGeneration": 1}
    case.settle()
    assert ("Deployment", OLD) not in case.objects


def test_a_table_by_names_is_not_moved_by_a_change_and_latest_is(case: Case) -> None:
    table(case, {"revision": NEW, "percent": 100})
    case.change(env={"VERSION": "3"}, traffic=[{"revision": NEW, "percent": 100}])
    case.settle()
    case.ready["hello-00003"] = 1
    case.settle()
    assert case.traffic == {NEW: 100}
    assert case.function.status.latest_ready_revision == "hello-00003"
    assert case.told("Progressing") == ("False", "Settled", "")
    known = function_of(case.function, tuple(case.records.values()))
    assert known is not None
    said = condition(case.function, case.observed, known, case.now)
    assert (said.phase, "hello-00003 gets no calls" in said.message) == (Phase.READY, True)
    case.change(env={"VERSION": "3"})
    case.settle()
    assert case.traffic == {"hello-00003": 100}


def test_a_table_that_names_what_is_not_there_leaves_calls_where_they_went(case: Case) -> None:
    table(case, {"revision": "hello-00009", "percent": 100})
    assert case.traffic == {NEW: 100}
    status, reason, message = case.told("Degraded")
    assert (status, reason) == ("True", "TrafficRefused")
    assert "there is no revision 'hello-00009'" in message
    table(case)
    assert case.told("Degraded")[0] == "False"


def rolling(case: Case) -> None:
    """A gradual rollout of `hello-00003` begins."""
    case.change(env={"VERSION": "3"}, annotations=GRADUAL)
    case.settle()
    case.ready["hello-00003"] = 1
    case.settle()
    assert case.traffic == {NEW: 95, "hello-00003": 5}


def test_a_gradual_rollout_goes_as_far_as_the_gateway_says(case: Case) -> None:
    rolling(case)
    assert case.told("Progressing") == ("True", "RollingOut", "hello-00003 gets 5 % of the calls (step 1 of 2)")
    case.now += 3600
    case.settle()
    assert case.traffic == {NEW: 95, "hello-00003": 5}, "time alone moves nothing"
    annotate(case, **{ROLLOUT_STEP_ANNOTATION: "hello-00003/1"})
    assert case.traffic == {NEW: 50, "hello-00003": 50}
    annotate(case, **{ROLLOUT_STEP_ANNOTATION: "hello-00002/2"})
    assert case.traffic == {NEW: 50, "hello-00003": 50}, "that was another's"
    annotate(case, **{ROLLOUT_STEP_ANNOTATION: "hello-00003/2"})
    assert case.traffic == {"hello-00003": 100}
    assert case.function.status.latest_ready_revision == "hello-00003"
    assert case.function.status.rollout is not None
    assert case.function.status.rollout.step is None


def test_an_aborted_rollout_stays_so_whatever_is_said_of_traffic(case: Case) -> None:
    rolling(case)
    why = "hello-00003: given up at 5 % of the calls: 9 of 9 calls failed"
    annotate(case, **{ROLLOUT_ABORT_ANNOTATION: why})
    assert case.traffic == {NEW: 100}
    assert case.told("Degraded") == ("True", "RolloutFailed", why)
    annotations = case.function.metadata.annotations
    case.change(env={"VERSION": "3"}, annotations=GRADUAL, traffic=[{"revision": NEW, "percent": 100, "tag": "good"}])
    annotate(case, **annotations)
    assert case.traffic == {NEW: 100}
    assert case.told("Degraded")[0] == "True", "setting a table does not try it again"
    case.change(env={"VERSION": "4"}, annotations=GRADUAL)
    annotate(case, **annotations)
    case.ready["hello-00004"] = 1
    case.settle()
    assert case.traffic == {NEW: 95, "hello-00004": 5}, "another revision is tried"


def test_tables_are_written_as_they_are_read() -> None:
    asked = (TrafficTarget(OLD, 90), TrafficTarget(LATEST, 10, "next"))
    assert split_of(function(traffic=requested(asked)), [OLD]) == asked
    assert split_of(function(), [OLD]) == FOLLOWING
    with pytest.raises(InvalidTraffic):
        split_of(function(traffic=requested(asked)), [])


async def test_kubectl_and_the_api_say_the_same(cluster: Cluster, world: World) -> None:
    async with platform(cluster) as running:
        hello, orchestrator = world.id("hello"), running.orchestrator
        await world.kubectl_apply("hello")
        await world.started(OLD)
        await told(world, "hello", "Ready", "True", "Serving")
        blue = [{"revision": OLD, "percent": 100}, {"latest": True, "percent": 0, "tag": "green"}]
        await world.kubectl_apply("hello", env={"VERSION": "2"}, traffic=blue)
        await eventually(lambda: replicas(world, NEW, 1))
        await world.started(NEW, 1)
        await eventually(lambda: orchestrator.status(hello).function.latest_ready == NEW)
        status = orchestrator.status(hello)
        assert status.function.traffic == (TrafficTarget(OLD, 100), TrafficTarget(NEW, 0, "green"))
        assert status.condition.phase is Phase.READY

        split = (TrafficTarget(OLD, 90), TrafficTarget(LATEST, 10, "green"))
        await orchestrator.set_traffic(hello, split, known=status.function.split)
        held = await world.get(FUNCTIONS, "hello")
        assert held is not None
        assert held["spec"]["traffic"][1] == {"latest": True, "percent": 10, "tag": "green"}
        await eventually(lambda: [t.percent for t in orchestrator.status(hello).function.traffic] == [90, 10])
        with pytest.raises(Outdated):
            await orchestrator.set_traffic(hello, split, known=FOLLOWING)
        with pytest.raises(InvalidTraffic):
            await orchestrator.set_traffic(hello, (TrafficTarget("hello-00009", 100),))

        await orchestrator.roll_back(hello, NEW)
        await eventually(lambda: orchestrator.status(hello).function.serving.name == NEW)
        await orchestrator.follow(hello)
        await eventually(lambda: orchestrator.status(hello).function.traffic[0] == TrafficTarget(NEW, 100))
        await orchestrator.set_traffic(hello, FOLLOWING)
        await eventually(lambda: replicas(world, OLD, 0))
        await world.deployment_status(OLD)
        await eventually(lambda: gone(world, DEPLOYMENTS, OLD))
        held = await world.get(FUNCTIONS, "hello")
        assert held is not None
        assert "traffic" not in held["spec"]


class Overtaken:
    """A cluster in which somebody is quicker: `first` is written to the Function before what is to be written."""

    def __init__(self, cluster: Cluster, first: dict[str, Any], part: str = "") -> None:
        self._cluster, self._first, self._part = cluster, first, part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    async def merge(self, kind: Kind, namespace: str, name: str, change: Any, *, manager: str) -> Any:
        if self._first:
            first, self._first = self._first, {}
            await self._cluster.merge(kind, namespace, name, first, manager="another", part=self._part)
        return await self._cluster.merge(kind, namespace, name, change, manager=manager)


async def test_who_has_seen_the_table_may_change_it_whatever_else_was_written(cluster: Cluster, world: World) -> None:
    hello, table = world.id("hello"), (TrafficTarget(LATEST, 100, "next"),)
    async with View(cluster, probes=False) as view, Controller(cluster, view):
        await world.kubectl_apply("hello")
        await world.started(OLD)
        await told(world, "hello", "Ready", "True", "Serving")

        def writer(first: dict[str, Any], part: str = "") -> TrafficWriter:
            return TrafficWriter(cast(Cluster, Overtaken(cluster, first, part)), view, Secrets(cluster, view))

        status = {"status": {"readyReplicas": 7}}
        set_to = await writer(status, "status").set(hello, table, FOLLOWING, 1.0)
        assert set_to.split == table
        other = {"spec": {"traffic": [{"revision": OLD, "percent": 100}]}}
        with pytest.raises(Outdated, match="hello-00001=100"):
            await writer(other).set(hello, FOLLOWING, table, 2.0)


async def test_a_deploy_through_the_api_leaves_the_table_alone(cluster: Cluster, world: World) -> None:
    async with platform(cluster) as running:
        hello, orchestrator = world.id("hello"), running.orchestrator
        spec = FunctionSpec(service="hello", namespace=world.namespace, image="registry.test/app@sha256:" + "a" * 64)
        await orchestrator.apply(spec)
        await eventually(lambda: replicas(world, OLD, 1))
        await world.started(OLD)
        await orchestrator.set_traffic(hello, (TrafficTarget(OLD, 100, "first"),))
        await orchestrator.apply(msgspec.structs.replace(spec, env_vars={"A": "1"}))
        await eventually(lambda: replicas(world, NEW, 1))
        await world.started(NEW, 1)
        await eventually(lambda: orchestrator.status(hello).function.latest_ready == NEW)
        assert orchestrator.status(hello).function.traffic == (TrafficTarget(OLD, 100, "first"),)


async def test_a_gradual_rollout_is_brought_on_given_up_and_tried_again(cluster: Cluster, world: World) -> None:
    async with platform(cluster) as running:
        hello, orchestrator = world.id("hello"), running.orchestrator
        image = "registry.test/app@sha256:" + "a" * 64
        spec = FunctionSpec(service="hello", namespace=world.namespace, image=image, annotations=GRADUAL)
        await orchestrator.apply(spec)
        await eventually(lambda: replicas(world, OLD, 1))
        await world.started(OLD)
        second = msgspec.structs.replace(spec, env_vars={"A": "1"})

        def shares() -> list[int]:
            return [t.percent for t in orchestrator.status(hello).function.traffic]

        await orchestrator.apply(second)
        await eventually(lambda: replicas(world, NEW, 1))
        await world.started(NEW, 1)
        await eventually(lambda: shares() == [95, 5])
        await orchestrator.proceed(hello, NEW, 2)
        await orchestrator.proceed(hello, NEW, 1)
        await eventually(lambda: shares() == [50, 50])
        await orchestrator.abort(hello, NEW, "9 of 9 calls failed")
        await eventually(lambda: shares() == [100])
        status = orchestrator.status(hello)
        assert status.condition.phase is Phase.FAILED
        assert status.failures == {NEW: f"{NEW}: 9 of 9 calls failed"}
        with pytest.raises(NothingToMove):
            await orchestrator.follow(hello)
        await orchestrator.apply(second)
        await eventually(lambda: replicas(world, NEW, 1))
        await eventually(lambda: shares() == [95, 5], 30)
        await orchestrator.follow(hello)
        await eventually(lambda: shares() == [100] and orchestrator.status(hello).function.latest_ready == NEW)


async def test_who_sees_the_calls_judges_and_the_controller_moves_them(cluster: Cluster, world: World) -> None:
    now = 0.0
    counted = {(world.namespace, name): Tally() for name in (OLD, NEW)}
    async with platform(cluster) as running:
        hello, orchestrator = world.id("hello"), running.orchestrator
        await world.kubectl_apply("hello", annotations=GRADUAL)
        await world.started(OLD)
        await told(world, "hello", "Ready", "True", "Serving")
        await world.kubectl_apply("hello", env={"VERSION": "2"}, annotations=GRADUAL)
        await eventually(lambda: replicas(world, NEW, 1))
        await world.started(NEW, 1)
        rollouts = GradualRollouts(orchestrator, lambda: counted, lambda: now)

        async def at(percents: list[int]) -> None:
            await eventually(lambda: [t.percent for t in orchestrator.status(hello).function.traffic] == percents)
            rollouts.apply(FunctionChanged(orchestrator.status(hello).function))

        await at([95, 5])
        now += 30
        await rollouts.look()
        await at([50, 50])
        for name, code in ((OLD, 200), (NEW, 500)):
            for _ in range(50):
                counted[world.namespace, name].count(code, 0.01)
        await rollouts.look()
        await at([100])
        function = await told(world, "hello", "Degraded", "True", "RolloutFailed")
        assert "50 of 50 calls failed (100 %), 0 of 50 on the old revision" in str(function["status"]["rollout"]["failure"])
        assert orchestrator.status(hello).function.serving.name == OLD
