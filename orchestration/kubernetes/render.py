"""`render`: from a function and its live revisions to the objects that run it. Pure.

| object | for each | when |
|---|---|---|
| Deployment, headless Service | live revision | always |
| ServiceAccount | function | a live revision has `pod.serviceAccount` |
| NetworkPolicy | function | `network: PlatformOnly` |
| PodDisruptionBudget | function | `minAvailable` is set |

No Deployment says how many replicas: that is the autoscaler's field.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from orchestration.kubernetes.names import (
    FUNCTION_LABEL,
    MANAGED_BY,
    PINNACE,
    PORT,
    REVISION_LABEL,
    SECRETS_ANNOTATION,
)
from orchestration.kubernetes.pod import annotations_of, pod_labels, pod_spec
from orchestration.kubernetes.pod_spec import ServiceAccount
from orchestration.kubernetes.record import Record
from orchestration.kubernetes.resource import FunctionResource, Manifest, Network, owner

PLATFORM_NAMESPACE: Final = "pinnace"
PLATFORM_LABEL: Final = "app.kubernetes.io/name"


def render(
    function: FunctionResource, live: Sequence[Record], *, platform_namespace: str = PLATFORM_NAMESPACE
) -> list[Manifest]:
    """Return all objects that should be there for a function with the `live` revisions. Raises InvalidSetting."""
    found = []
    for record in live:
        found += [deployment(function, record), service(function, record)]
    for record in reversed(live):
        if (account := record.content.pod.service_account) is not None:
            found.append(_service_account(function, record.revision.name, account))
            break
    if function.spec.network is Network.PLATFORM_ONLY:
        found.append(_network_policy(function, platform_namespace))
    if function.spec.min_available is not None:
        found.append(_disruption_budget(function, function.spec.min_available))
    return found


def service_name(revision: str) -> str:
    """Return the name of a revision's Service, which unlike a function's begins with a letter (RFC 1035)."""
    return revision if revision[0].isalpha() else f"fn-{revision}"


def deployment(function: FunctionResource, record: Record) -> Manifest:
    """Return the Deployment of a revision."""
    revision = record.revision
    selector = {FUNCTION_LABEL: revision.function, REVISION_LABEL: revision.name}
    annotations = annotations_of(revision)
    if (updated := function.metadata.annotations.get(SECRETS_ANNOTATION)) and revision.secrets:
        annotations |= {SECRETS_ANNOTATION: updated}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(function, revision.name, pod_labels(revision)),
        "spec": {
            "selector": {"matchLabels": selector},
            "revisionHistoryLimit": 0,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
            "template": {"metadata": {"labels": pod_labels(revision), "annotations": annotations}, "spec": pod_spec(record)},
        },
    }


def service(function: FunctionResource, record: Record) -> Manifest:
    """Return the headless Service of a revision: its name stands for the addresses of its ready pods."""
    revision = record.revision
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(function, service_name(revision.name), pod_labels(revision)),
        "spec": {
            "clusterIP": "None",
            "ipFamilyPolicy": "PreferDualStack",
            "selector": {FUNCTION_LABEL: revision.function, REVISION_LABEL: revision.name},
            "ports": [{"name": "http", "port": PORT, "targetPort": PORT, "protocol": "TCP", "appProtocol": "http"}],
        },
    }


def _service_account(function: FunctionResource, revision: str, account: ServiceAccount) -> Manifest:
    """Return the account as the newest of the live revisions that have one wants it; its label says which that is."""
    metadata = _metadata(function, function.metadata.name, _labels(function) | {REVISION_LABEL: revision})
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata | ({"annotations": dict(account.annotations)} if account.annotations else {}),
        "automountServiceAccountToken": False,  # the function's pods say that they want it
    }


def _network_policy(function: FunctionResource, platform_namespace: str) -> Manifest:
    platform = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": platform_namespace}},
        "podSelector": {"matchLabels": {PLATFORM_LABEL: PINNACE}},
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(function, function.metadata.name, _labels(function)),
        "spec": {
            "podSelector": {"matchLabels": {FUNCTION_LABEL: function.metadata.name}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [platform], "ports": [{"port": PORT, "protocol": "TCP"}]}],
        },
    }


def _disruption_budget(function: FunctionResource, least: str | int) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(function, function.metadata.name, _labels(function)),
        "spec": {"minAvailable": least, "selector": {"matchLabels": {FUNCTION_LABEL: function.metadata.name}}},
    }


def _labels(function: FunctionResource) -> dict[str, str]:
    return {FUNCTION_LABEL: function.metadata.name, MANAGED_BY: PINNACE}


def _metadata(function: FunctionResource, name: str, labels: dict[str, str]) -> Manifest:
    return {
        "name": name,
        "namespace": function.metadata.namespace,
        "labels": labels,
        "ownerReferences": [owner(function.metadata)],
    }
