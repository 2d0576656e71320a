"""From a function to the objects that run it, by tables."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration.kubernetes.drift import says
from orchestration.kubernetes.pod import pod_labels
from orchestration.kubernetes.record import Record, content_of, controller_revision, domain_spec, function_manifest, read_record
from orchestration.kubernetes.render import render, service_name
from orchestration.kubernetes.resource import FunctionResource, Manifest, read
from orchestration.revision import make_revision
from orchestration.settings import InvalidSetting


def function(name: str = "hello", **spec: Any) -> FunctionResource:
    metadata = {"name": name, "namespace": "team", "uid": "u-1", "generation": 1}
    return read({"metadata": metadata, "spec": {"image": "registry.test/app:1"} | spec})


def record(resource: FunctionResource) -> Record:
    content = content_of(resource.spec)
    return Record(revision=make_revision(domain_spec(resource), content.identity, 1, 0.0), content=content)


def rendered(resource: FunctionResource) -> dict[str, Manifest]:
    return {manifest["kind"]: manifest for manifest in render(resource, [record(resource)])}


def pod(**spec: Any) -> Manifest:
    found: Manifest = rendered(function(**spec))["Deployment"]["spec"]["template"]["spec"]
    return found


def container(**spec: Any) -> Manifest:
    found: Manifest = pod(**spec)["containers"][0]
    return found


def env(**spec: Any) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container(**spec)["env"]}


def test_each_revision_has_a_deployment_and_a_service_that_the_function_owns() -> None:
    found = rendered(function())
    assert set(found) == {"Deployment", "Service"}
    for manifest in found.values():
        assert manifest["metadata"]["name"] == "hello-00001"
        assert manifest["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == found["Service"]["spec"]["selector"]


def test_how_many_replicas_is_nobodys_but_the_autoscalers() -> None:
    assert "replicas" not in rendered(function(replicas=3))["Deployment"]["spec"]


def test_a_pod_keeps_to_the_restricted_standard() -> None:
    spec, one = pod(), container()
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def test_it_is_told_what_the_replica_contract_promises() -> None:
    told = env(env={"A": "1", "PORT": "99"}, envProcess="cat", annotations={"com.pinnace.timeout": "90s"})
    assert told["A"] == "1"
    assert told["PORT"] == "8080", "the platform's word stands"
    assert (told["fprocess"], told["exec_timeout"], told["max_inflight"]) == ("cat", "90s", "100")
    assert (told["K_SERVICE"], told["K_REVISION"], told["OPENFAAS_NAMESPACE"]) == ("hello", "hello-00001", "team")


@pytest.mark.parametrize(
    ("image", "digest", "run"),
    [
        ("app:1", None, "app:1"),
        ("app:1", "sha256:" + "a" * 64, "app:1@sha256:" + "a" * 64),
        ("app@sha256:" + "b" * 64, "sha256:" + "a" * 64, "app@sha256:" + "b" * 64),
    ],
)
def test_a_known_digest_is_what_runs(image: str, digest: str | None, run: str) -> None:
    spec = {"image": image} | ({"digest": digest} if digest else {})
    assert container(**spec)["image"] == run


PODS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "constraints": ({"constraints": ["zone=a", "disk == ssd"]}, "nodeSelector", {"zone": "a", "disk": "ssd"}),
    "selector": ({"pod": {"nodeSelector": {"a": "b"}}, "constraints": ["c=d"]}, "nodeSelector", {"a": "b", "c": "d"}),
    "tolerations": (
        {"pod": {"tolerations": [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 5}]}},
        "tolerations",
        [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 5}],
    ),
    "affinity": ({"pod": {"affinity": {"nodeAffinity": {}}}}, "affinity", {"nodeAffinity": {}}),
    "spread": (
        {"pod": {"topologySpreadConstraints": [{"topologyKey": "zone"}]}},
        "topologySpreadConstraints",
        [{"labelSelector": {"matchLabels": {"pinnace.dev/revision": "hello-00001"}}, "topologyKey": "zone"}],
    ),
    "priority": ({"pod": {"priorityClassName": "high"}}, "priorityClassName", "high"),
    "runtime class": ({"pod": {"runtimeClassName": "gvisor"}}, "runtimeClassName", "gvisor"),
    "pull secrets": ({"pod": {"imagePullSecrets": ["hub"]}}, "imagePullSecrets", [{"name": "hub"}]),
    "service account": ({"pod": {"serviceAccountName": "reader"}}, "serviceAccountName", "reader"),
    "its token": ({"pod": {"serviceAccountName": "reader"}}, "automountServiceAccountToken", True),
    "OpenFaaS's account": ({"annotations": {"com.openfaas.serviceaccount": "r"}}, "serviceAccountName", "r"),
    "grace": ({"annotations": {"com.pinnace.timeout": "90s"}}, "terminationGracePeriodSeconds", 95),
    "own grace": ({"pod": {"terminationGracePeriodSeconds": 7}}, "terminationGracePeriodSeconds", 7),
}


@pytest.mark.parametrize("case", PODS)
def test_settings_of_the_pod(case: str) -> None:
    spec, field, wanted = PODS[case]
    assert pod(**spec)[field] == wanted


PROBES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "default ready": ({}, "readinessProbe", {"httpGet": {"path": "/_/ready", "port": 8080}, "periodSeconds": 1}),
    "default alive": ({}, "livenessProbe", {"httpGet": {"path": "/_/health", "port": 8080}, "periodSeconds": 10}),
    "own": (
        {"pod": {"readiness": {"path": "/up", "periodSeconds": 3, "successThreshold": 2}}},
        "readinessProbe",
        {"httpGet": {"path": "/up", "port": 8080}, "periodSeconds": 3, "successThreshold": 2},
    ),
    "TCP": ({"pod": {"readiness": {}}}, "readinessProbe", {"tcpSocket": {"port": 8080}}),
    "OpenFaaS's": (
        {"annotations": {"com.openfaas.ready.http.path": "/r", "com.openfaas.ready.http.initialDelaySeconds": "2s"}},
        "readinessProbe",
        {"httpGet": {"path": "/r", "port": 8080}, "initialDelaySeconds": 2, "periodSeconds": 1},
    ),
}


@pytest.mark.parametrize("case", PROBES)
def test_probes(case: str) -> None:
    spec, field, wanted = PROBES[case]
    probe = container(**spec)[field]
    assert {key: probe[key] for key in wanted} == wanted


def test_a_probe_annotation_without_sense_is_refused_by_name() -> None:
    with pytest.raises(InvalidSetting, match="periodSeconds"):
        pod(annotations={"com.openfaas.ready.http.periodSeconds": "often"})


def test_secrets_are_files_in_one_folder() -> None:
    found = pod(secrets=["b", "a"])
    assert {"name": "secrets", "mountPath": "/var/openfaas/secrets", "readOnly": True} in found["containers"][0]["volumeMounts"]
    (volume,) = [v for v in found["volumes"] if v["name"] == "secrets"]
    assert volume["projected"]["sources"] == [{"secret": {"name": "a"}}, {"secret": {"name": "b"}}]


def test_volumes_have_names_of_their_own() -> None:
    found = pod(pod={"volumes": [{"name": "tmp", "mountPath": "/data", "emptyDir": {}, "readOnly": True}]})
    assert {"name": "volume-tmp", "emptyDir": {}} in found["volumes"]
    assert {"name": "volume-tmp", "mountPath": "/data", "readOnly": True} in found["containers"][0]["volumeMounts"]


def test_resources_of_every_kind_pass() -> None:
    found = container(limits={"cpu": 2, "memory": "1Gi", "nvidia.com/gpu": 1}, requests={"cpu": "500m"})["resources"]
    assert found == {"limits": {"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": "1"}, "requests": {"cpu": "500m"}}


def test_labels_that_kubernetes_would_not_take_stay_off_the_pods() -> None:
    labels = {"team": "a", "sentence": "two words", "com.openfaas.scale.min": "1", "pinnace.dev/function": "other"}
    found = pod_labels(record(function(labels=labels)).revision)
    assert found["team"] == "a"
    assert "sentence" not in found and "com.openfaas.scale.min" not in found
    assert found["pinnace.dev/function"] == "hello"


def test_policies_where_they_are_asked_for() -> None:
    found = rendered(function(network="PlatformOnly", minAvailable="50%"))
    source = found["NetworkPolicy"]["spec"]["ingress"][0]["from"][0]
    assert source["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "pinnace"}
    assert found["PodDisruptionBudget"]["spec"]["minAvailable"] == "50%"


def test_a_service_begins_with_a_letter() -> None:
    assert (service_name("hello-00001"), service_name("2fa-00001")) == ("hello-00001", "fn-2fa-00001")


def test_what_changes_the_pods_changes_the_identity() -> None:
    plain = record(function()).revision.identity
    changes: list[dict[str, Any]] = [
        {"image": "other"},
        {"digest": "sha256:" + "a" * 64},
        {"restartedAt": "2026-01-01T00:00:00Z"},
        {"pod": {"priorityClassName": "high"}},
        {"limits": {"nvidia.com/gpu": 1}},
        {"constraints": ["a=b"]},
    ]
    assert all(record(function(**spec)).revision.identity != plain for spec in changes)
    settings: list[dict[str, Any]] = [{"replicas": 3}, {"minAvailable": 1}, {"labels": {"com.openfaas.scale.max": "3"}}]
    assert all(record(function(**spec)).revision.identity == plain for spec in settings)


def test_a_revision_reads_back_from_what_keeps_it() -> None:
    resource = function(env={"A": "1"}, secrets=["k"], pod={"volumes": [{"name": "v", "mountPath": "/v", "emptyDir": {}}]})
    kept = record(resource)
    assert read_record(controller_revision(resource.metadata, kept)) == kept


def test_a_deploy_reads_back_from_its_function() -> None:
    sent = domain_spec(function(env={}, limits={"memory": "1Mi"}, constraints=["a=b"], secrets=["s"], labels={"l": "1"}))
    manifest = function_manifest(sent)
    manifest["metadata"]["uid"] = "u-2"
    assert domain_spec(read(manifest)) == sent


DRIFT: dict[str, tuple[Any, Any, bool]] = {
    "the same": ({"a": 1, "b": {"c": "d"}}, {"a": 1, "b": {"c": "d"}}, True),
    "more there": ({"a": 1, "extra": 2}, {"a": 1}, True),
    "changed": ({"a": 2}, {"a": 1}, False),
    "gone": ({}, {"a": 1}, False),
    "false is absent": ({}, {"a": False, "b": 0, "c": ""}, True),
    "empty is absent": ({}, {"a": {}}, True),
    "quantities": ({"limits": {"cpu": "1", "memory": "1Gi"}}, {"limits": {"cpu": "1000m", "memory": "1024Mi"}}, True),
    "other quantities": ({"limits": {"cpu": "1"}}, {"limits": {"cpu": "2"}}, False),
    "a sidecar beside": ({"cs": [{"name": "x"}, {"name": "f", "i": 1}]}, {"cs": [{"name": "f", "i": 1}]}, True),
    "a container changed": ({"cs": [{"name": "f", "i": 2}]}, {"cs": [{"name": "f", "i": 1}]}, False),
    "a plain list is whole": ({"l": ["a", "b"]}, {"l": ["a"]}, False),
}


@pytest.mark.parametrize("case", DRIFT)
def test_drift(case: str) -> None:
    live, wanted, same = DRIFT[case]
    assert says({"metadata": {}, "spec": live}, {"metadata": {}, "spec": wanted}) is same
