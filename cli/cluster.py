"""Wires the parts that stand for a Kubernetes cluster: the connection, the view, the seam, the controller, the leader's lease.

`cli.roles` enters it in the place where it would enter the orchestrator of this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from builder.registry.digest import find_digest
from cli.errors import CliError
from cli.settings import ServeSettings
from orchestration.kubernetes.api import PODS, ApiError, Kind
from orchestration.kubernetes.client import Cluster, NoCluster
from orchestration.kubernetes.controller import Controller
from orchestration.kubernetes.drains import Drains
from orchestration.kubernetes.install import NotServed, ensure
from orchestration.kubernetes.lease import HolderLook, Leadership
from orchestration.kubernetes.names import CONTROLLER
from orchestration.kubernetes.orchestrator import KubernetesOrchestrator
from orchestration.kubernetes.view import NotSynced, View
from telemetry.span_sink import SpanSink

log = logging.getLogger("pinnace.platform")

PartEnded = Callable[[asyncio.Task[None]], None]

DIGEST_WITHIN_S: Final = 5.0
POD_VARIABLE: Final = "POD_NAME"
"""The environment variable in which the chart gives an edge the name of its pod."""
_OWN_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class CannotReach(CliError):
    """The cluster cannot be used; the message is one sentence that says why."""


class OnCluster:
    """The parts of a platform whose functions run on a cluster. Made by `open`."""

    def __init__(
        self,
        cluster: Cluster,
        orchestrator: KubernetesOrchestrator,
        controller: Controller | None,
        drains: Drains,
        namespace: str,
        part_ended: PartEnded,
    ) -> None:
        self.orchestrator = orchestrator
        self.url = cluster.url
        self._cluster = cluster
        self._controller = controller
        self._drains = drains
        self._namespace = namespace
        self._part_ended = part_ended

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, settings: ServeSettings, part_ended: PartEnded, *, kinds: Collection[Kind] | None = None
    ) -> AsyncIterator[OnCluster]:
        """Connect, and see what is there: all, or only what is of some `kinds`; then there is no controller.

        `part_ended` is told when a task ended that must go on. Raises CannotReach.
        """
        namespace = settings.platform_namespace or _own_namespace() or "default"
        kubeconfig = Path(settings.kubeconfig) if settings.kubeconfig else None

        async def resolve(image: str) -> str | None:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(asyncio.to_thread(find_digest, image, settings.registries), DIGEST_WITHIN_S)
            return None

        async with contextlib.AsyncExitStack() as stack:
            try:
                cluster = await stack.enter_async_context(Cluster.open(kubeconfig))
                if not _own_namespace() and kinds is None:
                    await ensure(cluster)
                view = await stack.enter_async_context(View(cluster, kinds=kinds))
            except (NoCluster, NotServed, NotSynced, ApiError) as error:
                raise CannotReach(str(error)) from None
            drains = await stack.enter_async_context(Drains(cluster, view))
            orchestrator = await stack.enter_async_context(
                KubernetesOrchestrator(cluster, view, scales=drains, resolve=resolve)
            )
            controller = None
            if kinds is None:
                controller = Controller(cluster, view, scales=drains, leads=False, platform_namespace=namespace)
                await stack.enter_async_context(controller)
            for task in (*view.tasks, *(controller.tasks if controller is not None else ())):
                task.add_done_callback(part_ended)
            log.info("functions run on the cluster at %s", cluster.url)
            yield cls(cluster, orchestrator, controller, drains, namespace, part_ended)

    @contextlib.asynccontextmanager
    async def leading(self, *lead: Callable[[bool], None]) -> AsyncIterator[None]:
        """Take part in the election; who is elected carries out what is deployed, and is told so by `lead`, as those are that
        decide how many pods there are and how rollouts go on."""

        def changed(leads: bool) -> None:
            self.lead(leads)
            for part in lead:
                part(leads)

        async with self.leadership(changed) as leadership:
            leadership.task.add_done_callback(self._part_ended)
            yield

    def leadership(
        self,
        changed: Callable[[bool], None],
        *,
        notes: Callable[[], Mapping[str, str]] = dict,
        other: Callable[[], None] = lambda: None,
    ) -> Leadership:
        """Return a part in the election: see `Leadership`."""
        identity = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        return Leadership(self._cluster, self._namespace, identity, changed, notes=notes, other=other)

    def trace(self, sink: SpanSink | None) -> None:
        """Hand in spans of what the controller does there."""
        if self._controller is not None and sink is not None:
            self._controller.trace(sink.add)

    def lead(self, leads: bool) -> None:
        """Begin or cease to carry out what is deployed."""
        if self._controller is not None:
            self._controller.lead(leads)
        if leads:
            self._drains.recover(CONTROLLER)
        else:
            self._drains.cease()

    async def gone(self, pods: Collection[str]) -> Collection[str]:
        """Return those of the platform's pods that are no more. Raises OSError when the API server does not say."""
        try:
            found, _ = await self._cluster.listed(PODS, self._namespace)
        except ApiError as error:
            raise OSError(error.message) from None
        live = {p["metadata"]["name"] for p in found if p.get("status", {}).get("phase") not in ("Failed", "Succeeded")}
        return set(pods) - live

    def look(self) -> HolderLook:
        """Return a look at the election from outside."""
        return HolderLook(self._cluster, self._namespace)


@contextlib.contextmanager
def held_place() -> Iterator[str]:
    """Hold the place that the pod is, and give its name; empty where there is none: outside of a pod that says its name, or
    where another process holds it.

    A host's name is no place: pods on the host's network, and containers that are called alike, have it in common. The pod's
    is held by an abstract socket, which ends with the process however it ends: containers of a pod share the network in which
    that is.
    """
    pod = os.environ.get(POD_VARIABLE, "")
    with socket.socket(socket.AF_UNIX) as held:
        try:
            if pod:
                held.bind(f"\0pinnace-edge-{pod}")
        except OSError:
            log.warning("another edge says that it is pod %s: where this one is stays untold", pod)
            pod = ""
        yield pod


def _own_namespace() -> str:
    """Return the namespace of the pod that this process runs in; empty outside of a cluster."""
    try:
        return _OWN_NAMESPACE.read_text().strip()
    except OSError:
        return ""
