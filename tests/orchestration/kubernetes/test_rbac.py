"""What the platform's account may do: a real API server's word that each right of the roles is used, and that none is missing.

Three steps, which together say that no right can be taken away:

1. All that a platform does is done by an account with the roles; the server's audit log has every right of them and no other.
2. For each right, an account that has the roles without it: the server's own authoriser, which is asked here as for a request,
   refuses exactly that right. So the request of step 1 that used it would be refused.
3. A refused request is a failure that somebody sees: shown for each way in which the platform uses the API.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from orchestration.kubernetes import view as view_module
from orchestration.kubernetes.api import (
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    FUNCTIONS,
    NETWORK_POLICIES,
    REVISIONS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Forbidden,
    Kind,
)
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.controller import Controller
from orchestration.kubernetes.drains import Drains
from orchestration.kubernetes.lease import HolderLook, Leadership
from orchestration.kubernetes.orchestrator import KubernetesOrchestrator
from orchestration.kubernetes.resource import owner, read
from orchestration.kubernetes.view import CALLED, NotSynced, View
from orchestration.names import FunctionId
from orchestration.orchestrator import LogQuery, Namespace, Refused
from orchestration.spec import FunctionSpec
from tests.orchestration.kubernetes.api_server import PLATFORM, ApiServer
from tests.orchestration.kubernetes.api_server import ROLES as USERS
from tests.orchestration.kubernetes.chart import VARIANTS, plain
from tests.orchestration.kubernetes.test_traffic import GRADUAL
from tests.orchestration.kubernetes.world import World, eventually, told

RBAC = "rbac.authorization.k8s.io/v1"
ROLES = Kind(RBAC, "clusterroles", "ClusterRole")
BINDINGS = Kind(RBAC, "clusterrolebindings", "ClusterRoleBinding")
LOCAL_BINDINGS = Kind(RBAC, "rolebindings", "RoleBinding")
REVIEWS = Kind("authorization.k8s.io/v1", "subjectaccessreviews", "SubjectAccessReview")
Right = tuple[str, str, str]
"""`(group, resource, verb)`."""

pytestmark = pytest.mark.real_api_server

OWNING: Right = ("pinnace.dev", "functions/finalizers", "update")
"""Asked for by the admission of objects that say who owns them: no request of its own."""


@functools.cache
def manifests() -> list[dict[str, Any]]:
    """Return what both folders of plain manifests have for roles."""
    return [m for folder in VARIANTS for m in plain(folder) if m["apiVersion"] == RBAC]


@functools.cache
def roles(account: str = "pinnace") -> dict[str, dict[str, Any]]:
    """Return the roles that the manifests bind to one of the platform's accounts, by name."""
    found = manifests()
    names = {
        binding["roleRef"]["name"]
        for binding in found
        if binding["kind"].endswith("RoleBinding") and any(subject["name"] == account for subject in binding["subjects"])
    }
    return {m["metadata"]["name"]: m for m in found if m["kind"] in ("ClusterRole", "Role") and m["metadata"]["name"] in names}


def rights_of(role: dict[str, Any]) -> set[Right]:
    """Return everything that a role allows."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def granted(account: str = "pinnace") -> set[Right]:
    return {right for role in roles(account).values() for right in rights_of(role)}


def _without(role: dict[str, Any], right: Right | None) -> list[dict[str, Any]]:
    """Return the rules of a role, one for each resource, without one right."""
    verbs: dict[tuple[str, str], list[str]] = {}
    for group, resource, verb in sorted(rights_of(role) - {right}):
        verbs.setdefault((group, resource), []).append(verb)
    return [{"apiGroups": [g], "resources": [r], "verbs": found} for (g, r), found in verbs.items()]


async def allow(world: World, user: str, *, account: str = "pinnace", without: Right | None = None, suffix: str = "") -> None:
    """Give a user an account's roles, those for one namespace in this one, without one right where that is asked for."""
    cluster_wide = {m["roleRef"]["name"] for m in manifests() if m["kind"] == "ClusterRoleBinding"}

    async def give(name: str, role: dict[str, Any]) -> None:
        own = f"{name}{suffix}"
        found = {"apiVersion": RBAC, "kind": "ClusterRole", "metadata": {"name": own}, "rules": _without(role, without)}
        await world.cluster.apply(ROLES, found, manager="test")
        binding = {
            "apiVersion": RBAC,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": own},
            "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
        }
        if name in cluster_wide:
            whole = binding | {"kind": "ClusterRoleBinding", "metadata": {"name": own}}
            await world.cluster.apply(BINDINGS, whole, manager="test")
        else:
            local = binding | {"kind": "RoleBinding", "metadata": {"name": own, "namespace": world.namespace}}
            await world.cluster.apply(LOCAL_BINDINGS, local, manager="test")

    await asyncio.gather(*(give(name, role) for name, role in roles(account).items()))


