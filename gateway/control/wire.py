"""The JSON shapes of the API, and their conversion from and to the domain.

OpenFaaS's shapes first (its FunctionDeployment, FunctionStatus and so on, with Go's rule that what is not set is not
there), then ours. Patterns are told to readers of the schema; what enforces them is the domain, whose errors say what
would be right.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.exceptions import HTTPException

from orchestration.gradual import GradualRollout
from orchestration.names import DEFAULT_NAMESPACE, FunctionId, check_function_name, check_namespace, check_secret_name
from orchestration.orchestrator import FunctionStatus as Status
from orchestration.orchestrator import Namespace
from orchestration.orchestrator import Usage as UsedResources
from orchestration.quantity import cpu_cores, memory_bytes
from orchestration.queueing import queue_settings
from orchestration.replica import Replica
from orchestration.rollout import Condition
from orchestration.scaling import HIGHEST_REPLICAS
from orchestration.scaling_labels import scale_settings
from orchestration.settings import replica_settings
from orchestration.spec import FunctionSpec
from orchestration.spec import Resources as SpecResources
from orchestration.starts import Start
from orchestration.subscriptions import subscription
from orchestration.timers import timer_settings
from orchestration.traffic import TrafficTarget, share_of, tags_of

NAME_LABEL = "faas_function"
LONGEST_IMAGE = 1024

NAME_PATTERN = "^[a-z0-9]+(-[a-z0-9]+)*$"
NAMESPACE_PATTERN = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$"
SECRET_PATTERN = "^([a-z0-9]|[a-z0-9](\\.?[-a-z0-9])*\\.?[a-z0-9])$"  # noqa: S105 - a pattern of names
QUANTITY_PATTERN = "^([0-9]+(\\.[0-9]*)?(m|[kMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?)?$"
BASE64_PATTERN = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_NO_NUL = "^[^\\u0000]*$"

Text = Annotated[str, Meta(extra_json_schema={"pattern": _NO_NUL})]
Value = Annotated[str | None, Meta(extra_json_schema={"pattern": _NO_NUL})]
FunctionName = Annotated[str, Meta(extra_json_schema={"pattern": NAME_PATTERN, "maxLength": 50})]
NamespaceName = Annotated[str, Meta(extra_json_schema={"pattern": NAMESPACE_PATTERN, "maxLength": 63})]
SecretName = Annotated[str, Meta(extra_json_schema={"pattern": SECRET_PATTERN, "maxLength": 253})]
Image = Annotated[str, Meta(extra_json_schema={"pattern": "^[!-~]+$", "maxLength": LONGEST_IMAGE})]
Quantity = Annotated[str, Meta(extra_json_schema={"pattern": QUANTITY_PATTERN})]
Base64 = Annotated[bytes, Meta(extra_json_schema={"pattern": BASE64_PATTERN})]
Texts = dict[Annotated[str, Meta(extra_json_schema={"pattern": "^[^\\u0000]+$"})], Value]
Variables = dict[Annotated[str, Meta(extra_json_schema={"pattern": "^[^=\\u0000]+$"})], Value]


class Resources(msgspec.Struct, frozen=True, omit_defaults=True):
    """Kubernetes quantities, such as `128Mi` and `500m`."""

    memory: Quantity | None = None
    cpu: Quantity | None = None


class FunctionDeployment(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a deploy asks for."""

    service: FunctionName
    image: Image
    namespace: NamespaceName | None = None
    env_process: Text | None = None
    env_vars: Variables | None = None
    constraints: list[Value] | None = None
    secrets: list[SecretName] | None = None
    labels: Texts | None = None
    annotations: Texts | None = None
    limits: Resources | None = None
    requests: Resources | None = None
    read_only_root_filesystem: bool | None = None


class Deployed(msgspec.Struct, frozen=True):
    """What a deploy made. `generation` counts deploys of the function; wait for it with `GET /api/v1/functions/{name}`."""

    name: str
    namespace: str
    generation: int
    revision: str


