"""From a Function to what is in the cluster, and back when somebody meddles: against a real API server."""

from __future__ import annotations

import functools
import time
from typing import Any

import pytest

from orchestration.kubernetes.api import (
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    FUNCTIONS,
    NETWORK_POLICIES,
    REVISIONS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Forbidden,
    Invalid,
    Kind,
)
from orchestration.kubernetes.client import Cluster
from telemetry.spans import Span
from tests.orchestration.kubernetes.world import World, condition, eventually, platform, told

QUOTAS = Kind("v1", "resourcequotas", "ResourceQuota")


async def test_a_function_becomes_a_revision_a_deployment_and_a_service(cluster: Cluster, world: World) -> None:
    async with platform(cluster):
        await world.kubectl_apply("hello", env={"A": "1"}, labels={"team": "a"})
        function = await told(world, "hello", "Ready", "False", "NoPodReady")
    deployment, service = await world.get(DEPLOYMENTS, "hello-00001"), await world.get(SERVICES, "hello-00001")
    assert deployment is not None and service is not None
    assert await world.get(REVISIONS, "hello-00001")
    assert function["status"]["traffic"] == [{"revision": "hello-00001", "percent": 100}]
    assert function["status"]["observedGeneration"] == 1
    owner = deployment["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Function", function["metadata"]["uid"], True)
    assert deployment["spec"]["template"]["metadata"]["labels"]["team"] == "a"
    assert service["spec"]["clusterIP"] == "None"


async def test_pods_that_run_make_it_ready(cluster: Cluster, world: World) -> None:
    async with platform(cluster) as running:
        await world.kubectl_apply("hello")
        (pod,) = await world.started("hello-00001")
        function = await told(world, "hello", "Ready", "True", "Serving")
        assert (function["status"]["replicas"], function["status"]["readyReplicas"]) == (1, 1)
        status = running.orchestrator.status(world.id("hello"))
        assert (status.available, status.condition.phase, status.instances[0].id) == (1, "Ready", pod)


async def test_a_change_rolls_out_and_traffic_moves_when_as_many_are_ready(cluster: Cluster, world: World) -> None:
    async with platform(cluster):
        await world.kubectl_apply("hello")
        await world.started("hello-00001")
        await told(world, "hello", "Ready", "True", "Serving")
        await cluster.merge(
            DEPLOYMENTS, world.namespace, "hello-00001", {"spec": {"replicas": 2}}, manager="test", part="scale"
        )
        await world.started("hello-00001")
        await world.kubectl_apply("hello", env={"VERSION": "2"})

        await world.started("hello-00002", 1)
        function = await told(world, "hello", "Progressing", "True", "RollingOut")
        assert function["status"]["servingRevision"] == "hello-00001"
        await eventually(lambda: replicas(world, "hello-00002", 2))
        await world.started("hello-00002", 1)

        function = await told(world, "hello", "Progressing", "False", "Settled")
        assert function["status"]["traffic"] == [{"revision": "hello-00002", "percent": 100}]
        await eventually(lambda: replicas(world, "hello-00001", 0))
        await world.deployment_status("hello-00001")
        await eventually(lambda: gone(world, DEPLOYMENTS, "hello-00001"))
        await eventually(lambda: gone(world, SERVICES, "hello-00001"))
        assert await world.get(REVISIONS, "hello-00001"), "the revision stays, for a way back"


async def replicas(world: World, deployment: str, count: int) -> bool:
    held = await world.get(DEPLOYMENTS, deployment)
    return held is not None and held["spec"]["replicas"] == count


async def gone(world: World, kind: Any, name: str) -> bool:
    return await world.get(kind, name) is None


async def test_settings_that_do_not_touch_the_pods_make_no_revision(cluster: Cluster, world: World) -> None:
    async with platform(cluster) as running:
        await world.kubectl_apply("hello")
        await world.started("hello-00001")
        await told(world, "hello", "Ready", "True", "Serving")
        made = await world.kubectl_apply("hello", labels={"com.openfaas.scale.max": "7"}, minAvailable=1)
        await eventually(lambda: observed(world, "hello", made["metadata"]["generation"]))
        await eventually(lambda: running.controller.idle)
        assert await world.get(REVISIONS, "hello-00002") is None


