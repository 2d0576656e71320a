"""The `Function` resource: one description from which come its schema, its documentation, and what the code reads.

`Spec` says what a function is (`pod_spec` its part about pods), `Status` what is true of it. Texts, bounds and CEL rules stand
at the fields, in the words of `schema`; `crd` makes the definition from them. Objects are read here after the API server has
checked them and filled in defaults.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, field

from orchestration.kubernetes.names import API_VERSION, KIND
from orchestration.kubernetes.pod_spec import Pod
from orchestration.kubernetes.schema import Name, Part, Quantity, Rule, ShortName, Text, listed
from orchestration.scaling import HIGHEST_REPLICAS
from orchestration.traffic import MOST_TARGETS, TAG_LIMIT

Manifest = dict[str, Any]
"""A Kubernetes object as JSON has it."""


class Network(enum.StrEnum):
    OPEN = "Open"
    PLATFORM_ONLY = "PlatformOnly"


class TrafficRequest(Part, frozen=True, kw_only=True):
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


class Spec(Part, frozen=True, kw_only=True):
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
        Annotated[tuple[Name, ...], listed("Secrets of the namespace, as files below `/var/openfaas/secrets`.", 64)] | None
    ) = None
    labels: Annotated[
        dict[str, Annotated[str, Meta(max_length=1024)]],
        Meta(description="Labels of the function, such as those that set its scaling.", max_length=128),
    ] = field(default_factory=dict)
    annotations: Annotated[dict[str, Text], Meta(description="Annotations of the function.", max_length=128)] = field(
        default_factory=dict
    )
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


class TrafficEntry(Part, frozen=True, kw_only=True):
    """A share of the calls."""

    revision: ShortName
    percent: Annotated[int, Meta(ge=0, le=100, extra_json_schema={"format": "int32"})]
    tag: ShortName | None = None


class Rollout(Part, frozen=True, kw_only=True):
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


class Failed(Part, frozen=True, kw_only=True):
    """A revision that is not the newest any more, and why it never took over."""

    revision: ShortName
    why: Text


class Condition(Part, frozen=True, kw_only=True, omit_defaults=False):
    """As Kubernetes's conventions have it."""

    type: Annotated[str, Meta(max_length=64)]
    status: Annotated[str, Meta(extra_json_schema={"enum": ["True", "False", "Unknown"]})]
    reason: Annotated[str, Meta(max_length=128)]
    message: Text = ""
    last_transition_time: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
    observed_generation: Annotated[int, Meta(extra_json_schema={"format": "int64"})] = 0


class Status(Part, frozen=True, kw_only=True):
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
        listed("Older revisions that never took over: going back passes them over.", 200, by="revision"),
    ] = ()
    conditions: Annotated[
        tuple[Condition, ...],
        listed("`Ready`: calls are answered. `Progressing`: a revision rolls out. `Degraded`: it failed.", 16, by="type"),
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