async def allowed(world: World, user: str, asked_for: set[Right]) -> set[Right]:
    """Return which of the roles' rights the server would grant the user now."""

    async def may(right: Right) -> bool:
        group, resource, verb = right
        whole, _, part = resource.partition("/")
        asked = {"namespace": world.namespace, "group": group, "resource": whole, "subresource": part, "verb": verb}
        review = {"apiVersion": REVIEWS.api_version, "kind": REVIEWS.name, "metadata": {}}
        review["spec"] = {"user": user, "resourceAttributes": asked}
        return bool((await world.cluster.create(REVIEWS, review, manager="test"))["status"]["allowed"])

    rights = sorted(asked_for)
    return {right for right, is_allowed in zip(rights, await asyncio.gather(*map(may, rights)), strict=True) if is_allowed}


async def settled(world: World, user: str, wanted: set[Right]) -> None:
    """Wait until the server has heard of the roles, which it does a moment after they are written."""

    async def is_so() -> bool:
        return await allowed(world, user, granted()) == wanted

    await eventually(is_so)


async def _everything(world: World, control: Cluster, controller: Cluster) -> None:
    """Do all that a platform does, by accounts that may do what the roles say: the API's, and the controller's."""
    extra = f"{world.namespace}-made"
    async with (
        View(control, probes=False) as view,
        Drains(control, view) as drains,
        KubernetesOrchestrator(control, view, scales=drains) as orchestrator,
        View(controller, probes=False) as led,
        Drains(controller, led) as led_drains,
        KubernetesOrchestrator(controller, led, scales=led_drains) as leader,
        Controller(controller, led, scales=led_drains),
        Leadership(controller, world.namespace, "one", lambda leads: None, renew_every_s=0.05) as leadership,
    ):
        view.on_replica.append(lambda replica: drains.released(replica.id))  # no edge has a call anywhere
        led.on_replica.append(lambda replica: led_drains.released(replica.id))
        await HolderLook(control, world.namespace).look()
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
        await world.started("hello-00001")
        await eventually(lambda: view.replicas.ready(function, "hello-00001") == 2)
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
        await _an_account_of_its_own(world)
        await _what_the_leader_decides(world, orchestrator, leader)
        await orchestrator.remove(function)
        await orchestrator.delete_secret(world.namespace, "key")


async def _what_the_leader_decides(world: World, api: KubernetesOrchestrator, leader: KubernetesOrchestrator) -> None:
    """How many pods there are, and how a gradual rollout goes on."""
    identity, image = world.id("gradual"), "registry.test/app@sha256:" + "a" * 64
    spec = FunctionSpec(service="gradual", namespace=world.namespace, image=image, annotations=GRADUAL)
    await api.apply(spec)
    (pod,) = await world.started("gradual-00001")
    await eventually(lambda: len(leader.status(identity).instances) == 1)
    await leader.usage(identity)
    await leader.scale((world.namespace, "gradual-00001"), 2)
    await world.started("gradual-00001")
    await eventually(lambda: len(leader.status(identity).instances) == 2)
    await leader.scale((world.namespace, "gradual-00001"), 1, victims=[pod])
    await eventually(lambda: api.status(identity).replicas == 1)
    await api.apply(msgspec.structs.replace(spec, env_vars={"A": "1"}))
    await world.started("gradual-00002")
    await eventually(lambda: leader.status(identity).function.gradual is not None)
    await leader.abort(identity, "gradual-00002", "9 of 9 calls failed")


