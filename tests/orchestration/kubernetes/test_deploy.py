"""What `deploy/kubernetes` installs: the definition as the code has it, and rights that are exactly those that are used."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestration.kubernetes.api import (
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    NAMESPACES,
    NETWORK_POLICIES,
    PODS,
    REVISIONS,
    SERVICES,
    Forbidden,
    Kind,
)
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.controller import Controller
from orchestration.kubernetes.crd import custom_resource_definition
from orchestration.kubernetes.lease import Leadership
from orchestration.kubernetes.orchestrator import KubernetesOrchestrator
from orchestration.kubernetes.resource import owner, read
from orchestration.kubernetes.view import View
from orchestration.names import FunctionId
from orchestration.orchestrator import LogQuery, Namespace
from orchestration.spec import FunctionSpec
from tests.orchestration.kubernetes.api_server import PLATFORM, ApiServer
from tests.orchestration.kubernetes.chart import plain
from tests.orchestration.kubernetes.reference import PAGE, page
from tests.orchestration.kubernetes.world import World, eventually

DEPLOY = Path(__file__).parents[3] / "deploy" / "kubernetes"
RBAC = "rbac.authorization.k8s.io/v1"
ROLES = Kind(RBAC, "clusterroles", "ClusterRole")
BINDINGS = Kind(RBAC, "clusterrolebindings", "ClusterRoleBinding")
LOCAL_BINDINGS = Kind(RBAC, "rolebindings", "RoleBinding")
REVIEWS = Kind("authorization.k8s.io/v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview")

OWNING = {("pinnace.dev", "functions/finalizers", "update")}
"""Asked for by the admission of objects that say who owns them: no request of its own."""


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def rules() -> dict[str, list[dict[str, Any]]]:
    return {m["metadata"]["name"]: m["rules"] for m in manifests("rbac.yaml") if m["kind"] in ("ClusterRole", "Role")}


def granted() -> set[tuple[str, str, str]]:
    """Return `(group, resource, verb)` of everything that the roles allow."""
    return {
        (group, resource, verb)
        for found in rules().values()
        for rule in found
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_definition_is_the_codes_own() -> None:
    (found,) = manifests("crd.yaml")
    assert found == custom_resource_definition(), "write it anew: python -m tests.orchestration.kubernetes.reference"


def test_all_files_are_in_the_kustomization() -> None:
    (kustomization,) = manifests("kustomization.yaml")
    others = {path.name for path in DEPLOY.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == others


async def test_the_platforms_pods_keep_to_the_restricted_standard(world: World) -> None:
    (name,) = [m for m in manifests("namespace.yaml") if m["kind"] == "Namespace"]
    labels = {"metadata": {"labels": name["metadata"]["labels"]}}
    await world.cluster.merge(NAMESPACES, "", world.namespace, labels, manager="test")
    deployments = [m for m in plain() if m["kind"] == "Deployment"]
    assert deployments
    for deployment in deployments:
        template = deployment["spec"]["template"]
        metadata = template["metadata"] | {"name": deployment["metadata"]["name"], "namespace": world.namespace}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        await world.cluster.create(PODS, pod, manager="test")
        pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = False
        del pod["spec"]["securityContext"]["runAsNonRoot"]
        with pytest.raises(Forbidden, match="PodSecurity"):
            await world.cluster.create(PODS, pod, manager="test")


async def _allow(world: World, namespaces: list[str], *, without: tuple[str, str, str] | None = None) -> None:
    """Give the platform's user the roles of `rbac.yaml`, without one right where that is asked for."""
    subjects = [{"kind": "User", "name": PLATFORM, "apiGroup": "rbac.authorization.k8s.io"}]
    for name, found in rules().items():
        role = {"apiVersion": RBAC, "kind": "ClusterRole", "metadata": {"name": name}, "rules": _without(found, without)}
        await world.cluster.apply(ROLES, role, manager="test")
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        binding = {"apiVersion": RBAC, "roleRef": reference, "subjects": subjects, "metadata": {"name": name}}
        if name in ("pinnace", "pinnace-namespaces"):
            await world.cluster.apply(BINDINGS, binding | {"kind": "ClusterRoleBinding"}, manager="test")
            continue
        for namespace in namespaces:
            local = binding | {"kind": "RoleBinding", "metadata": {"name": name, "namespace": namespace}}
            await world.cluster.apply(LOCAL_BINDINGS, local, manager="test")


def _without(found: list[dict[str, Any]], right: tuple[str, str, str] | None) -> list[dict[str, Any]]:
    if right is None:
        return found
    group, resource, verb = right
    hit = [rule for rule in found if group in rule["apiGroups"] and resource in rule["resources"]]
    cut = [rule | {"verbs": [v for v in rule["verbs"] if v != verb]} if rule in hit else rule for rule in found]
    return [rule for rule in cut if rule["verbs"]]


async def _may(platform: Cluster, namespace: str, group: str, resource: str, verb: str) -> bool:
    """Whether the API server has heard of the right yet."""
    whole, _, part = resource.partition("/")
    asked = {"namespace": namespace, "group": group, "resource": whole, "subresource": part, "verb": verb}
    review = {"apiVersion": REVIEWS.api_version, "kind": REVIEWS.name, "metadata": {}, "spec": {"resourceAttributes": asked}}
    return bool((await platform.create(REVIEWS, review, manager="test"))["status"]["allowed"])


