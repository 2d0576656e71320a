"""The pod of a revision: what runs in it, with which rights, and how the kubelet asks it how it is.

Every pod passes Kubernetes's "restricted" pod security standard: not root, no capabilities, no way to more rights, the
runtime's seccomp profile. A stop first sleeps PRE_STOP_S, so that all edges have heard of it before the process has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from orchestration.duration import InvalidDuration, parse_duration_s
from orchestration.kubernetes.names import CONTAINER, FUNCTION_LABEL, MANAGED_BY, OPENFAAS_LABEL, PINNACE, PORT, REVISION_LABEL
from orchestration.kubernetes.pod_spec import Pod, Probe, Volume
from orchestration.kubernetes.record import Record
from orchestration.kubernetes.resource import Manifest
from orchestration.revision import Revision, promised_environment
from orchestration.settings import InvalidSetting

PRE_STOP_S: Final = 2
GRACE_MARGIN_S: Final = 5
SECRETS_FOLDER: Final = "/var/openfaas/secrets"
SERVICE_ACCOUNT: Final = "com.openfaas.serviceaccount"

_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY: Final = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def pod_labels(revision: Revision) -> dict[str, str]:
    """Return the labels of a revision's objects: the function's own, as far as Kubernetes takes them, then ours."""
    own = {k: v for k, v in revision.labels.items() if _LABEL_KEY.fullmatch(k) and _LABEL_VALUE.fullmatch(v)}
    return own | {
        OPENFAAS_LABEL: revision.function,
        FUNCTION_LABEL: revision.function,
        REVISION_LABEL: revision.name,
        MANAGED_BY: PINNACE,
    }


def annotations_of(revision: Revision) -> dict[str, str]:
    return {key: value for key, value in revision.annotations.items() if _LABEL_KEY.fullmatch(key)}


def pod_spec(record: Record) -> Manifest:
    """Return the spec of a revision's pods. Raises InvalidSetting for a probe annotation that makes no sense."""
    revision, content, pod = record.revision, record.content, record.content.pod
    account = pod.service_account_name or revision.annotations.get(SERVICE_ACCOUNT)
    if pod.service_account is not None:
        account = revision.function
    spec: Manifest = {
        "automountServiceAccountToken": account is not None,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": pod.run_as_user,
            "runAsGroup": pod.run_as_user,
            "fsGroup": pod.run_as_user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": grace_s(revision, pod),
        "containers": [_container(record)],
        "volumes": _volumes(record),
    }
    if account is not None:
        spec["serviceAccountName"] = account
    if pod.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in pod.image_pull_secrets]
    if selector := dict(pod.node_selector) | _constraints(content.constraints or ()):
        spec["nodeSelector"] = selector
    if pod.tolerations:
        spec["tolerations"] = [_camel(toleration) for toleration in pod.tolerations]
    if pod.affinity is not None:
        spec["affinity"] = pod.affinity
    if pod.topology_spread_constraints:
        counted = {"labelSelector": {"matchLabels": {REVISION_LABEL: revision.name}}}
        spec["topologySpreadConstraints"] = [counted | given for given in pod.topology_spread_constraints]
    if pod.priority_class_name is not None:
        spec["priorityClassName"] = pod.priority_class_name
    if pod.runtime_class_name is not None:
        spec["runtimeClassName"] = pod.runtime_class_name
    return spec


def grace_s(revision: Revision, pod: Pod) -> int:
    """Return how long a pod has from the order to stop until it is killed: enough for a call that has just begun."""
    if pod.termination_grace_period_seconds is not None:
        return pod.termination_grace_period_seconds
    return int(revision.settings.timeout_s) + GRACE_MARGIN_S


def _container(record: Record) -> Manifest:
    revision, content, pod = record.revision, record.content, record.content.pod
    image = content.image if content.digest is None or "@" in content.image else f"{content.image}@{content.digest}"
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108  # an emptyDir of the pod's own
    if revision.secrets:
        mounts.append({"name": "secrets", "mountPath": SECRETS_FOLDER, "readOnly": True})
    for volume in pod.volumes:
        mount: Manifest = {"name": f"volume-{volume.name}", "mountPath": volume.mount_path}
        mounts.append(mount | ({"readOnly": True} if volume.read_only else {}))
    container: Manifest = {
        "name": CONTAINER,
        "image": image,
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "env": [{"name": name, "value": value} for name, value in sorted(environment(revision).items())],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": revision.read_only_root_filesystem,
        },
        "volumeMounts": mounts,
        "readinessProbe": _probe(pod.readiness, revision, "ready", Probe(path="/_/ready", period_seconds=1)),
        "livenessProbe": _probe(pod.liveness, revision, "health", Probe(path="/_/health")),
        "terminationMessagePolicy": "FallbackToLogsOnError",  # why it ended, in the function's own words
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_S}}},
    }
    if pod.image_pull_policy is not None:
        container["imagePullPolicy"] = str(pod.image_pull_policy)
    if resources := {
        word: {name: str(value) for name, value in given.items()}
        for word, given in (("limits", content.limits), ("requests", content.requests))
        if given
    }:
        container["resources"] = resources
    return container


