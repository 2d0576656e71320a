"""What the `Function` resource says about pods and has no word in OpenFaaS's API: `spec.pod`."""

from __future__ import annotations

import enum
from typing import Annotated, Any, ClassVar

from msgspec import Meta, field

from orchestration.kubernetes.schema import Name, Part, Path, Rule, ShortName, free, listed


class PullPolicy(enum.StrEnum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class Toleration(Part, frozen=True, kw_only=True):
    """As in the pod API."""

    key: Annotated[str, Meta(max_length=317)] | None = None
    operator: Annotated[str, Meta(extra_json_schema={"enum": ["Exists", "Equal"]})] | None = None
    value: Annotated[str, Meta(max_length=63)] | None = None
    effect: Annotated[str, Meta(extra_json_schema={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]})] | None = None
    toleration_seconds: int | None = None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("!has(self.operator) || self.operator != 'Exists' || !has(self.value)", "operator Exists takes no value"),
        Rule("has(self.key) || (has(self.operator) && self.operator == 'Exists')", "without a key the operator must be Exists"),
    )


class Volume(Part, frozen=True, kw_only=True):
    """A folder in the container, from exactly one source."""

    name: ShortName
    mount_path: Annotated[Path, Meta(description="Where it appears.")]
    read_only: Annotated[bool, Meta(description="Whether it can only be read.")] = False
    empty_dir: Annotated[dict[str, Any], free("An empty folder that lives as long as the pod.")] | None = None
    config_map: Annotated[dict[str, Any], free("A ConfigMap's keys as files.")] | None = None
    secret: Annotated[dict[str, Any], free("A Secret's keys as files.")] | None = None
    persistent_volume_claim: Annotated[dict[str, Any], free("A PersistentVolumeClaim.")] | None = None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.emptyDir), has(self.configMap), has(self.secret), has(self.persistentVolumeClaim)]"
            ".filter(x, x).size() == 1",
            "exactly one of emptyDir, configMap, secret and persistentVolumeClaim",
        ),
        Rule(
            "self.mountPath != '/tmp' && !self.mountPath.startsWith('/var/openfaas/secrets')",
            "the platform's own folders are not for volumes",
        ),
    )


class Probe(Part, frozen=True, kw_only=True):
    """How the kubelet asks a pod how it is. The platform asks by itself, and sooner."""

    path: Annotated[Path, Meta(description="Path of the HTTP request. Absent: a TCP connection is enough.")] | None = None
    initial_delay_seconds: Annotated[int, Meta(description="Before the first one.", ge=0, le=3600)] = 0
    period_seconds: Annotated[int, Meta(description="Between two.", ge=1, le=3600)] = 10
    timeout_seconds: Annotated[int, Meta(description="For the answer.", ge=1, le=600)] = 5
    failure_threshold: Annotated[int, Meta(description="Failures in a row that count.", ge=1, le=1000)] = 3
    success_threshold: Annotated[int, Meta(description="Successes in a row that count.", ge=1, le=1000)] = 1


class ServiceAccount(Part, frozen=True, kw_only=True):
    """An account of the function's own. What it may do is for a RoleBinding to say."""

    annotations: Annotated[
        dict[str, Annotated[str, Meta(max_length=1024)]],
        Meta(description="Its annotations, such as those by which a cloud knows it.", max_length=32),
    ] = field(default_factory=dict)


class Pod(Part, frozen=True, kw_only=True):
    """What is said about the pods and has no word in OpenFaaS's API. A change makes a new revision."""

    service_account_name: Annotated[Name, Meta(description="Service account; its token is mounted only then.")] | None = None
    service_account: (
        Annotated[ServiceAccount, Meta(description="Makes a service account of the function's name, for its pods.")] | None
    ) = None
    image_pull_secrets: Annotated[
        tuple[Name, ...], listed("Secrets of type `kubernetes.io/dockerconfigjson` for private registries.", 16)
    ] = ()
    image_pull_policy: Annotated[PullPolicy, Meta(description="Default: Kubernetes's own, by the tag.")] | None = None
    node_selector: Annotated[
        dict[str, Annotated[str, Meta(max_length=63)]], Meta(description="Labels a node must have.", max_length=64)
    ] = field(default_factory=dict)
    tolerations: Annotated[tuple[Toleration, ...], Meta(description="Taints the pods tolerate.", max_length=64)] = ()
    affinity: Annotated[dict[str, Any], free("Affinity, as in the pod API.")] | None = None
    topology_spread_constraints: Annotated[
        tuple[dict[str, Any], ...],
        Meta(
            description="As in the pod API; without a `labelSelector` the revision's pods are counted.",
            max_length=16,
            extra_json_schema={"items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
        ),
    ] = ()
    priority_class_name: Annotated[Name, Meta(description="Priority class.")] | None = None
    runtime_class_name: Annotated[Name, Meta(description="Runtime class, such as gVisor's.")] | None = None
    run_as_user: Annotated[
        int, Meta(description="User and group id of the function's processes, never root's.", ge=1, le=2**31 - 1)
    ] = 12000
    volumes: Annotated[tuple[Volume, ...], listed("Further folders in the container.", 64, by="name")] = ()
    liveness: Annotated[Probe, Meta(description="Restarts a container that fails it. Default: `/_/health`.")] | None = None
    readiness: Annotated[Probe, Meta(description="Takes a pod out of the Service. Default: `/_/ready`.")] | None = None
    termination_grace_period_seconds: (
        Annotated[
            int,
            Meta(
                description="How long calls in flight may take at a stop. Default: the function's timeout and 5 s.",
                ge=3,
                le=90000,
            ),
        ]
        | None
    ) = None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("!(has(self.serviceAccount) && has(self.serviceAccountName))", "either serviceAccount or serviceAccountName"),
    )
