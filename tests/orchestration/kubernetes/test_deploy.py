"""What `deploy/kubernetes` installs: the definition as the code has it, and rights that are exactly those that are used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestration.kubernetes.api import (
    NAMESPACES,
    PODS,
    Forbidden,
    Kind,
)
from orchestration.kubernetes.crd import custom_resource_definition
from tests.orchestration.kubernetes.chart import VARIANTS, plain
from tests.orchestration.kubernetes.reference import PAGE, page
from tests.orchestration.kubernetes.world import World

DEPLOY = Path(__file__).parents[3] / "deploy" / "kubernetes"
RBAC = "rbac.authorization.k8s.io/v1"
ROLES = Kind(RBAC, "clusterroles", "ClusterRole")
BINDINGS = Kind(RBAC, "clusterrolebindings", "ClusterRoleBinding")
LOCAL_BINDINGS = Kind(RBAC, "rolebindings", "RoleBinding")
REVIEWS = Kind("authorization.k8s.io/v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview")


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def test_the_definition_is_the_codes_own() -> None:
    (found,) = manifests("crd.yaml")
    assert found == custom_resource_definition(), "write it anew: python -m tests.orchestration.kubernetes.reference"


@pytest.mark.parametrize("folder", VARIANTS, ids=lambda folder: folder.name)
def test_all_files_are_in_the_kustomization(folder: Path) -> None:
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    others = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == others


@pytest.mark.real_api_server
async def test_the_platforms_pods_keep_to_the_restricted_standard(world: World) -> None:
    (name,) = [m for m in manifests("namespace.yaml") if m["kind"] == "Namespace"]
    labels = {"metadata": {"labels": name["metadata"]["labels"]}}
    await world.cluster.merge(NAMESPACES, "", world.namespace, labels, manager="test")
    deployments = [m for folder in VARIANTS for m in plain(folder) if m["kind"] == "Deployment"]
    assert [m["metadata"]["name"] for m in deployments] == ["gateway", "edge", "control", "controller"]
    for deployment in deployments:
        template = deployment["spec"]["template"]
        metadata = template["metadata"] | {"name": deployment["metadata"]["name"], "namespace": world.namespace}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        await world.cluster.create(PODS, pod, manager="test")
        pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = False
        del pod["spec"]["securityContext"]["runAsNonRoot"]
        with pytest.raises(Forbidden, match="PodSecurity"):
            await world.cluster.create(PODS, pod, manager="test")


def test_the_page_has_every_field() -> None:
    assert page(PAGE.read_text()) == PAGE.read_text(), "write it anew: python -m tests.orchestration.kubernetes.reference"
