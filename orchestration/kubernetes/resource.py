"""The `Function` resource: one description from which come its schema, its documentation, and what the code reads.

`Spec` says what a function is, `Status` what is true of it. Texts, bounds and CEL rules stand at the fields; `crd` makes the
schema from them. Objects are read here after the API server has checked them and filled in defaults.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from orchestration.kubernetes.names import API_VERSION, KIND
from orchestration.scaling import HIGHEST_REPLICAS
from orchestration.traffic import MOST_TARGETS, TAG_LIMIT

Manifest = dict[str, Any]
"""A Kubernetes object as JSON has it."""


class Rule(msgspec.Struct, frozen=True):
    """A CEL expression that must hold, and what people are told when it does not."""

    rule: str
    message: str


def _free(text: str) -> Meta:
    """Return the annotation of a field that holds a piece of the pod API: it is checked where the pod is made."""
    return Meta(description=text, extra_json_schema={"x-kubernetes-preserve-unknown-fields": True})


def _listed(text: str, most: int, *, by: str = "") -> Meta:
    """Return the annotation of a list without duplicates: of texts, or of objects that differ in the field `by`."""
    kind = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [by]} if by else {"x-kubernetes-list-type": "set"}
    return Meta(description=text, max_length=most, extra_json_schema=kind)


Quantity = Annotated[
    str | int,
    Meta(
        extra_json_schema={
            "x-kubernetes-int-or-string": True,
            "maxLength": 32,
            "pattern": r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)(m|[kMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$",
        }
    ),
]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)]
ShortName = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)]
Text = Annotated[str, Meta(max_length=32768)]
Path = Annotated[str, Meta(pattern=r"^/[^:]*$", max_length=1024)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    rules: ClassVar[tuple[Rule, ...]] = ()


class Network(enum.StrEnum):
    OPEN = "Open"
    PLATFORM_ONLY = "PlatformOnly"


class PullPolicy(enum.StrEnum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class Toleration(_Part, frozen=True, kw_only=True):
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


class Volume(_Part, frozen=True, kw_only=True):
    """A folder in the container, from exactly one source."""

    name: ShortName
    mount_path: Annotated[Path, Meta(description="Where it appears.")]
    read_only: Annotated[bool, Meta(description="Whether it can only be read.")] = False
    empty_dir: Annotated[dict[str, Any], _free("An empty folder that lives as long as the pod.")] | None = None
    config_map: Annotated[dict[str, Any], _free("A ConfigMap's keys as files.")] | None = None
    secret: Annotated[dict[str, Any], _free("A Secret's keys as files.")] | None = None
    persistent_volume_claim: Annotated[dict[str, Any], _free("A PersistentVolumeClaim.")] | None = None

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


class Probe(_Part, frozen=True, kw_only=True):
    """How the kubelet asks a pod how it is. The platform asks by itself, and sooner."""

    path: Annotated[Path, Meta(description="Path of the HTTP request. Absent: a TCP connection is enough.")] | None = None
    initial_delay_seconds: Annotated[int, Meta(description="Before the first one.", ge=0, le=3600)] = 0
    period_seconds: Annotated[int, Meta(description="Between two.", ge=1, le=3600)] = 10
    timeout_seconds: Annotated[int, Meta(description="For the answer.", ge=1, le=600)] = 5
    failure_threshold: Annotated[int, Meta(description="Failures in a row that count.", ge=1, le=1000)] = 3
    success_threshold: Annotated[int, Meta(description="Successes in a row that count.", ge=1, le=1000)] = 1


class ServiceAccount(_Part, frozen=True, kw_only=True):
    """An account of the function's own. What it may do is for a RoleBinding to say."""

    annotations: Annotated[
        dict[str, Annotated[str, Meta(max_length=1024)]],
        Meta(description="Its annotations, such as those by which a cloud knows it.", max_length=32),
    ] = {}


class Pod(_Part, frozen=True, kw_only=True):
    """What is said about the pods and has no word in OpenFaaS's API. A change makes a new revision."""

    service_account_name: Annotated[Name, Meta(description="Service account; its token is mounted only then.")] | None = None
    service_account: (
        Annotated[ServiceAccount, Meta(description="Makes a service account of the function's name, for its pods.")] | None
    ) = None
    image_pull_secrets: Annotated[
        tuple[Name, ...], _listed("Secrets of type `kubernetes.io/dockerconfigjson` for private registries.", 16)
    ] = ()
    image_pull_policy: Annotated[PullPolicy, Meta(description="Default: Kubernetes's own, by the tag.")] | None = None
    node_selector: Annotated[
        dict[str, Annotated[str, Meta(max_length=63)]], Meta(description="Labels a node must have.", max_length=64)
    ] = {}
    tolerations: Annotated[tuple[Toleration, ...], Meta(description="Taints the pods tolerate.", max_length=64)] = ()
    affinity: Annotated[dict[str, Any], _free("Affinity, as in the pod API.")] | None = None
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
    volumes: Annotated[tuple[Volume, ...], _listed("Further folders in the container.", 64, by="name")] = ()
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