async def _an_account_of_its_own(world: World) -> None:
    await world.kubectl_apply("own", pod={"serviceAccount": {"annotations": {"cloud": "one"}}})
    await world.started("own-00001")
    await eventually(lambda: world.get(SERVICE_ACCOUNTS, "own"))
    drift = {"metadata": {"annotations": {"cloud": "another"}}}
    await world.cluster.merge(SERVICE_ACCOUNTS, world.namespace, "own", drift, manager="somebody")

    async def is_back() -> bool:
        held = await world.cluster.get(SERVICE_ACCOUNTS, world.namespace, "own")
        return bool(held["metadata"]["annotations"]["cloud"] == "one")

    await eventually(is_back)
    await world.kubectl_apply("own", pod={})
    await world.started("own-00002")
    await eventually(lambda: _gone(world, SERVICE_ACCOUNTS, "own"))


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
    await allow(world, PLATFORM)
    await settled(world, PLATFORM, granted())
    async with Cluster.open(api_server.platform_kubeconfig) as platform:
        before = len(api_server.asked())
        await _everything(world, platform, platform)
    await eventually(lambda: _used(api_server.asked()[before:]) >= granted() - {OWNING})  # a watch is told of when it has ended
    asked = api_server.asked()[before:]
    refused = [event["requestURI"] for event in asked if event["responseStatus"]["code"] == 403]
    assert refused == []
    assert _used(asked) == granted() - {OWNING}


async def test_roles_apart_are_allowed_what_each_uses_and_nothing_else(api_server: ApiServer, world: World) -> None:
    await asyncio.gather(*(allow(world, user, account=f"pinnace-{user}", suffix=f"-{user}") for user in USERS))
    for user in USERS:
        await settled(world, user, granted(f"pinnace-{user}"))
    before = {user: len(api_server.asked(user)) for user in USERS}
    async with (
        Cluster.open(api_server.kubeconfig_of("edge")) as edge,
        Cluster.open(api_server.kubeconfig_of("control")) as control,
        Cluster.open(api_server.kubeconfig_of("controller")) as controller,
        View(edge, probes=False, kinds=CALLED),  # for as long as something happens: it lists, and then it watches
    ):
        await HolderLook(edge, world.namespace).look()
        await _everything(world, control, controller)
    for user in USERS:
        rights = granted(f"pinnace-{user}") - {OWNING}
        with contextlib.suppress(AssertionError):  # a watch is told of when it has ended; what is missing is told below
            await eventually(functools.partial(_has_used, api_server, user, before[user], rights), 5)
        asked = api_server.asked(user)[before[user] :]
        assert [event["requestURI"] for event in asked if event["responseStatus"]["code"] == 403] == []
        assert _used(asked) == rights, user


def _has_used(api_server: ApiServer, user: str, before: int, rights: set[Right]) -> bool:
    return _used(api_server.asked(user)[before:]) >= rights


@pytest.mark.parametrize("role", USERS)
async def test_without_one_right_of_a_role_apart_the_server_refuses_that(world: World, role: str) -> None:
    account = f"pinnace-{role}"

    async def one(number: int, right: Right) -> None:
        user = f"{role}-{number}-{world.namespace}"
        await allow(world, user, account=account, without=right, suffix=f"-{user}")
        await settled(world, user, granted(account) - {right})

    await asyncio.gather(*(one(number, right) for number, right in enumerate(sorted(granted(account)))))


@pytest.mark.parametrize("right", sorted(granted()), ids=lambda right: " ".join(filter(None, right)))
async def test_without_one_right_the_server_refuses_that_and_nothing_else(world: World, right: Right) -> None:
    user = f"without-{world.namespace}"
    await allow(world, user, without=right, suffix=f"-{world.namespace}")
    await settled(world, user, granted() - {right})


Use = Callable[[World, Cluster], Awaitable[None]]
"""Something the platform does, which fails for want of a right; it returns when the failure has been seen."""


async def _told_by_the_status(world: World, cluster: Cluster, **spec: Any) -> None:
    async with View(cluster, probes=False) as view, Controller(cluster, view):
        await world.kubectl_apply("hello", **spec)
        function = await told(world, "hello", "Degraded", "True", "Forbidden")
    conditions = {found["type"]: found["message"] for found in function["status"]["conditions"]}
    assert f'User "{PLATFORM}" cannot' in conditions["Degraded"]


async def _never_known(world: World, cluster: Cluster) -> None:
    with pytest.raises(NotSynced, match=r'does not list functions: .* cannot list resource "functions"'):
        await View(cluster, probes=False).__aenter__()


async def _not_watched(world: World, cluster: Cluster) -> None:
    async with View(cluster, probes=False) as view:
        await eventually(lambda: any("cannot watch" in reflector.problem for reflector in view.reflectors))


async def _refused_to_who_deploys(world: World, cluster: Cluster) -> None:
    async with View(cluster, probes=False) as view, KubernetesOrchestrator(cluster, view) as orchestrator:
        with pytest.raises(Refused, match="cannot"):
            await orchestrator.apply(FunctionSpec(service="hello", namespace=world.namespace, image="x"), create=True)


