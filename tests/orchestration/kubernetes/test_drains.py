"""Fewer pods in two phases, on a real API server. The test is Kubernetes's controllers, the kubelet, and the edges."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from orchestration.kubernetes import drains as drains_module
from orchestration.kubernetes.api import DEPLOYMENTS, PODS
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.controller import Controller
from orchestration.kubernetes.drains import Drains
from orchestration.kubernetes.names import DELETION_COST, DRAINING, GATEWAY
from orchestration.kubernetes.orchestrator import KubernetesOrchestrator
from orchestration.kubernetes.view import View
from orchestration.replica import Replica, ReplicaState
from tests.held import entries
from tests.orchestration.kubernetes.world import World, eventually

REVISION = "hello-00001"


class Edges:
    """All edges: they let go of a pod that drains unless they have a `busy` one."""

    def __init__(self, orchestrator: KubernetesOrchestrator) -> None:
        self.orchestrator = orchestrator
        self.busy: set[str] = set()
        self.draining: set[str] = set()

    def heard(self, replica: Replica) -> None:
        if replica.state is ReplicaState.DRAINING:
            self.draining.add(replica.id)
            if replica.id not in self.busy:
                self.orchestrator.released(replica.id)
        else:
            self.draining.discard(replica.id)

    def end_call(self, pod: str) -> None:
        self.busy.discard(pod)
        self.orchestrator.released(pod)


class Bench:
    def __init__(self, world: World, view: View, orchestrator: KubernetesOrchestrator, drains: Drains) -> None:
        self.world = world
        self.view = view
        self.orchestrator = orchestrator
        self.drains = drains
        self.edges = Edges(orchestrator)
        self.pods: list[str] = []

    async def begin(self, count: int) -> None:
        """A function with so many ready pods."""
        await self.world.kubectl_apply("hello", labels={"com.openfaas.scale.zero": "true"})
        await eventually(lambda: self.view.wanted(self.world.namespace, REVISION) is not None)
        await self.scale(count)
        self.pods = await self.world.started(REVISION, count)
        await eventually(lambda: self.view.replicas.ready(self.world.id("hello"), REVISION) == count)

    async def scale(self, count: int, *victims: str) -> None:
        await self.orchestrator.scale((self.world.namespace, REVISION), count, victims=victims)

    async def wanted(self) -> int:
        """What the API server has."""
        return int((await self.world.cluster.get(DEPLOYMENTS, self.world.namespace, REVISION))["spec"]["replicas"])

    async def nothing_under_way(self) -> None:
        """Wait until nothing is left that might still write."""
        await eventually(lambda: not self.drains._tasks)

    async def annotations(self, pod: str) -> dict[str, Any]:
        held = await self.world.cluster.get(PODS, self.world.namespace, pod)
        return dict(held["metadata"].get("annotations") or {})

    async def marked(self) -> set[str]:
        return {pod for pod in self.pods if DRAINING in await self.annotations(pod)}


@pytest.fixture
async def bench(cluster: Cluster, world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(drains_module, "AT_ONCE_S", 0.5)
    async with (
        View(cluster, probes=False) as view,
        Drains(cluster, view) as drains,
        KubernetesOrchestrator(cluster, view, scales=drains) as orchestrator,
        Controller(cluster, view, scales=drains),
    ):
        made = Bench(world, view, orchestrator, drains)
        view.on_replica.append(made.edges.heard)
        yield made


async def test_an_idle_pod_is_closed_marked_as_cheapest_and_then_fewer_are_wanted(bench: Bench) -> None:
    await bench.begin(3)
    idle = bench.pods[0]
    await bench.scale(2, idle)
    assert await bench.wanted() == 2
    assert await bench.marked() == {idle}
    assert (await bench.annotations(idle))[DELETION_COST] == "-100"
    assert bench.edges.draining == {idle}


async def test_a_busy_pod_is_waited_for_and_meanwhile_the_lower_count_is_what_is_wanted(bench: Bench) -> None:
    await bench.begin(2)
    bench.edges.busy = {bench.pods[0]}
    await bench.scale(1, bench.pods[0])
    assert (await bench.wanted(), bench.orchestrator.status(bench.world.id("hello")).replicas) == (2, 1)
    assert await bench.marked() == {bench.pods[0]}
    bench.edges.end_call(bench.pods[0])
    await eventually(lambda: bench.view.wanted(bench.world.namespace, REVISION) == 1)


async def test_a_call_that_does_not_end_is_waited_for_a_limited_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Drains, "_limit_s", lambda *_: 1.2)
    await bench.begin(1)
    bench.edges.busy = set(bench.pods)
    await bench.scale(0)
    assert await bench.wanted() == 1
    await eventually(lambda: bench.view.wanted(bench.world.namespace, REVISION) == 0)


async def test_a_wake_opens_what_was_closed_and_starts_nothing(bench: Bench) -> None:
    await bench.begin(2)
    bench.edges.busy = set(bench.pods)
    await bench.scale(0)
    assert await bench.marked() == set(bench.pods)
    await bench.scale(2)
    assert (await bench.marked(), await bench.wanted()) == (set(), 2)
    await eventually(lambda: bench.view.replicas.ready(bench.world.id("hello"), REVISION) == 2)
    for pod in bench.pods:
        bench.edges.end_call(pod)
    await bench.nothing_under_way()
    assert await bench.wanted() == 2, "what was given up is not written later"


async def test_the_last_word_counts(bench: Bench) -> None:
    await bench.begin(4)
    bench.edges.busy = set(bench.pods)
    for count in (2, 1, 3):
        await bench.scale(count)
    assert len(await bench.marked()) == 1
    for pod in bench.pods:
        bench.edges.end_call(pod)
    await eventually(lambda: bench.view.wanted(bench.world.namespace, REVISION) == 3)


async def test_pods_that_are_not_ready_go_first_and_need_no_mark(bench: Bench) -> None:
    await bench.begin(2)
    await bench.scale(4)
    await bench.scale(2)
    assert (await bench.wanted(), await bench.marked()) == (2, set())


async def test_a_pod_that_ends_by_itself_is_not_waited_for(bench: Bench) -> None:
    await bench.begin(2)
    bench.edges.busy = set(bench.pods)
    await bench.scale(1, bench.pods[0])
    await bench.world.remove_pod(bench.pods[0])
    await eventually(lambda: bench.view.wanted(bench.world.namespace, REVISION) == 1)


async def test_a_marked_pod_that_kubernetes_does_not_delete_is_opened(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drains_module, "LEFT_AFTER_S", 0.3)
    await bench.begin(2)
    await bench.scale(1, bench.pods[0])
    await bench.world.remove_pod(bench.pods[1])  # the other one
    bench.pods = bench.pods[:1]

    async def opened() -> bool:
        return await bench.marked() == set()

    await eventually(opened)
    await eventually(lambda: bench.view.replicas.ready(bench.world.id("hello"), REVISION) == 1)


async def test_who_begins_to_lead_opens_what_another_one_closed(bench: Bench) -> None:
    await bench.begin(2)
    bench.edges.busy = set(bench.pods)
    async with Drains(bench.world.cluster, bench.view) as other:
        with contextlib.suppress(TimeoutError):
            await other.scale(bench.world.namespace, REVISION, 1, manager=GATEWAY)
    assert len(await bench.marked()) == 1
    bench.drains.recover(GATEWAY)
    await eventually(lambda: bench.view.replicas.ready(bench.world.id("hello"), REVISION) == 2)


async def test_who_ceases_to_lead_writes_no_count_that_it_had_decided_on(bench: Bench) -> None:
    await bench.begin(3)
    bench.edges.busy = {bench.pods[0]}
    await bench.scale(2, bench.pods[0])
    assert await bench.wanted() == 3, "a call is waited for"
    bench.drains.cease()
    scale = {"spec": {"replicas": 5}}
    await bench.world.cluster.merge(DEPLOYMENTS, bench.world.namespace, REVISION, scale, manager="another", part="scale")
    bench.edges.end_call(bench.pods[0])
    await bench.nothing_under_way()
    assert await bench.wanted() == 5, "who leads now wants so many"
    bench.drains.recover(GATEWAY)
    await eventually(lambda: not bench.edges.draining)


async def test_an_old_revision_is_closed_after_its_traffic_has_moved_and_before_its_pods_go(bench: Bench) -> None:
    await bench.begin(1)
    (old,) = bench.pods
    bench.edges.busy = {old}
    await bench.world.kubectl_apply("hello", labels={"com.openfaas.scale.zero": "true"}, env={"A": "2"})
    await bench.world.started("hello-00002")
    await eventually(lambda: old in bench.edges.draining)
    function = bench.view.function(bench.world.id("hello"))
    assert function is not None and function.serving.name == "hello-00002"
    assert await bench.wanted() == 1
    bench.edges.end_call(old)
    await eventually(lambda: bench.view.wanted(bench.world.namespace, REVISION) == 0)


async def test_nothing_is_kept_of_pods_that_are_gone_whenever_edges_let_go_of_them(cluster: Cluster) -> None:
    async with View(cluster, probes=False) as view, Drains(cluster, view) as drains:
        (changed,) = view.on_replica[-1:]
        for number in range(1000):
            pod = Replica(
                id=f"pod-{number}",
                namespace="openfaas-fn",
                function="hello",
                revision=REVISION,
                state=ReplicaState.RUNNING,
            )
            for state in (ReplicaState.RUNNING, ReplicaState.DRAINING):
                changed(msgspec.structs.replace(pod, state=state))
            drains.released(pod.id)
            changed(msgspec.structs.replace(pod, state=ReplicaState.STOPPED))
            drains.released(pod.id)  # by a leader that was told of it later
        held = entries(drains)
        assert {place: count for place, count in held.items() if place.startswith("Drains.")} == {}
