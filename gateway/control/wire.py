"""The JSON shapes of the API, and their conversion from and to the domain.

OpenFaaS's shapes (its FunctionDeployment, FunctionStatus and so on, with Go's rule that what is not set is not there); ours for
functions are in `description`. Patterns are told to readers of the schema; what enforces them is the domain, whose errors say
what would be right.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.exceptions import HTTPException

from orchestration.gradual import gradual_settings
from orchestration.names import DEFAULT_NAMESPACE, check_function_name, check_namespace, check_secret_name
from orchestration.orchestrator import FunctionStatus as Status
from orchestration.orchestrator import Namespace
from orchestration.orchestrator import Usage as UsedResources
from orchestration.quantity import cpu_cores, memory_bytes
from orchestration.queueing import queue_settings
from orchestration.revision import revisions_kept
from orchestration.scaling import HIGHEST_REPLICAS
from orchestration.scaling_labels import scale_settings
from orchestration.settings import replica_settings
from orchestration.spec import FunctionSpec
from orchestration.spec import Resources as SpecResources
from orchestration.subscriptions import subscription
from orchestration.timers import timer_settings

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
    gradual_settings(spec)
    revisions_kept(spec)
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