async def observed(world: World, name: str, generation: int) -> bool:
    held = await world.get(FUNCTIONS, name)
    return held is not None and bool(held.get("status", {}).get("observedGeneration") == generation)


async def test_a_revision_that_is_never_ready_is_given_up_with_the_pods_own_words(cluster: Cluster, world: World) -> None:
    late_s = 0.0
    async with platform(cluster, clock=lambda: time.time() + late_s) as running:
        await world.kubectl_apply("hello")
        await world.started("hello-00001")
        await told(world, "hello", "Ready", "True", "Serving")
        await world.kubectl_apply("hello", image="registry.test/typo:1")
        await eventually(lambda: world.get(DEPLOYMENTS, "hello-00002"))
        pod = await world.make_pod("hello-00002")
        await world.fail_pod(pod, "ImagePullBackOff", 'Back-off pulling image "registry.test/typo:1"')
        await eventually(lambda: running.view.trouble(world.id("hello"), "hello-00002"))
        await eventually(lambda: running.controller.idle)
        function = await cluster.get(FUNCTIONS, world.namespace, "hello")
        assert condition(function, "Progressing")[:2] == ("True", "RollingOut"), "there is still time"
        late_s = 121.0
        running.controller.touch(world.id("hello"))
        function = await told(world, "hello", "Degraded", "True", "RolloutFailed")
        assert "ImagePullBackOff: Back-off pulling image" in condition(function, "Degraded")[2]
        assert condition(function, "Ready")[0] == "True", "the old revision serves"
        assert function["status"]["servingRevision"] == "hello-00001"
        await eventually(lambda: replicas(world, "hello-00002", 0))