class DeleteFunctionRequest(msgspec.Struct, frozen=True, rename="camel"):
    function_name: FunctionName
    namespace: NamespaceName | None = None


class ScaleServiceRequest(msgspec.Struct, frozen=True, rename="camel"):
    """`serviceName` may be left out; when it is there it is the name in the path."""

    replicas: Annotated[int, Meta(ge=0, le=HIGHEST_REPLICAS)]
    service_name: Text | None = None
    namespace: NamespaceName | None = None


class Usage(msgspec.Struct, frozen=True, rename="camel"):
    """`cpu` is in thousandths of a core; both are sums over the function's replicas."""

    cpu: float
    total_memory_bytes: float


class FunctionStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The spec that was last deployed, with the replica counts of the revision that serves."""

    name: str
    image: str
    namespace: str
    labels: dict[str, str]
    annotations: dict[str, str]
    replicas: int
    available_replicas: int
    created_at: str
    invocation_count: int | UnsetType = UNSET
    env_process: str | UnsetType = UNSET
    env_vars: dict[str, str] | UnsetType = UNSET
    constraints: list[str] | UnsetType = UNSET
    secrets: list[str] | UnsetType = UNSET
    limits: Resources | UnsetType = UNSET
    requests: Resources | UnsetType = UNSET
    read_only_root_filesystem: bool | UnsetType = UNSET
    usage: Usage | UnsetType = UNSET


class Secret(msgspec.Struct, frozen=True, rename="camel"):
    """`rawValue`, base64, wins over `value`; one of them is needed."""

    name: SecretName
    namespace: NamespaceName | None = None
    value: Text | None = None
    raw_value: Base64 | None = None


class SecretReference(msgspec.Struct, frozen=True):
    """A secret without its value, which nobody gets back."""

    name: SecretName
    namespace: NamespaceName | None = None


class FunctionNamespace(msgspec.Struct, frozen=True):
    name: Annotated[str, Meta(extra_json_schema={"pattern": NAMESPACE_PATTERN, "minLength": 1, "maxLength": 63})]
    labels: Texts | None = None
    annotations: Texts | None = None


class NamespaceReference(msgspec.Struct, frozen=True):
    name: Text


class RevisionDetails(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`percent` of the function's calls go to this revision, and those that name one of its `tags`; `latest` where it is what
    `@latest` stands for. `replicas` it should have. `bundle` is the digest of its code, `failure` why it never became ready or
    was given up (empty: neither)."""

    name: str
    number: int
    image: str
    bundle: str
    created_at: str
    percent: int
    tags: tuple[str, ...]
    latest: bool
    replicas: int
    failure: str


