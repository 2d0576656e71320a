"""Writes how many pods a revision should have: one request, to the Deployment's scale."""

from __future__ import annotations

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
