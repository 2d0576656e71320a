"""Namespaces that hold functions: those with OpenFaaS's annotation `openfaas: "1"`, and the default one."""

from __future__ import annotations

from typing import Final

from orchestration.kubernetes.api import NAMESPACES
from orchestration.kubernetes.client import Cluster
from orchestration.kubernetes.names import GATEWAY, NAMESPACE_ANNOTATION, RESERVED
from orchestration.kubernetes.refusals import refusals
from orchestration.kubernetes.resource import Manifest
from orchestration.kubernetes.view import View
from orchestration.names import DEFAULT_NAMESPACE, check_namespace
from orchestration.orchestrator import Namespace, NotFound, Refused

_THEIRS: Final = ("kubernetes.io/", "pod-security.kubernetes.io/")
SECURITY: Final = {"pod-security.kubernetes.io/enforce": "restricted"}
"""A namespace made here takes only pods that keep to Kubernetes's restricted standard."""


class Namespaces:
    def __init__(self, cluster: Cluster, view: View) -> None:
        self._cluster = cluster
        self._view = view

    def all(self) -> list[Namespace]:
        return [_namespace(document) for document in self._view.namespaces()]

    def check(self, name: str) -> None:
        """Raises NotFound."""
        if not any(document["metadata"]["name"] == name for document in self._view.namespaces()):
            raise NotFound(f"there is no namespace {name!r}")

    async def create(self, namespace: Namespace) -> None:
        """Raises AlreadyExists, Refused, names.InvalidName."""
        name = check_namespace(namespace.name)
        if name.startswith(RESERVED):
            raise Refused(f"namespace {name!r} is the cluster's own")
        document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name} | _metadata(namespace)}
        with refusals(f"namespace {name!r}"):
            self._view.feed(NAMESPACES, await self._cluster.create(NAMESPACES, document, manager=GATEWAY))

    async def update(self, namespace: Namespace) -> None:
        """Replace labels and annotations. Raises NotFound."""
        self.check(namespace.name)
        held = self._view.held(NAMESPACES, "", namespace.name)
        if held is None:
            raise NotFound(f"there is no namespace {namespace.name!r} in the cluster yet")
        before, now = _namespace(held), _metadata(namespace)
        change: Manifest = {
            "labels": dict.fromkeys(before.labels) | now["labels"],
            "annotations": dict.fromkeys(before.annotations) | now["annotations"],
        }
        with refusals(f"namespace {namespace.name!r}"):
            merged = await self._cluster.merge(NAMESPACES, "", namespace.name, {"metadata": change}, manager=GATEWAY)
        self._view.feed(NAMESPACES, merged)

    async def delete(self, name: str) -> None:
        """Raises NotFound, Refused for the default one or while it holds functions."""
        self.check(name)
        if name == DEFAULT_NAMESPACE:
            raise Refused(f"namespace {name!r} is the default one and stays")
        if held := sorted(function.name for function in self._view.ids() if function.namespace == name):
            raise Refused(f"namespace {name!r} holds functions: {', '.join(held[:10])}; remove them first")
        with refusals(f"namespace {name!r}"):
            await self._cluster.delete(NAMESPACES, "", name)
        self._view.drop(NAMESPACES, "", name)


def _namespace(document: Manifest) -> Namespace:
    metadata = document["metadata"]
    return Namespace(metadata["name"], _own(metadata.get("labels")), _own(metadata.get("annotations")))


def _own(given: dict[str, str] | None) -> dict[str, str]:
    """Return the labels or annotations that are the user's: not Kubernetes's and not the mark."""
    return {k: v for k, v in (given or {}).items() if k != NAMESPACE_ANNOTATION and not k.startswith(_THEIRS)}


def _metadata(namespace: Namespace) -> Manifest:
    return {
        "labels": SECURITY | dict(namespace.labels),
        "annotations": dict(namespace.annotations) | {NAMESPACE_ANNOTATION: "1"},
    }