async def _refused_to_who_keeps_a_secret(world: World, cluster: Cluster) -> None:
    async with View(cluster, probes=False) as view, KubernetesOrchestrator(cluster, view) as orchestrator:
        with pytest.raises(Refused, match="cannot create resource"):
            await orchestrator.create_secret(world.namespace, "key", b"value")


async def _told_instead_of_the_log(world: World, cluster: Cluster) -> None:
    async with View(cluster, probes=False) as view, KubernetesOrchestrator(cluster, view) as orchestrator:
        async with Controller(cluster, view):
            await world.kubectl_apply("hello")
            await world.started("hello-00001")
        function = FunctionId(world.namespace, "hello")
        await eventually(lambda: view.replicas.ready(function, "hello-00001"))
        (line,) = [line async for line in orchestrator.logs(LogQuery(function=function))]
        assert line.text.startswith("(no log:") and "pods/log" in line.text


async def _tried_again_and_logged(world: World, cluster: Cluster) -> None:
    async with View(cluster, probes=False) as view, Controller(cluster, view) as controller:
        await world.kubectl_apply("hello")
        await eventually(lambda: controller.failing)
    assert (await world.cluster.get(FUNCTIONS, world.namespace, "hello")).get("status") is None


async def _never_leads(world: World, cluster: Cluster) -> None:
    leadership = Leadership(cluster, world.namespace, "one", lambda leads: None, renew_every_s=0.02)
    async with leadership:
        await asyncio.sleep(0)
        await eventually(lambda: cluster.sent["POST", "Lease"] > 1)
        assert not leadership.leads


FAILURES: dict[Right, Use] = {
    ("pinnace.dev", "functions", "list"): _never_known,
    ("pinnace.dev", "functions", "watch"): _not_watched,
    ("", "pods", "watch"): _not_watched,
    ("pinnace.dev", "functions", "get"): _refused_to_who_deploys,
    ("pinnace.dev", "functions", "create"): _refused_to_who_deploys,
    ("pinnace.dev", "functions", "patch"): _refused_to_who_deploys,
    ("pinnace.dev", "functions/status", "patch"): _tried_again_and_logged,
    ("apps", "controllerrevisions", "create"): _told_by_the_status,
    ("apps", "deployments", "create"): _told_by_the_status,
    ("apps", "deployments/scale", "patch"): functools.partial(_told_by_the_status, replicas=3),
    ("", "services", "patch"): _told_by_the_status,
    ("networking.k8s.io", "networkpolicies", "create"): functools.partial(_told_by_the_status, network="PlatformOnly"),
    ("policy", "poddisruptionbudgets", "patch"): functools.partial(_told_by_the_status, minAvailable=1),
    ("", "secrets", "create"): _refused_to_who_keeps_a_secret,
    ("", "pods/log", "get"): _told_instead_of_the_log,
    ("coordination.k8s.io", "leases", "create"): _never_leads,
}


@pytest.mark.parametrize("right", FAILURES, ids=lambda right: " ".join(filter(None, right)))
async def test_what_is_refused_is_seen(
    api_server: ApiServer, world: World, right: Right, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_module, "SYNC_LIMIT_S", 2.0)
    await allow(world, PLATFORM, without=right)
    await settled(world, PLATFORM, granted() - {right})
    async with Cluster.open(api_server.platform_kubeconfig) as platform:
        await FAILURES[right](world, platform)


async def test_without_the_right_to_own_nothing_can_be_made(api_server: ApiServer, world: World) -> None:
    made = read(await world.kubectl_apply("hello"))
    document = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": "hello-00001", "namespace": world.namespace, "ownerReferences": [owner(made.metadata)]},
        "revision": 1,
        "data": {"any": "thing"},
    }
    async with Cluster.open(api_server.platform_kubeconfig) as platform:
        await allow(world, PLATFORM, without=OWNING)
        await settled(world, PLATFORM, granted() - {OWNING})
        with pytest.raises(Forbidden, match="blockOwnerDeletion"):
            await platform.create(REVISIONS, document, manager="test")
        await allow(world, PLATFORM)

        async def is_made() -> bool:
            try:
                await platform.create(REVISIONS, document, manager="test")
            except Forbidden:  # the server hears of the new role a moment later
                return False
            return True

        await eventually(is_made)
