"""The definition of the Function resource, by the word of a real API server."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration.kubernetes.api import FUNCTIONS, Invalid
from orchestration.kubernetes.crd import custom_resource_definition
from orchestration.kubernetes.resource import Spec, read
from tests.orchestration.kubernetes.world import World

pytestmark = pytest.mark.real_api_server


def test_the_schema_names_every_field_of_the_spec_and_describes_it() -> None:
    schema = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    properties = schema["properties"]["spec"]["properties"]
    assert set(properties) == set(Spec.__struct_encode_fields__)
    assert all(found.get("description") for found in properties.values())


async def test_defaults_are_filled_in(world: World) -> None:
    made = await world.cluster.create(FUNCTIONS, world.function("plain", pod={}), manager="test")
    assert made["spec"]["readOnlyRootFilesystem"] is True
    assert made["spec"]["network"] == "Open"
    assert made["spec"]["pod"]["runAsUser"] == 12000
    assert read(made).spec.pod.run_as_user == 12000


async def test_a_whole_spec_is_taken_and_read_back(world: World) -> None:
    spec: dict[str, Any] = {
        "replicas": 3,
        "env": {"A": "1", "b.c-d": ""},
        "secrets": ["key"],
        "labels": {"com.openfaas.scale.min": "1", "com.openfaas.scale.max": "5"},
        "constraints": ["zone=a", "disk == ssd"],
        "limits": {"cpu": 2, "memory": "1Gi", "nvidia.com/gpu": 1},
        "requests": {"cpu": "500m", "memory": "128Mi"},
        "network": "PlatformOnly",
        "minAvailable": "50%",
        "pod": {
            "serviceAccountName": "reader",
            "imagePullSecrets": ["hub"],
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {"nodeAffinity": {"anything": {"goes": 1}}},
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
            "volumes": [{"name": "data", "mountPath": "/data", "persistentVolumeClaim": {"claimName": "big"}}],
            "readiness": {"path": "/ready", "periodSeconds": 2},
        },
    }
    made = await world.cluster.create(FUNCTIONS, world.function("whole", **spec), manager="test")
    function = read(made)
    assert function.spec.limits == {"cpu": 2, "memory": "1Gi", "nvidia.com/gpu": 1}
    assert function.spec.pod.affinity == {"nodeAffinity": {"anything": {"goes": 1}}}
    assert function.spec.pod.volumes[0].persistent_volume_claim == {"claimName": "big"}


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "no image": ("app", {"image": None}, "spec.image"),
    "image with a space": ("app", {"image": "a b"}, "spec.image"),
    "digest cut short": ("app", {"digest": "sha256:12"}, "spec.digest"),
    "name too long": ("a" * 51, {}, "at most 50 characters"),
    "name with a tag": ("a--b", {}, "separates a tag"),
    "name with a dot": ("a.b", {}, "no '.'"),
    "traffic that is not all": ("app", {"traffic": [{"latest": True, "percent": 99}]}, "must come to 100"),
    "traffic without end": ("app", {"traffic": [{"latest": True, "tag": f"t{n}"} for n in range(65)]}, "at most 64"),
    "traffic to nothing": ("app", {"traffic": [{"percent": 100}]}, "exactly one of revision and latest"),
    "traffic to two": ("app", {"traffic": [{"percent": 100, "latest": True, "revision": "a"}]}, "exactly one of revision"),
    "a tag twice": (
        "app",
        {"traffic": [{"latest": True, "percent": 100, "tag": "x"}, {"revision": "a", "tag": "x"}]},
        "a tag addresses one",
    ),
    "a tag with '--'": ("app", {"traffic": [{"latest": True, "percent": 100, "tag": "a--b"}]}, "no '--'"),
    "no traffic at all": ("app", {"traffic": []}, "spec.traffic"),
    "replicas below zero": ("app", {"replicas": -1}, "greater than or equal to 0"),
    "too many replicas": ("app", {"replicas": 10_001}, "less than or equal to 10000"),
    "replicas in words": ("app", {"replicas": "many"}, "spec.replicas"),
    "variable with a digit first": ("app", {"env": {"1A": "x"}}, "do not begin with a digit"),
    "variable with '='": ("app", {"env": {"A=B": "x"}}, "names of variables"),
    "secret twice": ("app", {"secrets": ["a", "a"]}, "Duplicate"),
    "secret with a slash": ("app", {"secrets": ["a/b"]}, "spec.secrets[0]"),
    "memory without sense": ("app", {"limits": {"memory": "lots"}}, "spec.limits.memory"),
    "requests above limits": (
        "app",
        {"limits": {"memory": "64Mi"}, "requests": {"memory": "128Mi"}},
        "requests may not be above limits",
    ),
    "cpu request above an integer limit": ("app", {"limits": {"cpu": 1}, "requests": {"cpu": "1500m"}}, "may not be above"),
    "min above max": (
        "app",
        {"labels": {"com.openfaas.scale.min": "5", "com.openfaas.scale.max": "2"}},
        "scale.min is above",
    ),
    "constraint without '='": ("app", {"constraints": ["ssd"]}, "spec.constraints[0]"),
    "network of no kind": ("app", {"network": "Closed"}, "spec.network"),
    "budget above all": ("app", {"minAvailable": "150%"}, "spec.minAvailable"),
    "volume without a source": ("app", {"pod": {"volumes": [{"name": "v", "mountPath": "/v"}]}}, "exactly one of"),
    "volume with two": (
        "app",
        {"pod": {"volumes": [{"name": "v", "mountPath": "/v", "emptyDir": {}, "secret": {}}]}},
        "exactly one of",
    ),
    "volume over /tmp": ("app", {"pod": {"volumes": [{"name": "v", "mountPath": "/tmp", "emptyDir": {}}]}}, "own folders"),
    "two volumes of a name": (
        "app",
        {"pod": {"volumes": [{"name": "v", "mountPath": f"/{n}", "emptyDir": {}} for n in "ab"]}},
        "Duplicate",
    ),
    "toleration with a value for Exists": (
        "app",
        {"pod": {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}},
        "takes no value",
    ),
    "root": ("app", {"pod": {"runAsUser": 0}}, "spec.pod.runAsUser"),
    "probe too often": ("app", {"pod": {"readiness": {"path": "/", "periodSeconds": 0}}}, "periodSeconds"),
    "two accounts": ("app", {"pod": {"serviceAccount": {}, "serviceAccountName": "a"}}, "either serviceAccount or"),
    "unknown policy": ("app", {"pod": {"imagePullPolicy": "Sometimes"}}, "imagePullPolicy"),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_cannot_be_is_refused_with_the_reason(world: World, case: str) -> None:
    name, spec, told = BAD[case]
    with pytest.raises(Invalid) as refused:
        await world.cluster.create(FUNCTIONS, world.function(name, **spec), manager="test")
    assert told in refused.value.message


async def test_the_scale_subresource_pins(world: World) -> None:
    await world.kubectl_apply("scaled")
    change = {"spec": {"replicas": 4}}
    await world.cluster.merge(FUNCTIONS, world.namespace, "scaled", change, manager="kubectl", part="scale")
    assert (await world.cluster.get(FUNCTIONS, world.namespace, "scaled"))["spec"]["replicas"] == 4