async def test_drift_is_put_back(cluster: Cluster, world: World) -> None:
    async with platform(cluster):
        await world.kubectl_apply("hello", limits={"memory": "1024Mi", "cpu": "1000m"})
        await world.started("hello-00001")
        await told(world, "hello", "Ready", "True", "Serving")
        meddled = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 7}}}}
        await cluster.merge(DEPLOYMENTS, world.namespace, "hello-00001", meddled, manager="somebody")

        async def is_back() -> bool:
            held = await cluster.get(DEPLOYMENTS, world.namespace, "hello-00001")
            return bool(held["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 65)

        await eventually(is_back)
        await cluster.delete(SERVICES, world.namespace, "hello-00001")
        await eventually(lambda: world.get(SERVICES, "hello-00001"))


async def test_a_deployment_that_is_taken_away_comes_back_as_large_as_it_was(cluster: Cluster, world: World) -> None:
    async with platform(cluster):
        await world.kubectl_apply("hello")
        await world.started("hello-00001")
        await told(world, "hello", "Ready", "True", "Serving")
        await cluster.merge(
            DEPLOYMENTS, world.namespace, "hello-00001", {"spec": {"replicas": 3}}, manager="test", part="scale"
        )

        async def known() -> bool:
            return bool((await cluster.get(FUNCTIONS, world.namespace, "hello"))["status"]["replicas"] == 3)

        await eventually(known)
        before = await cluster.get(DEPLOYMENTS, world.namespace, "hello-00001")
        await cluster.delete(DEPLOYMENTS, world.namespace, "hello-00001")

        async def is_back() -> bool:
            held = await world.get(DEPLOYMENTS, "hello-00001")
            return held is not None and held["metadata"]["uid"] != before["metadata"]["uid"] and held["spec"]["replicas"] == 3

        await eventually(is_back)


async def test_nothing_is_written_while_nothing_changes(cluster: Cluster, world: World) -> None:
    async with platform(cluster) as running:
        await world.kubectl_apply("hello", limits={"cpu": "1500m", "memory": "0.5Gi"}, env={"A": "1"}, minAvailable="50%")
        await world.started("hello-00001")
        await told(world, "hello", "Ready", "True", "Serving")
        await eventually(lambda: running.controller.idle)
        written = {key: n for key, n in cluster.sent.items() if key[0] in ("PATCH", "POST", "PUT", "DELETE")}
        running.controller.lead(True)
        await eventually(lambda: running.controller.idle)
        assert {key: n for key, n in cluster.sent.items() if key[0] in ("PATCH", "POST", "PUT", "DELETE")} == written


async def test_a_pinned_count_is_kept(cluster: Cluster, world: World) -> None:
    async with platform(cluster) as running:
        await world.kubectl_apply("hello", replicas=3)
        await eventually(lambda: replicas(world, "hello-00001", 3))
        await running.orchestrator.scale((world.namespace, "hello-00001"), 1)
        await world.kubectl_apply("hello", replicas=0)
        await eventually(lambda: replicas(world, "hello-00001", 0))
        function = await told(world, "hello", "Ready", "True", "Idle")
        assert condition(function, "Ready")[2] == "pinned at zero"


async def test_policies_come_and_go_with_the_settings(cluster: Cluster, world: World) -> None:
    async with platform(cluster):
        await world.kubectl_apply("hello", network="PlatformOnly", minAvailable=1)
        await eventually(lambda: world.get(NETWORK_POLICIES, "hello"))
        budget = await eventually(lambda: world.get(DISRUPTION_BUDGETS, "hello"))
        assert budget["spec"]["minAvailable"] == 1
        await world.kubectl_apply("hello")
        await eventually(lambda: gone(world, NETWORK_POLICIES, "hello"))
        await eventually(lambda: gone(world, DISRUPTION_BUDGETS, "hello"))


@pytest.mark.real_api_server
async def test_what_the_api_server_will_not_take_is_told_in_the_status(cluster: Cluster, world: World) -> None:
    async with platform(cluster):
        constraint = {"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
        await world.kubectl_apply("hello", pod={"topologySpreadConstraints": [constraint]})
        function = await told(world, "hello", "Degraded", "True", "Invalid")
        assert "maxSkew" in condition(function, "Degraded")[2]
        await world.kubectl_apply("hello", pod={})
        await told(world, "hello", "Degraded", "False", "AsExpected")


async def test_a_function_has_an_account_of_its_own_where_that_is_asked_for(cluster: Cluster, world: World) -> None:
    async with platform(cluster):
        made = await world.kubectl_apply("hello", pod={"serviceAccount": {"annotations": {"cloud.test/role": "reader"}}})
        account = await eventually(lambda: world.get(SERVICE_ACCOUNTS, "hello"))
        assert account["metadata"]["annotations"] == {"cloud.test/role": "reader"}
        assert account["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
        deployment = await eventually(lambda: world.get(DEPLOYMENTS, "hello-00001"))
        spec = deployment["spec"]["template"]["spec"]
        assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("hello", True)
        await world.started("hello-00001")
        await world.kubectl_apply("hello", pod={})
        await eventually(lambda: world.get(DEPLOYMENTS, "hello-00002"))
        assert await world.get(SERVICE_ACCOUNTS, "hello"), "the revision that serves has it still"
        await world.started("hello-00002")
        await eventually(lambda: gone(world, SERVICE_ACCOUNTS, "hello"))


async def test_an_account_of_others_does_not_become_the_functions(cluster: Cluster, world: World) -> None:
    theirs = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "hello", "namespace": world.namespace}}
    await cluster.apply(SERVICE_ACCOUNTS, theirs, manager="somebody")
    async with platform(cluster):
        await world.kubectl_apply("hello", pod={"serviceAccount": {}})
        function = await told(world, "hello", "Degraded", "True", "Conflict")
        assert "name it in pod.serviceAccountName" in condition(function, "Degraded")[2]
        held = await cluster.get(SERVICE_ACCOUNTS, world.namespace, "hello")
        assert "ownerReferences" not in held["metadata"] and "labels" not in held["metadata"]
        await world.kubectl_apply("hello", pod={"serviceAccountName": "hello"})
        await told(world, "hello", "Degraded", "False", "AsExpected")


@pytest.mark.real_api_server
async def test_a_quota_that_is_used_up_is_told_in_one_line(cluster: Cluster, world: World) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small", "namespace": world.namespace}}
    hard = {"pods": "0"}
    await cluster.create(QUOTAS, quota | {"spec": {"hard": hard}}, manager="test")
    counted = {"status": {"hard": hard, "used": {"pods": "0"}}}  # Kubernetes's own controller would
    await cluster.merge(QUOTAS, world.namespace, "small", counted, manager="test", part="status")
    async with platform(cluster) as running:
        await world.kubectl_apply("hello")
        await eventually(lambda: world.get(DEPLOYMENTS, "hello-00001"))
        with pytest.raises(Forbidden) as refused:
            await world.make_pod("hello-00001")
        said = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": refused.value.message}
        await world.deployment_status("hello-00001", conditions=[said])
        function = await told(world, "hello", "Degraded", "True", "PodsFail")
        line = condition(function, "Degraded")[2]
        assert "exceeded quota: small" in line and "\n" not in line
        assert condition(function, "Ready") == ("False", "NoPodReady", line)
        assert "exceeded quota: small" in running.orchestrator.status(world.id("hello")).condition.message


@pytest.mark.real_api_server
async def test_what_is_not_ours_is_left_alone(cluster: Cluster, world: World) -> None:
    selector, ports = {"app": "theirs"}, [{"name": "http", "port": 80}]
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "hello-00001", "namespace": world.namespace},
        "spec": {"selector": selector, "ports": ports},
    }
    await cluster.apply(SERVICES, theirs, manager="somebody")
    async with platform(cluster):
        await world.kubectl_apply("hello")
        function = await told(world, "hello", "Degraded", "True", "Conflict")
        assert 'conflict with "somebody"' in condition(function, "Degraded")[2]
        held = await cluster.get(SERVICES, world.namespace, "hello-00001")
        assert held["spec"]["selector"] == selector
        await cluster.delete(SERVICES, world.namespace, "hello-00001")
        await told(world, "hello", "Degraded", "False", "AsExpected")