def environment(revision: Revision) -> dict[str, str]:
    """Return the variables of a revision's processes: the function's own, then what the replica contract promises."""
    own = dict(revision.env_vars)
    if revision.env_process is not None:
        own["fprocess"] = revision.env_process
    return own | {
        "PORT": str(PORT),
        **promised_environment(revision, SECRETS_FOLDER),
        "TMPDIR": "/tmp",  # noqa: S108
    }


def _volumes(record: Record) -> list[Manifest]:
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {}}]
    if names := record.revision.secrets:
        volumes.append({"name": "secrets", "projected": {"sources": [{"secret": {"name": name}} for name in names]}})
    return volumes + [{"name": f"volume-{volume.name}"} | _source(volume) for volume in record.content.pod.volumes]


def _source(volume: Volume) -> Manifest:
    sources = {
        "emptyDir": volume.empty_dir,
        "configMap": volume.config_map,
        "secret": volume.secret,
        "persistentVolumeClaim": volume.persistent_volume_claim,
    }
    return {name: source for name, source in sources.items() if source is not None}


def _constraints(given: tuple[str, ...]) -> dict[str, str]:
    """Return a node selector from OpenFaaS's `key=value` (or Swarm's `key == value`)."""
    pairs = (text.replace("==", "=").partition("=") for text in given)
    return {key.strip(): value.strip() for key, _, value in pairs}


def probe_of(revision: Revision, pod: Pod) -> Probe:
    """Return how to see whether a pod of the revision is ready. Raises InvalidSetting."""
    return pod.readiness or _annotated(revision.annotations, "ready") or Probe(path="/_/ready", period_seconds=1)


def _probe(given: Probe | None, revision: Revision, kind: str, default: Probe) -> Manifest:
    probe = given or _annotated(revision.annotations, kind) or default
    ask: Manifest = {"tcpSocket": {"port": PORT}} if probe.path is None else {"httpGet": {"path": probe.path, "port": PORT}}
    return ask | {
        "initialDelaySeconds": probe.initial_delay_seconds,
        "periodSeconds": probe.period_seconds,
        "timeoutSeconds": probe.timeout_seconds,
        "failureThreshold": probe.failure_threshold,
        "successThreshold": probe.success_threshold if kind == "ready" else 1,
    }


def _annotated(annotations: Mapping[str, str], kind: str) -> Probe | None:
    """Return what OpenFaaS's annotations `com.openfaas.{health,ready}.http.*` say."""
    prefix = f"com.openfaas.{kind}.http."
    said = {key.removeprefix(prefix): value for key, value in annotations.items() if key.startswith(prefix)}
    if not said:
        return None
    seconds = {
        setting: _whole(prefix + word, said[word])
        for word, setting in (
            ("initialDelaySeconds", "initial_delay_seconds"),
            ("periodSeconds", "period_seconds"),
            ("timeoutSeconds", "timeout_seconds"),
            ("failureThreshold", "failure_threshold"),
            ("successThreshold", "success_threshold"),
        )
        if word in said
    }
    settings: dict[str, Any] = ({"period_seconds": 1} if kind == "ready" else {}) | seconds
    return Probe(path=said.get("path", "/_/ready" if kind == "ready" else "/_/health"), **settings)


def _whole(key: str, text: str) -> int:
    try:
        seconds = parse_duration_s(text)
    except InvalidDuration as error:
        raise InvalidSetting(f"{key}: {error}") from None
    if seconds != int(seconds) or not 0 <= seconds <= 3600:
        raise InvalidSetting(f"{key}={text!r}: a whole number of seconds, at most an hour")
    return int(seconds)


def _camel(part: Any) -> Manifest:
    import msgspec

    found: Manifest = msgspec.to_builtins(part)
    return found
