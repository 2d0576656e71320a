"""A revision: one immutable version of a function's code and environment.

What changes the running code or its environment makes a new revision: the bundle, env, secret names, command, limits,
timeout, concurrency, read-only root. So do labels and annotations, except the ones that are settings of the function
as a whole (`is_function_key`), which take effect at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from orchestration.gradual import KNATIVE_DURATION_KEY, PREFIX
from orchestration.queueing import is_queue_key
from orchestration.scaling_labels import is_scaling_key
from orchestration.settings import InvalidSetting, ReplicaSettings, parse_count, replica_settings
from orchestration.spec import FunctionSpec, Resources
from orchestration.subscriptions import is_subscription_key
from orchestration.timers import is_timer_key

KEEP_KEY = "com.pinnace.revisions.keep"
REVISIONS_KEPT = 10
MOST_KEPT = 100


class Revision(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One immutable version. `name` is `FUNCTION-00001` and unique in its namespace; `bundle` is a bundle's digest.

    `identity` is the digest that tells whether a new deploy changes anything. `created_at` is Unix seconds.
    """

    name: str
    number: int
    namespace: str
    function: str
    bundle: str
    image: str
    env_process: str | None
    env_vars: Mapping[str, str]
    secrets: tuple[str, ...]
    limits: Resources | None
    requests: Resources | None
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    read_only_root_filesystem: bool
    settings: ReplicaSettings
    identity: str
    created_at: float

    @property
    def key(self) -> tuple[str, str]:
        """`(namespace, revision name)`: unique on the platform."""
        return (self.namespace, self.name)


def promised_environment(revision: Revision, secrets: str) -> dict[str, str]:
    """Return the variables of the replica contract (docs/architecture.md) that are the same wherever the revision runs: its
    limits, who it is, and the folder of its secrets."""
    return {
        "exec_timeout": f"{revision.settings.timeout_s:g}s",
        "max_inflight": str(revision.settings.concurrency),
        "OPENFAAS_NAME": revision.function,
        "OPENFAAS_NAMESPACE": revision.namespace,
        "K_SERVICE": revision.function,
        "K_CONFIGURATION": revision.function,
        "K_REVISION": revision.name,
        "secret_mount_path": secrets,
    }


def is_function_key(key: str) -> bool:
    """Whether a label or annotation is a setting of the function as a whole: it takes effect at once and makes no revision."""
    by_others = is_scaling_key(key) or is_timer_key(key) or is_subscription_key(key) or is_queue_key(key)
    return by_others or key.startswith(PREFIX) or key in (KEEP_KEY, KNATIVE_DURATION_KEY)


def revisions_kept(spec: FunctionSpec) -> int:
    """Return how many of the newest revisions are kept, beside those with traffic or a tag. Raises InvalidSetting."""
    text = spec.annotations.get(KEEP_KEY, spec.labels.get(KEEP_KEY))
    kept = REVISIONS_KEPT if text is None else parse_count(KEEP_KEY, text, highest=MOST_KEPT)
    if kept < 1:
        raise InvalidSetting(f"{KEEP_KEY}={text!r}: at least 1, the newest")
    return kept


def make_revision(spec: FunctionSpec, bundle: str, number: int, now: float) -> Revision:
    """Return the revision that `spec` with the bundle of digest `bundle` describes. Raises settings.InvalidSetting."""
    labels = {k: v for k, v in spec.labels.items() if not is_function_key(k)}
    annotations = {k: v for k, v in spec.annotations.items() if not is_function_key(k)}
    settings = replica_settings(spec)
    content = {
        "bundle": bundle,
        "envProcess": spec.env_process or "",
        "envVars": sorted((spec.env_vars or {}).items()),
        "secrets": sorted(spec.secrets or ()),
        "limits": spec.limits,
        "requests": spec.requests,
        "labels": sorted(labels.items()),
        "annotations": sorted(annotations.items()),
        "readOnlyRootFilesystem": spec.read_only_root_filesystem,
        "settings": settings,
    }
    return Revision(
        name=f"{spec.service}-{number:05d}",
        number=number,
        namespace=spec.namespace,
        function=spec.service,
        bundle=bundle,
        image=spec.image,
        env_process=spec.env_process,
        env_vars=dict(spec.env_vars or {}),
        secrets=tuple(sorted(set(spec.secrets or ()))),
        limits=spec.limits,
        requests=spec.requests,
        labels=labels,
        annotations=annotations,
        read_only_root_filesystem=spec.read_only_root_filesystem,
        settings=settings,
        identity=hashlib.sha256(msgspec.json.encode(content)).hexdigest(),
        created_at=now,
    )
