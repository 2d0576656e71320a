"""What tests do to a cluster that has an API server and nothing else: they are the kubelet and the Deployment controller."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from orchestration.kubernetes.api import (
    DEFINITIONS,
    DEPLOYMENTS,
    FUNCTIONS,
    NAMESPACES,
    PODS,
    ApiError,
    Exists,
    Missing,
)
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.controller import Controller
from orchestration.kubernetes.crd import custom_resource_definition
from orchestration.kubernetes.names import API_VERSION, CONTAINER, FUNCTION_LABEL, NAMESPACE_ANNOTATION
from orchestration.kubernetes.orchestrator import KubernetesOrchestrator
from orchestration.kubernetes.resource import Manifest
from orchestration.kubernetes.view import View
from orchestration.names import FunctionId

KUBECTL = "kubectl-test"
LIMIT_S = 20.0


async def install(cluster: Cluster) -> None:
    """Apply the CRD, and wait until it is served."""
    await cluster.apply(DEFINITIONS, custom_resource_definition(), manager="test")
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            await cluster.listed(FUNCTIONS)
            return
        except Missing:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


async def eventually(condition: Callable[[], Any], limit_s: float = LIMIT_S) -> Any:
    """Return the first true value of `condition`, which may be async. It is asked every 10 ms, for `limit_s`."""
    deadline = time.monotonic() + limit_s
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {limit_s} s: {condition}"
        await asyncio.sleep(0.01)


class World:
    """One namespace of the cluster."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self._pods = 0

    async def create_namespace(self) -> None:
        metadata = {"name": self.namespace, "annotations": {NAMESPACE_ANNOTATION: "1"}}
        with contextlib.suppress(Exists):
            await self.cluster.create(
                NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, manager="test"
            )

    async def clear(self) -> None:
        """Remove the functions: the next tests watch the whole cluster."""
        for document in (await self.cluster.listed(FUNCTIONS, self.namespace))[0]:
            with contextlib.suppress(ApiError):
                await self.cluster.delete(FUNCTIONS, self.namespace, document["metadata"]["name"])
        for pod in (await self.cluster.listed(PODS, self.namespace))[0]:
            await self.remove_pod(pod["metadata"]["name"])

    def id(self, name: str) -> FunctionId:
        return FunctionId(self.namespace, name)

    def function(self, name: str, **spec: Any) -> Manifest:
        return {
            "apiVersion": API_VERSION,
            "kind": "Function",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"image": "registry.test/app:1"} | spec,
        }

    async def kubectl_apply(self, name: str, *, force: bool = True, **spec: Any) -> Manifest:
        """What `kubectl apply --server-side` does."""
        return await self.cluster.apply(FUNCTIONS, self.function(name, **spec), manager=KUBECTL, force=force)

    async def get(self, kind: Any, name: str) -> Manifest | None:
        try:
            return await self.cluster.get(kind, self.namespace, name)
        except Missing:
            return None

    # the Deployment controller

    async def deployment_status(self, name: str, **status: Any) -> None:
        held = await self.cluster.get(DEPLOYMENTS, self.namespace, name)
        whole = {"observedGeneration": held["metadata"]["generation"], "replicas": 0} | status
        await self.cluster.merge(DEPLOYMENTS, self.namespace, name, {"status": whole}, manager="test", part="status")

    async def make_pod(self, deployment: str, *, address: str = "127.0.0.1") -> str:
        """Make a pod from the Deployment's template; it waits to be started."""
        held = await self.cluster.get(DEPLOYMENTS, self.namespace, deployment)
        self._pods += 1
        name = f"{deployment}-{self._pods}"
        template = held["spec"]["template"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": template["metadata"] | {"name": name, "namespace": self.namespace},
            "spec": template["spec"] | {"nodeName": "test-node"},
        }
        await self.cluster.create(PODS, pod, manager="test")
        return name

    # the kubelet

    async def pod_status(self, name: str, **status: Any) -> None:
        await self.cluster.merge(PODS, self.namespace, name, {"status": status}, manager="test", part="status")

    async def run_pod(self, name: str, *, address: str = "127.0.0.1", ready: bool = True) -> None:
        running = {"startedAt": "2026-01-01T00:00:00Z"}
        await self.pod_status(
            name,
            phase="Running",
            podIP=address,
            podIPs=[{"ip": address}],
            conditions=[{"type": "Ready", "status": "True" if ready else "False"}],
            containerStatuses=[_container({"running": running}, ready=ready)],
        )

    async def fail_pod(self, name: str, reason: str, message: str, *, exit_code: int | None = None) -> None:
        last = {} if exit_code is None else {"lastState": {"terminated": {"exitCode": exit_code}}}
        waiting = _container({"waiting": {"reason": reason, "message": message}}, ready=False)
        await self.pod_status(name, phase="Pending", containerStatuses=[waiting | last])

    async def remove_pod(self, name: str) -> None:
        """Remove a pod at once, as a kubelet does after the grace."""
        path = PODS.path(self.namespace, name)
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        with contextlib.suppress(Missing):
            await self.cluster._json("DELETE", PODS, path, {}, options)

    async def stop_pod(self, name: str) -> None:
        """Begin to stop a pod, as a smaller Deployment does."""
        await self.cluster.delete(PODS, self.namespace, name)

    async def started(self, revision: str, count: int = 1) -> list[str]:
        """Wait for the revision's Deployment, and run so many pods of it."""
        await eventually(lambda: self.get(DEPLOYMENTS, revision))
        names = [await self.make_pod(revision) for _ in range(count)]
        for name in names:
            await self.run_pod(name)
        return names


def condition(function: Manifest | None, kind: str) -> tuple[str, str, str]:
    for found in (function or {}).get("status", {}).get("conditions", []):
        if found["type"] == kind:
            return found["status"], found["reason"], found["message"]
    return "", "", ""


async def told(world: World, name: str, kind: str, status: str, reason: str) -> Manifest:
    """Wait until the function's condition says so; return the function."""

    async def said() -> Manifest | None:
        held = await world.get(FUNCTIONS, name)
        return held if condition(held, kind)[:2] == (status, reason) else None

    found: Manifest = await eventually(said)
    return found


def _container(state: Manifest, *, ready: bool) -> Manifest:
    return {
        "name": CONTAINER,
        "image": "registry.test/app:1",
        "imageID": "",
        "containerID": "test://1",
        "restartCount": 0,
        "ready": ready,
        "state": state,
    }


class Platform:
    """A view with a controller and the seam on it, as `faas serve --orchestration kubernetes` has them."""

    def __init__(self, view: View, controller: Controller, orchestrator: KubernetesOrchestrator) -> None:
        self.view = view
        self.controller = controller
        self.orchestrator = orchestrator


@contextlib.asynccontextmanager
async def platform(cluster: Cluster, **settings: Any) -> AsyncIterator[Platform]:
    async with (
        View(cluster, probes=False) as view,
        KubernetesOrchestrator(cluster, view) as orchestrator,
        Controller(cluster, view, **settings) as controller,
    ):
        yield Platform(view, controller, orchestrator)


__all__ = ["FUNCTION_LABEL", "Platform", "World", "condition", "eventually", "install", "platform", "told"]