class TrafficRequest(_Part, frozen=True, kw_only=True):
    """A share of the calls that is asked for: of one revision, or of the newest that is ready."""

    revision: Annotated[ShortName, Meta(description="A revision, by its name.")] | None = None
    latest: Annotated[bool, Meta(description="The newest revision that became ready: deploys move this share.")] = False
    percent: Annotated[
        int, Meta(description="How many of a hundred calls.", ge=0, le=100, extra_json_schema={"format": "int32"})
    ] = 0
    tag: (
        Annotated[
            str,
            Meta(
                description="Addresses the revision, whatever its share is: `/function/NAME--TAG`.",
                pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
                max_length=TAG_LIMIT,
            ),
        ]
        | None
    ) = None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.revision) != (has(self.latest) && self.latest)", "exactly one of revision and latest: true"),
        Rule("!has(self.tag) || !self.tag.contains('--')", "a tag holds no '--'"),
    )


class Spec(_Part, frozen=True, kw_only=True):
    """What a function is."""

    image: Annotated[
        str, Meta(description="Image that answers HTTP on `$PORT`.", pattern=r"^\S+$", min_length=1, max_length=1024)
    ]
    digest: (
        Annotated[
            str,
            Meta(
                description="Digest of the image. The API fills it in; the pods then run exactly that.",
                pattern="^sha256:[0-9a-f]{64}$",
                max_length=71,
            ),
        ]
        | None
    ) = None
    restarted_at: (
        Annotated[
            str,
            Meta(
                description="When it was last to be rolled out again: another time makes a new revision of the same image.",
                max_length=64,
                extra_json_schema={"format": "date-time"},
            ),
        ]
        | None
    ) = None
    replicas: (
        Annotated[
            int,
            Meta(
                description="Pins the number of replicas of all revisions together. Absent: the autoscaler decides.",
                ge=0,
                le=HIGHEST_REPLICAS,
                extra_json_schema={"format": "int32"},
            ),
        ]
        | None
    ) = None
    traffic: (
        Annotated[
            tuple[TrafficRequest, ...],
            Meta(
                description="Where calls go. Absent: all to the newest revision that is ready.",
                min_length=1,
                max_length=MOST_TARGETS,
            ),
        ]
        | None
    ) = None
    env_process: Annotated[Text, Meta(description="Command of templates that run one for each call (`fprocess`).")] | None = (
        None
    )
    env: Annotated[dict[str, Text], Meta(description="Environment variables.", max_length=512)] | None = None
    secrets: (
        Annotated[tuple[Name, ...], _listed("Secrets of the namespace, as files below `/var/openfaas/secrets`.", 64)] | None
    ) = None
    labels: Annotated[
        dict[str, Annotated[str, Meta(max_length=1024)]],
        Meta(description="Labels of the function, such as those that set its scaling.", max_length=128),
    ] = {}
    annotations: Annotated[dict[str, Text], Meta(description="Annotations of the function.", max_length=128)] = {}
    constraints: (
        Annotated[
            tuple[Annotated[str, Meta(pattern=r"^[^=\s!]+\s*==?\s*[^=\s]*$", max_length=400)], ...],
            Meta(description="Labels a node must have, as `key=value`.", max_length=32),
        ]
        | None
    ) = None
    limits: (
        Annotated[
            dict[str, Quantity], Meta(description="The most it gets: `cpu`, `memory`, `nvidia.com/gpu`, …", max_length=16)
        ]
        | None
    ) = None
    requests: Annotated[dict[str, Quantity], Meta(description="What is set aside for it.", max_length=16)] | None = None
    read_only_root_filesystem: Annotated[
        bool, Meta(description="Only `/tmp` and volumes can be written to. Functions deployed by the API say so themselves.")
    ] = True
    network: Annotated[
        Network, Meta(description="`PlatformOnly` makes a NetworkPolicy: only the platform's pods may call the function's.")
    ] = Network.OPEN
    min_available: Annotated[
        str | int | None,
        Meta(
            description="Makes a PodDisruptionBudget: how many pods, or which percentage, a drain of nodes leaves.",
            extra_json_schema={"x-kubernetes-int-or-string": True, "pattern": r"^([0-9]|[1-9][0-9]|100)%$"},
        ),
    ] = None
    pod: Annotated[Pod, Meta(description="What only Kubernetes knows of.")] = Pod()

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.limits) || !has(self.requests) || self.requests.all(k, !(k in self.limits) || "
            "quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)",
            "requests may not be above limits",
        ),
        Rule(
            "!has(self.env) || self.env.all(k, k.size() < 256 && k.matches('^[-._a-zA-Z][-._a-zA-Z0-9]*$'))",
            "names of variables hold letters, digits, '_', '-' and '.', and do not begin with a digit",
        ),
        Rule(
            "!has(self.labels) || !('com.openfaas.scale.min' in self.labels && 'com.openfaas.scale.max' in self.labels) || "
            "int(self.labels['com.openfaas.scale.min']) <= int(self.labels['com.openfaas.scale.max'])",
            "com.openfaas.scale.min is above com.openfaas.scale.max",
        ),
        Rule(
            "!has(self.traffic) || self.traffic.map(t, t.percent).sum() == 100", "the percentages of traffic must come to 100"
        ),
        Rule(
            "!has(self.traffic) || "
            "self.traffic.all(t, !has(t.tag) || self.traffic.exists_one(u, has(u.tag) && u.tag == t.tag))",
            "a tag addresses one revision",
        ),
    )