async def _everything(world: World, platform: Cluster) -> None:
    """Do all that a platform does, by an account that may do what the roles say."""
    extra = f"{world.namespace}-made"
    async with (
        View(platform, probes=False) as view,
        KubernetesOrchestrator(platform, view) as orchestrator,
        Controller(platform, view),
        Leadership(platform, world.namespace, "one", lambda leads: None, renew_every_s=0.05) as leadership,
    ):
        await eventually(lambda: leadership.leads)
        await orchestrator.create_namespace(Namespace(extra))
        await orchestrator.update_namespace(Namespace(extra, {"a": "1"}))
        await orchestrator.delete_namespace(extra)
        await orchestrator.create_secret(world.namespace, "key", b"one")
        assert await orchestrator.secrets(world.namespace) == ["key"]
        spec = FunctionSpec(service="hello", namespace=world.namespace, image="x", secrets=("key",))
        await orchestrator.apply(spec, create=True)
        await world.kubectl_apply("hello", network="PlatformOnly", minAvailable=1, image="x")
        await eventually(lambda: world.get(NETWORK_POLICIES, "hello"))
        await eventually(lambda: world.get(DISRUPTION_BUDGETS, "hello"))
        (pod,) = await world.started("hello-00001")
        function = FunctionId(world.namespace, "hello")
        await eventually(lambda: view.replicas.ready(function, "hello-00001"))
        await orchestrator.usage(function)
        assert [line async for line in orchestrator.logs(LogQuery(function=function))] == []
        await orchestrator.scale((world.namespace, "hello-00001"), 2)
        await orchestrator.scale((world.namespace, "hello-00001"), 1, victims=[pod])
        await orchestrator.update_secret(world.namespace, "key", b"two")
        await world.kubectl_apply("hello", image="x")  # the policies go
        for number in range(2, 13):  # old revisions go
            await world.kubectl_apply("hello", image="x", env={"N": str(number)})
            await eventually(functools.partial(world.get, REVISIONS, f"hello-{number:05d}"))
        await world.started("hello-00012")
        await eventually(lambda: view.wanted(world.namespace, "hello-00001") == 0)
        await world.deployment_status("hello-00001")
        await eventually(lambda: _gone(world, NETWORK_POLICIES, "hello"))
        await eventually(lambda: _gone(world, DISRUPTION_BUDGETS, "hello"))
        await eventually(lambda: _gone(world, DEPLOYMENTS, "hello-00001"))
        await eventually(lambda: _gone(world, SERVICES, "hello-00001"))
        await eventually(lambda: _gone(world, REVISIONS, "hello-00002"))
        await orchestrator.remove(function)
        await orchestrator.delete_secret(world.namespace, "key")


async def _gone(world: World, kind: Kind, name: str) -> bool:
    return await world.get(kind, name) is None


def _used(asked: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """Return `(group, resource, verb)` of the requests; a patch that made an object needed `create` as well."""
    found = set()
    for event in asked:
        reference = event.get("objectRef", {})
        resource = reference.get("resource", "")
        if not resource:
            continue  # /version and the like, which everybody may
        if part := reference.get("subresource"):
            resource = f"{resource}/{part}"
        found.add((reference.get("apiGroup", ""), resource, event["verb"]))
        if event["verb"] == "patch" and event["responseStatus"]["code"] == 201:
            found.add((reference.get("apiGroup", ""), resource, "create"))
    return found


async def test_the_roles_allow_what_is_used_and_nothing_else(api_server: ApiServer, world: World) -> None:
    await _allow(world, [world.namespace])
    async with Cluster.open(api_server.platform_kubeconfig) as platform:
        for right in granted():
            await eventually(functools.partial(_may, platform, world.namespace, *right))
        before = len(api_server.asked())
        await _everything(world, platform)
    await eventually(lambda: _used(api_server.asked()[before:]) >= granted() - OWNING)  # a watch is told of when it has ended
    asked = api_server.asked()[before:]
    refused = [event["requestURI"] for event in asked if event["responseStatus"]["code"] == 403]
    assert refused == []
    assert _used(asked) == granted() - OWNING


async def test_without_the_right_to_own_nothing_can_be_made(api_server: ApiServer, world: World) -> None:
    (right,) = OWNING
    made = read(await world.kubectl_apply("hello"))
    document = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": "hello-00001", "namespace": world.namespace, "ownerReferences": [owner(made.metadata)]},
        "revision": 1,
        "data": {"any": "thing"},
    }
    async with Cluster.open(api_server.platform_kubeconfig) as platform:
        await _allow(world, [world.namespace], without=right)
        with pytest.raises(Forbidden, match="blockOwnerDeletion"):
            await platform.create(REVISIONS, document, manager="test")
        await _allow(world, [world.namespace])

        async def is_made() -> bool:
            try:
                await platform.create(REVISIONS, document, manager="test")
            except Forbidden:  # the server hears of the new role a moment later
                return False
            return True

        await eventually(is_made)


def test_the_page_has_every_field() -> None:
    assert page(PAGE.read_text()) == PAGE.read_text(), "write it anew: python -m tests.orchestration.kubernetes.reference"