class ReplicaDetails(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`reason` is one line, empty when all is well; `restarts` counts processes that ended by themselves, `last_end` says how
    the last of them did."""

    id: str
    revision: str
    state: str
    reason: str
    restarts: int
    last_end: str
    started_at: str | None
    ready_at: str | None
    pid: int | None


class RolloutDetails(msgspec.Struct, frozen=True, kw_only=True):
    """A gradual rollout: `percent` of the calls that move have moved to `revision`, which is at its step number `step` (from 0)
    since then."""

    revision: str
    step: int
    percent: int
    since: str


class StartDetails(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What one start took, in milliseconds a phase, one after the other. `kind` is what the process is made of: `zygote` (a
    fork that has the handler imported), `stem` (a fork that imports it) or `exec`. `failed` is empty where it is ready."""

    replica: str
    revision: str
    kind: str
    at: str
    placed_ms: float
    prepared_ms: float
    made_ms: float
    ready_ms: float
    total_ms: float
    failed: str


class FunctionDetails(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Everything that is known of a function. Counts are those of the serving revision, `replicas` all live ones. `traffic` is
    where calls go now, `rollout` the gradual one that is under way, or null."""

    name: str
    namespace: str
    spec: FunctionDeployment
    condition: Condition
    generation: int
    created_at: str
    updated_at: str
    desired_replicas: int
    available_replicas: int
    invocation_count: int
    revisions: list[RevisionDetails]
    traffic: tuple[TrafficTarget, ...]
    rollout: RolloutDetails | None
    replicas: list[ReplicaDetails]
    notes: tuple[str, ...]
    starts: list[StartDetails]


def namespace_of(*given: str | None) -> str:
    """Return the first namespace that is given, or the default one. Raises InvalidName, also for one that does not count."""
    named = [check_namespace(name) for name in given if name]
    return named[0] if named else DEFAULT_NAMESPACE


def to_spec(deployment: FunctionDeployment, namespace: str) -> FunctionSpec:
    """Return the validated domain form. Raises InvalidName, InvalidSetting, InvalidQuantity, HTTPException 400."""
    check_function_name(deployment.service)
    image = deployment.image
    if not (0 < len(image) <= LONGEST_IMAGE and image.isascii() and image.isprintable() and " " not in image):
        raise HTTPException(400, f"image {image[:64]!r} must be 1 to {LONGEST_IMAGE} printable characters without spaces")
    for name in deployment.env_vars or ():
        if not name or "=" in name or "\0" in name:
            raise HTTPException(400, f"variable {name[:64]!r} in envVars: a name is not empty and holds no '='")
    _check_keys(deployment)
    for secret in deployment.secrets or ():
        check_secret_name(secret)
    spec = FunctionSpec(
        service=deployment.service,
        image=image,
        namespace=namespace,
        env_process=deployment.env_process or None,
        env_vars=_strings(deployment.env_vars),
        constraints=None if deployment.constraints is None else tuple(c or "" for c in deployment.constraints),
        secrets=None if deployment.secrets is None else tuple(deployment.secrets),
        labels={k: v for k, v in (_strings(deployment.labels) or {}).items() if k != NAME_LABEL},
        annotations=_strings(deployment.annotations) or {},
        limits=_to_resources(deployment.limits),
        requests=_to_resources(deployment.requests),
        read_only_root_filesystem=bool(deployment.read_only_root_filesystem),
    )
    replica_settings(spec)
    scale_settings(spec)
    timer_settings(spec)
    queue_settings(spec)
    subscription(spec)
    return spec


def from_spec(spec: FunctionSpec) -> FunctionDeployment:
    """Return what was deployed, as it was sent."""
    return FunctionDeployment(
        service=spec.service,
        image=spec.image,
        namespace=spec.namespace,
        env_process=spec.env_process,
        env_vars=None if spec.env_vars is None else dict(spec.env_vars),
        constraints=None if spec.constraints is None else list(spec.constraints),
        secrets=None if spec.secrets is None else list(spec.secrets),
        labels=dict(spec.labels),
        annotations=dict(spec.annotations),
        limits=_resources(spec.limits),
        requests=_resources(spec.requests),
        read_only_root_filesystem=spec.read_only_root_filesystem or None,
    )


def function_status(status: Status, invocations: int | UnsetType = UNSET, usage: UsedResources | None = None) -> FunctionStatus:
    """Return OpenFaaS's view of a function. What the deploy did not set stays absent."""
    spec = status.function.spec
    return FunctionStatus(
        name=spec.service,
        image=spec.image,
        namespace=spec.namespace,
        labels={**spec.labels, NAME_LABEL: spec.service},
        annotations=dict(spec.annotations),
        replicas=status.replicas,
        available_replicas=status.available,
        created_at=rfc3339(status.function.created_at),
        invocation_count=invocations,
        env_process=spec.env_process or UNSET,
        env_vars=UNSET if spec.env_vars is None else dict(spec.env_vars),
        constraints=UNSET if spec.constraints is None else list(spec.constraints),
        secrets=UNSET if spec.secrets is None else list(spec.secrets),
        limits=_resources(spec.limits) or UNSET,
        requests=_resources(spec.requests) or UNSET,
        read_only_root_filesystem=spec.read_only_root_filesystem or UNSET,
        usage=UNSET if usage is None else Usage(usage.cpu_millicores, usage.memory_bytes),
    )


def function_details(status: Status, invocations: Callable[[FunctionId], int]) -> FunctionDetails:
    """Return our view of a function, for those who want to know why."""
    function = status.function
    return FunctionDetails(
        name=function.spec.service,
        namespace=function.spec.namespace,
        spec=from_spec(function.spec),
        condition=status.condition,
        generation=function.generation,
        created_at=rfc3339(function.created_at),
        updated_at=rfc3339(function.updated_at),
        desired_replicas=status.replicas,
        available_replicas=status.available,
        invocation_count=invocations(function.id),
        revisions=_revisions(status),
        traffic=function.traffic,
        rollout=rollout_details(function.gradual),
        replicas=[_replica(r) for r in status.instances],
        notes=status.notes,
        starts=[_start(start) for start in status.starts],
    )


def rollout_details(gradual: GradualRollout | None) -> RolloutDetails | None:
    """Return what people read of a gradual rollout."""
    if gradual is None:
        return None
    since = rfc3339(gradual.since)
    return RolloutDetails(revision=gradual.revision, step=gradual.step, percent=gradual.percent, since=since)


def to_namespace(given: FunctionNamespace) -> Namespace:
    """Return the domain form. Raises InvalidName, HTTPException 400."""
    _check_keys(given)
    return Namespace(check_namespace(given.name), _strings(given.labels) or {}, _strings(given.annotations) or {})


def from_namespace(namespace: Namespace) -> FunctionNamespace:
    return FunctionNamespace(namespace.name, dict(namespace.labels), dict(namespace.annotations))


def rfc3339(moment: float, *, milliseconds: bool = False) -> str:
    """Return Unix seconds as `2026-01-31T12:30:05Z`, or as `2026-01-31T12:30:05.250Z`."""
    timespec = "milliseconds" if milliseconds else "seconds"
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def _revisions(status: Status) -> list[RevisionDetails]:
    function = status.function
    return [
        RevisionDetails(
            name=r.name,
            number=r.number,
            image=r.image,
            bundle=r.bundle,
            created_at=rfc3339(r.created_at),
            percent=share_of(function.traffic, r.name),
            tags=tags_of(function.traffic, r.name),
            latest=r.name == function.latest_ready,
            replicas=status.wanted.get(r.name, 0),
            failure=status.failures.get(r.name, ""),
        )
        for r in function.revisions
    ]


def _replica(replica: Replica) -> ReplicaDetails:
    return ReplicaDetails(
        id=replica.id,
        revision=replica.revision,
        state=replica.state.value,
        reason=replica.reason,
        restarts=replica.restarts,
        last_end=replica.last_end,
        started_at=None if replica.started_at is None else rfc3339(replica.started_at),
        ready_at=None if replica.ready_at is None else rfc3339(replica.ready_at),
        pid=replica.pid,
    )


def _start(start: Start) -> StartDetails:
    return StartDetails(
        replica=start.replica,
        revision=start.revision,
        kind=start.kind,
        at=rfc3339(start.at, milliseconds=True),
        placed_ms=_ms(start.placed_s),
        prepared_ms=_ms(start.prepared_s),
        made_ms=_ms(start.made_s),
        ready_ms=_ms(start.ready_s),
        total_ms=_ms(start.total_s),
        failed=start.failed,
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def _to_resources(given: Resources | None) -> SpecResources | None:
    if given is None:
        return None
    if given.memory:
        memory_bytes(given.memory)
    if given.cpu:
        cpu_cores(given.cpu)
    return SpecResources(given.memory or None, given.cpu or None)


def _resources(kept: SpecResources | None) -> Resources | None:
    return None if kept is None else Resources(kept.memory, kept.cpu)


def _check_keys(given: FunctionDeployment | FunctionNamespace) -> None:
    for kind, entries in (("labels", given.labels), ("annotations", given.annotations)):
        if "" in (entries or {}):
            raise HTTPException(400, f"{kind} hold an empty key")


def _strings(given: Mapping[str, str | None] | None) -> dict[str, str] | None:
    return None if given is None else {k: v or "" for k, v in given.items()}