class TrafficEntry(_Part, frozen=True, kw_only=True):
    """A share of the calls."""

    revision: ShortName
    percent: Annotated[int, Meta(ge=0, le=100, extra_json_schema={"format": "int32"})]
    tag: ShortName | None = None


class Rollout(_Part, frozen=True, kw_only=True):
    """The rollout of the newest revision: of which generation it is, since when, and why it was given up, if it was."""

    revision: ShortName
    generation: Annotated[int, Meta(extra_json_schema={"format": "int64"})]
    since: Annotated[str, Meta(description="RFC 3339.", extra_json_schema={"format": "date-time"})]
    failure: Text | None = None
    aborted: Annotated[bool, Meta(description="Whether it did worse than the one before it, and is so given up.")] = False
    step: (
        Annotated[
            int, Meta(description="Of a gradual rollout: the step it is at, from 0.", extra_json_schema={"format": "int32"})
        ]
        | None
    ) = None
    percent: (
        Annotated[int, Meta(description="How much of what moves has moved.", extra_json_schema={"format": "int32"})] | None
    ) = None
    step_since: Annotated[str, Meta(description="RFC 3339.", extra_json_schema={"format": "date-time"})] | None = None


class Failed(_Part, frozen=True, kw_only=True):
    """A revision that is not the newest any more, and why it never took over."""

    revision: ShortName
    why: Text


class Condition(_Part, frozen=True, kw_only=True, omit_defaults=False):
    """As Kubernetes's conventions have it."""

    type: Annotated[str, Meta(max_length=64)]
    status: Annotated[str, Meta(extra_json_schema={"enum": ["True", "False", "Unknown"]})]
    reason: Annotated[str, Meta(max_length=128)]
    message: Text = ""
    last_transition_time: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
    observed_generation: Annotated[int, Meta(extra_json_schema={"format": "int64"})] = 0


class Status(_Part, frozen=True, kw_only=True):
    """What is true of a function. Only the controller writes it."""

    observed_generation: Annotated[
        int, Meta(description="The generation that the rest speaks of.", extra_json_schema={"format": "int64"})
    ] = 0
    replicas: Annotated[
        int, Meta(description="Pods that the serving revision should have.", extra_json_schema={"format": "int32"})
    ] = 0
    ready_replicas: Annotated[
        int, Meta(description="Pods of the serving revision that are ready.", extra_json_schema={"format": "int32"})
    ] = 0
    selector: Annotated[str, Meta(description="Selects the function's pods.")] = ""
    serving_revision: Annotated[str, Meta(description="The revision with the largest share of the calls.")] = ""
    latest_revision: Annotated[str, Meta(description="The revision deployed last.")] = ""
    latest_ready_revision: Annotated[str, Meta(description="What `latest` in `spec.traffic` stands for.")] = ""
    traffic: Annotated[tuple[TrafficEntry, ...], Meta(description="Which share of the calls goes where.", max_length=64)] = ()
    rollout: Annotated[Rollout, Meta(description="The rollout of the latest revision.")] | None = None
    failed: Annotated[
        tuple[Failed, ...],
        _listed("Older revisions that never took over: going back passes them over.", 200, by="revision"),
    ] = ()
    conditions: Annotated[
        tuple[Condition, ...],
        _listed("`Ready`: calls are answered. `Progressing`: a revision rolls out. `Degraded`: it failed.", 16, by="type"),
    ] = ()


class Metadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What we read of an object's metadata."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}


class FunctionResource(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A Function as the API server has it."""

    metadata: Metadata
    spec: Spec
    status: Status = Status()


class Unreadable(ValueError):
    """A Function that is not of this schema (an older one was stored); the message says where it differs."""


def read(document: Manifest) -> FunctionResource:
    """Return the Function that `document` is. Raises Unreadable."""
    try:
        return msgspec.convert(document, FunctionResource)
    except msgspec.ValidationError as error:
        raise Unreadable(str(error)) from None


def owner(function: Metadata) -> Manifest:
    """Return the reference by which a Function owns what is made for it: it goes when the Function goes."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": function.name,
        "uid": function.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
