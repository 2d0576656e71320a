"""The kinds of objects that the platform reads and writes, and what the API server can answer. Imports no client."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import msgspec

from orchestration.kubernetes.names import API_VERSION, PLURAL
from orchestration.kubernetes.resource import Manifest


@dataclasses.dataclass(frozen=True)
class Kind:
    """Where objects of a kind are in the API: below `/api/v1` or `/apis/GROUP/VERSION`."""

    api_version: str
    plural: str
    name: str

    def path(self, namespace: str = "", name: str = "", part: str = "") -> str:
        """Return the URL path of all objects, of a namespace's, of one, or of a part of one (`status`, `scale`, `log`)."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        words = [root, *(["namespaces", namespace] if namespace else []), self.plural]
        return "/".join([*words, *([name] if name else []), *([part] if part else [])])


FUNCTIONS: Final = Kind(API_VERSION, PLURAL, "Function")
REVISIONS: Final = Kind("apps/v1", "controllerrevisions", "ControllerRevision")
DEPLOYMENTS: Final = Kind("apps/v1", "deployments", "Deployment")
SERVICES: Final = Kind("v1", "services", "Service")
PODS: Final = Kind("v1", "pods", "Pod")
SECRETS: Final = Kind("v1", "secrets", "Secret")
NAMESPACES: Final = Kind("v1", "namespaces", "Namespace")
NETWORK_POLICIES: Final = Kind("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy")
DISRUPTION_BUDGETS: Final = Kind("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget")
SERVICE_ACCOUNTS: Final = Kind("v1", "serviceaccounts", "ServiceAccount")
LEASES: Final = Kind("coordination.k8s.io/v1", "leases", "Lease")
POD_METRICS: Final = Kind("metrics.k8s.io/v1beta1", "pods", "PodMetrics")
DEFINITIONS: Final = Kind("apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition")

KINDS: Final = {
    kind.name: kind
    for kind in (
        FUNCTIONS,
        REVISIONS,
        DEPLOYMENTS,
        SERVICES,
        PODS,
        SECRETS,
        NAMESPACES,
        NETWORK_POLICIES,
        DISRUPTION_BUDGETS,
        SERVICE_ACCOUNTS,
    )
}


class _Details(msgspec.Struct, frozen=True, rename="camel"):
    retry_after_seconds: float = 0.0


class ApiStatus(msgspec.Struct, frozen=True):
    """Kubernetes's answer to what it refuses."""

    reason: str = ""
    message: str = ""
    code: int = 0
    details: _Details | None = None


class ApiError(Exception):
    """The API server refused a request, or is not there. `code` is the HTTP status (0: none came)."""

    def __init__(self, code: int, reason: str, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s


class Missing(ApiError):
    """There is no such object, or no such kind."""


class Exists(ApiError):
    """An object of that name is there."""


class Clash(ApiError):
    """Somebody else changed the object, or owns the field."""


class Expired(ApiError):
    """The history that was asked for is gone: list again."""


class Invalid(ApiError):
    """The object breaks a rule; the message says which."""


class Forbidden(ApiError):
    """The platform's account may not do this, or a quota or policy forbids it."""


class Throttled(ApiError):
    """Too many requests; again after `retry_after_s`."""


class Unreachable(ApiError):
    """No answer, or one that says that the server is not well."""


def error_of(code: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """Return the error that an HTTP answer stands for."""
    try:
        status = msgspec.json.decode(body, type=ApiStatus)
    except msgspec.DecodeError:
        status = ApiStatus(message=body.decode(errors="replace").strip()[:500] or f"HTTP status {code}")
    after_s = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
    after_s = after_s or (status.details.retry_after_seconds if status.details else 0.0)
    kind: type[ApiError] = {
        400: Invalid,
        401: Forbidden,
        403: Forbidden,
        404: Missing,
        409: Exists if status.reason == "AlreadyExists" else Clash,
        410: Expired,
        422: Invalid,
        429: Throttled,
    }.get(code, Unreachable if code >= 500 else ApiError)
    return kind(code, status.reason, status.message, after_s)


def key_of(document: Manifest) -> tuple[str, str]:
    """Return `(namespace, name)`."""
    metadata = document["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def version_of(document: Manifest) -> int:
    """Return the resource version as a number: the later one is the larger (Kubernetes KEP-5504)."""
    text: Any = document["metadata"].get("resourceVersion", "")
    return int(text) if text.isdigit() else 0
