"""The seam on a cluster: what the gateway asks for, against a real API server."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestration.events import Event, FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.kubernetes.api import DEPLOYMENTS, FUNCTIONS, NAMESPACES, REVISIONS, SECRETS
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.names import NAMESPACE_ANNOTATION, SECRETS_ANNOTATION
from orchestration.names import FunctionId
from orchestration.orchestrator import AlreadyExists, Namespace, NotFound, Refused
from orchestration.quantity import InvalidQuantity
from orchestration.replica import ReplicaState
from orchestration.settings import InvalidSetting
from orchestration.spec import FunctionSpec, Resources
from tests.orchestration.kubernetes.world import Platform, World, eventually, platform


@pytest.fixture
async def running(cluster: Cluster, world: World) -> AsyncIterator[Platform]:
    async with platform(cluster) as running:
        yield running


class Heard:
    """Collects what `watch` yields."""

    def __init__(self, running: Platform) -> None:
        self.events: list[Event] = []
        self._task = asyncio.create_task(self._listen(running))

    async def _listen(self, running: Platform) -> None:
        async for event in running.orchestrator.watch():
            self.events.append(event)

    def states(self, replica: str) -> list[ReplicaState]:
        return [e.replica.state for e in self.events if isinstance(e, ReplicaChanged) and e.replica.id == replica]

    def functions(self, name: str) -> list[FunctionChanged]:
        return [e for e in self.events if isinstance(e, FunctionChanged) and e.function.spec.service == name]

    def removed(self, name: str) -> bool:
        return any(isinstance(e, FunctionRemoved) and e.name == name for e in self.events)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
async def heard(running: Platform) -> AsyncIterator[Heard]:
    heard = Heard(running)
    yield heard
    await heard.stop()


def spec(world: World, name: str = "hello", **settings: Any) -> FunctionSpec:
    return FunctionSpec(service=name, namespace=world.namespace, **{"image": "registry.test/app:1"} | settings)


async def test_a_deploy_is_a_function_resource_that_reads_back_as_it_was_sent(world: World, running: Platform) -> None:
    sent = spec(
        world,
        env_vars={"A": "1"},
        labels={"team": "a", "com.openfaas.scale.min": "1"},
        annotations={"topic": "x"},
        limits=Resources(memory="128Mi", cpu="500m"),
        constraints=("zone=a",),
        env_process="python index.py",
    )
    function = await running.orchestrator.apply(sent, create=True)
    assert (function.spec, function.newest.name, function.generation) == (sent, "hello-00001", 1)
    assert running.orchestrator.status(world.id("hello")).function.spec == sent
    stored = await world.get(FUNCTIONS, "hello")
    assert stored is not None and stored["spec"]["env"] == {"A": "1"}


async def test_a_function_is_known_to_edges_before_its_deploy_is_answered(
    world: World, running: Platform, heard: Heard
) -> None:
    running.controller.lead(False)
    await running.orchestrator.apply(spec(world))
    await asyncio.sleep(0)
    (told,) = heard.functions("hello")
    assert told.function.traffic[0].revision == "hello-00001"
    assert await world.get(REVISIONS, "hello-00001") is None, "nobody has made the revision yet"


async def test_create_wants_it_new_and_update_wants_it_there(world: World, running: Platform) -> None:
    with pytest.raises(NotFound):
        await running.orchestrator.apply(spec(world), create=False)
    await running.orchestrator.apply(spec(world), create=True)
    with pytest.raises(AlreadyExists):
        await running.orchestrator.apply(spec(world), create=True)
    await running.orchestrator.apply(spec(world), create=False)


async def test_the_same_image_again_is_a_new_revision_unless_its_digest_is_known(world: World, running: Platform) -> None:
    await running.orchestrator.apply(spec(world))
    await eventually(lambda: world.get(REVISIONS, "hello-00001"))
    again = await running.orchestrator.apply(spec(world))
    assert again.newest.name == "hello-00002"
    exact = f"registry.test/app@sha256:{'a' * 64}"
    await running.orchestrator.apply(spec(world, "exact", image=exact))
    await eventually(lambda: world.get(REVISIONS, "exact-00001"))
    assert (await running.orchestrator.apply(spec(world, "exact", image=exact))).newest.name == "exact-00001"


@pytest.mark.real_api_server
async def test_bad_settings_are_refused_before_anything_is_written(world: World, running: Platform) -> None:
    with pytest.raises(InvalidSetting, match=r"com\.openfaas\.scale\.min"):
        await running.orchestrator.apply(spec(world, labels={"com.openfaas.scale.min": "many"}))
    with pytest.raises(InvalidQuantity):
        await running.orchestrator.apply(spec(world, limits=Resources(memory="lots")))
    with pytest.raises(InvalidSetting, match="names of variables"):
        await running.orchestrator.apply(spec(world, env_vars={"1A": "x"}))
    with pytest.raises(NotFound, match="namespace"):
        await running.orchestrator.apply(FunctionSpec(service="a", image="b", namespace="nowhere"))
    with pytest.raises(Refused, match="secret missing"):
        await running.orchestrator.apply(spec(world, secrets=("missing",)))
    assert await world.get(FUNCTIONS, "hello") is None


@pytest.mark.real_api_server
async def test_who_else_owns_a_field_is_named(world: World, running: Platform) -> None:
    await world.kubectl_apply("hello", env={"A": "1"})
    with pytest.raises(Refused, match=r"\.spec\.env\.A by kubectl-test") as refused:
        await running.orchestrator.apply(spec(world, env_vars={"A": "2"}))
    assert "also managed by others" in str(refused.value)


async def test_what_kubectl_says_of_the_pods_survives_a_deploy(world: World, running: Platform) -> None:
    await running.orchestrator.apply(spec(world))
    only_pods = world.function("hello", pod={"priorityClassName": "high"})
    del only_pods["spec"]["image"]
    await world.cluster.apply(FUNCTIONS, only_pods, manager="kubectl")
    await running.orchestrator.apply(spec(world, env_vars={"A": "2"}))
    stored = await world.get(FUNCTIONS, "hello")
    assert stored is not None
    assert stored["spec"]["pod"]["priorityClassName"] == "high"
    assert stored["spec"]["env"] == {"A": "2"}


async def test_replicas_pass_through_their_states(world: World, running: Platform, heard: Heard) -> None:
    await running.orchestrator.apply(spec(world))
    await eventually(lambda: world.get(DEPLOYMENTS, "hello-00001"))
    pod = await world.make_pod("hello-00001")
    await world.run_pod(pod, address="fd00::7")
    await eventually(lambda: ReplicaState.RUNNING in heard.states(pod))
    (replica,) = running.orchestrator.status(world.id("hello")).instances
    assert str(replica.endpoint) == "[fd00::7]:8080"
    await world.stop_pod(pod)
    await eventually(lambda: ReplicaState.DRAINING in heard.states(pod))
    await world.remove_pod(pod)
    await eventually(lambda: ReplicaState.STOPPED in heard.states(pod))
    assert heard.states(pod) == ["Pending", "Running", "Draining", "Stopped"]


async def test_a_wake_is_one_request(world: World, running: Platform) -> None:
    await running.orchestrator.apply(spec(world))
    await eventually(lambda: world.get(DEPLOYMENTS, "hello-00001"))
    await eventually(lambda: running.view.wanted(world.namespace, "hello-00001") == 1)
    await running.orchestrator.scale((world.namespace, "hello-00001"), 0)
    await eventually(lambda: running.controller.idle)
    running.controller.lead(False)
    before = world.cluster.sent.copy()
    await running.orchestrator.scale((world.namespace, "hello-00001"), 1)
    assert running.orchestrator.status(world.id("hello")).replicas == 1
    spent = world.cluster.sent - before
    assert {key: n for key, n in spent.items() if key[0] != "WATCH"} == {("PATCH", "Deployment"): 1}
    await running.orchestrator.scale((world.namespace, "hello-00001"), 1)
    assert (world.cluster.sent - before)["PATCH", "Deployment"] == 1, "what is so already is not written"


async def test_a_removed_function_is_gone_for_edges_at_once(world: World, running: Platform, heard: Heard) -> None:
    await running.orchestrator.apply(spec(world))
    await running.orchestrator.remove(world.id("hello"))
    await asyncio.sleep(0)
    assert heard.removed("hello")
    with pytest.raises(NotFound):
        running.orchestrator.status(world.id("hello"))
    with pytest.raises(NotFound):
        await running.orchestrator.remove(world.id("hello"))


async def test_a_pinned_function_has_that_many_replicas_by_the_autoscalers_bounds(
    world: World, running: Platform, heard: Heard
) -> None:
    await world.kubectl_apply("hello", replicas=3, labels={"com.openfaas.scale.max": "9"})
    told = await eventually(lambda: heard.functions("hello"))
    assert told[0].function.spec.labels == {"com.openfaas.scale.min": "3", "com.openfaas.scale.max": "3"}
    status = running.orchestrator.status(world.id("hello"))
    assert status.function.spec.labels == {"com.openfaas.scale.max": "9"}, "people see what they wrote"
    assert "spec.replicas pins it to 3: it is not scaled" in status.notes
    assert (told[0].function.pinned, status.function.pinned) == (3, None)


async def test_of_a_pinned_function_the_autoscaler_scales_no_revision_that_has_a_share(world: World, running: Platform) -> None:
    hello, old, new = world.id("hello"), "hello-00001", "hello-00002"
    await world.kubectl_apply("hello", replicas=4)
    await eventually(lambda: world.get(DEPLOYMENTS, old))
    await world.started(old, 4)
    await world.kubectl_apply("hello", replicas=4, image="registry.test/app:2")
    await eventually(lambda: world.get(DEPLOYMENTS, new))
    await world.started(new, 4)
    await eventually(lambda: running.orchestrator.status(hello).function.serving.name == new)
    split = [{"revision": old, "percent": 10}, {"revision": new, "percent": 90}]
    await world.kubectl_apply("hello", replicas=4, image="registry.test/app:2", traffic=split)
    await eventually(lambda: len(running.orchestrator.status(hello).function.traffic) == 2)
    await eventually(lambda: world.get(DEPLOYMENTS, old))
    await world.started(old, 1)
    await eventually(lambda: running.orchestrator.status(hello).wanted == {old: 1, new: 3})
    for revision in (old, new):
        await running.orchestrator.scale((world.namespace, revision), 4)
    assert running.orchestrator.status(hello).wanted == {old: 1, new: 3}
    note = "spec.replicas pins it to 4 (hello-00001 has 1, hello-00002 has 3): it is not scaled"
    assert note in running.orchestrator.status(hello).notes


async def test_the_clusters_own_namespaces_hold_no_functions(world: World, running: Platform) -> None:
    for name, mark in (("kube-system", "1"), (f"{world.namespace}-own", "1")):
        metadata = {"name": name, "annotations": {NAMESPACE_ANNOTATION: mark}}
        await world.cluster.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, manager="test")

    async def is_known() -> bool:
        return f"{world.namespace}-own" in {namespace.name for namespace in await running.orchestrator.namespaces()}

    await eventually(is_known)
    assert "kube-system" not in {namespace.name for namespace in await running.orchestrator.namespaces()}


async def test_a_namespace_holds_functions_when_it_says_so(world: World, running: Platform) -> None:
    name = f"{world.namespace}-more"
    await running.orchestrator.create_namespace(Namespace(name, {"a": "1"}, {"b": "2"}))
    assert Namespace(name, {"a": "1"}, {"b": "2"}) in await running.orchestrator.namespaces()
    assert "kube-system" not in [namespace.name for namespace in await running.orchestrator.namespaces()]
    with pytest.raises(AlreadyExists):
        await running.orchestrator.create_namespace(Namespace(name))
    with pytest.raises(Refused):
        await running.orchestrator.create_namespace(Namespace("kube-mine"))
    await running.orchestrator.update_namespace(Namespace(name, {"c": "3"}))
    assert Namespace(name, {"c": "3"}, {}) in await running.orchestrator.namespaces()
    await running.orchestrator.apply(FunctionSpec(service="held", image="x", namespace=name))
    with pytest.raises(Refused, match="held"):
        await running.orchestrator.delete_namespace(name)
    await running.orchestrator.remove(FunctionId(name, "held"))
    await running.orchestrator.delete_namespace(name)
    with pytest.raises(NotFound):
        running.orchestrator.statuses(name)
    with pytest.raises(Refused, match="default"):
        await running.orchestrator.delete_namespace("openfaas-fn")


async def test_secrets_are_kept_and_used(world: World, running: Platform) -> None:
    orchestrator = running.orchestrator
    assert await orchestrator.secrets(world.namespace) == []
    await orchestrator.create_secret(world.namespace, "key", b"one\n")
    with pytest.raises(AlreadyExists):
        await orchestrator.create_secret(world.namespace, "key", b"two")
    stored = await world.cluster.get(SECRETS, world.namespace, "key")
    assert base64.b64decode(stored["data"]["key"]) == b"one\n"
    assert await orchestrator.secrets(world.namespace) == ["key"]
    await orchestrator.apply(spec(world, secrets=("key",)))
    with pytest.raises(Refused, match="hello"):
        await orchestrator.delete_secret(world.namespace, "key")
    await orchestrator.remove(world.id("hello"))
    await orchestrator.delete_secret(world.namespace, "key")
    with pytest.raises(NotFound):
        await orchestrator.update_secret(world.namespace, "key", b"three")


async def test_a_secret_that_signs_callbacks_must_be_there_and_can_be_read(world: World, running: Platform) -> None:
    orchestrator = running.orchestrator
    signed = spec(world, annotations={"com.pinnace.callback.secret": "hooks"})
    with pytest.raises(Refused, match="secret hooks does not exist"):
        await orchestrator.apply(signed)
    with pytest.raises(NotFound):
        await orchestrator.secret_value(world.namespace, "hooks")
    await orchestrator.create_secret(world.namespace, "hooks", b"old")
    await orchestrator.apply(signed)
    await eventually(lambda: world.get(DEPLOYMENTS, "hello-00001"))
    with pytest.raises(Refused, match="hello"):
        await orchestrator.delete_secret(world.namespace, "hooks")
    await orchestrator.update_secret(world.namespace, "hooks", b"new\nold")
    assert await orchestrator.secret_value(world.namespace, "hooks") == b"new\nold"
    await eventually(lambda: running.controller.idle)
    held = await world.cluster.get(DEPLOYMENTS, world.namespace, "hello-00001")
    assert SECRETS_ANNOTATION not in held["spec"]["template"]["metadata"].get("annotations", {}), "pods do not have it"


async def test_a_new_value_of_a_secret_rolls_the_pods_that_use_it(world: World, running: Platform) -> None:
    orchestrator = running.orchestrator
    await orchestrator.create_secret(world.namespace, "key", b"one")
    await orchestrator.apply(spec(world, secrets=("key",)))
    await orchestrator.apply(spec(world, "other"))
    await eventually(lambda: world.get(DEPLOYMENTS, "hello-00001"))
    await eventually(lambda: world.get(DEPLOYMENTS, "other-00001"))
    await orchestrator.update_secret(world.namespace, "key", b"two")

    async def rolled(name: str) -> bool:
        held = await world.cluster.get(DEPLOYMENTS, world.namespace, name)
        return SECRETS_ANNOTATION in held["spec"]["template"]["metadata"].get("annotations", {})

    await eventually(lambda: rolled("hello-00001"))
    await eventually(lambda: running.controller.idle)
    assert not await rolled("other-00001")
    assert await world.get(REVISIONS, "hello-00002") is None, "a secret's value is no revision"


async def test_a_secret_is_either_taken_away_or_used_never_both(world: World, running: Platform) -> None:
    orchestrator = running.orchestrator
    for turn in range(10):
        name = f"key{turn}"
        await orchestrator.create_secret(world.namespace, name, b"value")
        changes = [
            orchestrator.apply(spec(world, f"user{turn}", secrets=(name,))),
            orchestrator.delete_secret(world.namespace, name),
        ]
        one, other = await asyncio.gather(*(changes if turn % 2 else reversed(changes)), return_exceptions=True)
        assert isinstance(one, Refused) != isinstance(other, Refused), (one, other)


async def test_a_secret_is_either_taken_away_or_calls_go_back_to_who_needs_it(world: World, running: Platform) -> None:
    orchestrator, hello = running.orchestrator, world.id("hello")
    await orchestrator.create_secret(world.namespace, "key", b"value")
    await orchestrator.apply(spec(world, secrets=("key",)))
    await eventually(lambda: world.get(DEPLOYMENTS, "hello-00001"))
    await world.started("hello-00001", 1)
    await orchestrator.apply(spec(world, image="registry.test/app:2"))
    await eventually(lambda: world.get(DEPLOYMENTS, "hello-00002"))
    await world.started("hello-00002", 1)
    await eventually(lambda: orchestrator.status(hello).function.serving.name == "hello-00002")
    for turn in range(6):
        changes = [orchestrator.roll_back(hello, "hello-00001"), orchestrator.delete_secret(world.namespace, "key")]
        one, other = await asyncio.gather(*(changes if turn % 2 else reversed(changes)), return_exceptions=True)
        assert isinstance(one, Refused) != isinstance(other, Refused), (one, other)
        if isinstance(one if turn % 2 else other, Refused):
            await orchestrator.create_secret(world.namespace, "key", b"value")
        await orchestrator.follow(hello)


async def test_a_namespace_is_either_taken_away_or_deployed_to(world: World, running: Platform) -> None:
    orchestrator, name = running.orchestrator, f"{world.namespace}-race"
    await orchestrator.create_namespace(Namespace(name))
    deployed, deleted = await asyncio.gather(
        orchestrator.apply(FunctionSpec(service="held", image="x", namespace=name)),
        orchestrator.delete_namespace(name),
        return_exceptions=True,
    )
    assert not isinstance(deployed, Exception)
    assert isinstance(deleted, Refused)
    await orchestrator.remove(FunctionId(name, "held"))  # other tests watch the whole cluster