async def test_a_setting_without_sense_is_told_in_the_status(cluster: Cluster, world: World) -> None:
    async with platform(cluster):
        await world.kubectl_apply("hello", annotations={"com.pinnace.timeout": "soon"})
        function = await told(world, "hello", "Degraded", "True", "InvalidSetting")
        assert "com.pinnace.timeout" in condition(function, "Degraded")[2]
        assert await world.get(DEPLOYMENTS, "hello-00001") is None


async def test_only_so_many_revisions_are_kept(cluster: Cluster, world: World) -> None:
    async with platform(cluster) as running:
        for number in range(1, 13):
            await world.kubectl_apply("hello", env={"N": str(number)})
            await eventually(functools.partial(world.get, REVISIONS, f"hello-{number:05d}"))
        await eventually(lambda: gone(world, REVISIONS, "hello-00002"))
        await eventually(lambda: running.controller.idle)
        held = [revision["metadata"]["name"] for revision in (await cluster.listed(REVISIONS, world.namespace))[0]]
    assert sorted(held) == ["hello-00001", *(f"hello-{n:05d}" for n in range(3, 13))], "the serving one and the newest ten"


@pytest.mark.real_api_server
async def test_a_revision_cannot_be_changed(cluster: Cluster, world: World) -> None:
    async with platform(cluster):
        await world.kubectl_apply("hello")
        await eventually(lambda: world.get(REVISIONS, "hello-00001"))
        with pytest.raises(Invalid, match="immutable"):
            change = {"data": {"content": {"image": "other"}}}
            await cluster.merge(REVISIONS, world.namespace, "hello-00001", change, manager="somebody")


async def test_what_it_wrote_for_a_function_is_a_trace(cluster: Cluster, world: World) -> None:
    spans: list[Span] = []
    async with platform(cluster) as running:
        running.controller.trace(spans.append)
        await world.kubectl_apply("hello")
        await told(world, "hello", "Ready", "False", "NoPodReady")
        await eventually(lambda: running.controller.idle)
    whole = next(span for span in spans if span.name == "reconcile" and span.attributes["pinnace.function"] == "hello")
    assert (whole.kind, whole.parent, whole.error) == ("internal", "", "")
    assert whole.attributes == {"k8s.namespace.name": world.namespace, "pinnace.function": "hello"}
    writes = {span.name: span for span in spans if span.trace == whole.trace and span is not whole}
    assert {"create ControllerRevision", "apply Deployment", "apply Service", "update status of Function"} <= set(writes)
    assert {span.parent for span in writes.values()} == {whole.span}
    assert writes["apply Deployment"].kind == "client"
    assert writes["apply Deployment"].attributes == {
        "k8s.namespace.name": world.namespace,
        "k8s.object.kind": "Deployment",
        "k8s.object.name": "hello-00001",
        "k8s.deployment.name": "hello-00001",
    }
    assert all(whole.start_ns <= span.start_ns <= span.end_ns <= whole.end_ns for span in writes.values())
    assert len({span.trace for span in spans}) == sum(span.name == "reconcile" for span in spans)
