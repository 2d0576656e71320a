"""Writes how many pods a revision should have: one request, to the Deployment's scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchestration.kubernetes.api import DEPLOYMENTS
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.resource import Manifest
from orchestration.kubernetes.view import View


async def write_scale(cluster: Cluster, view: View, namespace: str, revision: str, count: int, *, manager: str) -> None:
    """Want `count` pods of a revision; the view knows at once. Raises Missing, ApiError."""
    change = {"spec": {"replicas": count}}
    scale = await cluster.merge(DEPLOYMENTS, namespace, revision, change, manager=manager, part="scale", urgent=True)
    held = view.held(DEPLOYMENTS, namespace, revision)
    if held is not None:
        version = scale["metadata"]["resourceVersion"]
        known: Manifest = held | {
            "metadata": held["metadata"] | {"resourceVersion": version},
            "spec": held["spec"] | {"replicas": scale["spec"].get("replicas", 0)},
        }
        view.feed(DEPLOYMENTS, known)


class Scales(Protocol):
    """Who writes counts: at once, or after a drain (`drains`)."""

    def wanted(self, namespace: str, revision: str) -> int | None:
        """Return how many pods are wanted of a revision; None: it has no Deployment."""

    async def scale(self, namespace: str, revision: str, count: int, *, victims: Sequence[str] = (), manager: str) -> None:
        """Want `count` pods of a revision that has a Deployment; of fewer, `victims` go first. Raises Missing, ApiError."""

    def released(self, replica: str) -> None:
        """No edge has a call at a replica that drains."""


class AtOnce:
    """Where nobody calls pods: those that go are not waited for, and which they are is Kubernetes's choice."""

    def __init__(self, cluster: Cluster, view: View) -> None:
        self._cluster = cluster
        self._view = view

    def wanted(self, namespace: str, revision: str) -> int | None:
        """Return what the Deployment says."""
        return self._view.wanted(namespace, revision)

    async def scale(self, namespace: str, revision: str, count: int, *, victims: Sequence[str] = (), manager: str) -> None:
        """Write it, if it is not so."""
        if self.wanted(namespace, revision) != count:
            await write_scale(self._cluster, self._view, namespace, revision, count, manager=manager)

    def released(self, replica: str) -> None:
        """Nobody waits for that."""
