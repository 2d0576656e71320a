"""A revision as the cluster keeps it: a ControllerRevision, whose data the API server lets nobody change.

It holds all that a revision's pods are made from, so that its Deployment can be made again at any time, and outlives it.
"""

from __future__ import annotations

import hashlib

import msgspec

from orchestration.kubernetes.names import API_VERSION, FUNCTION_LABEL, KIND, MANAGED_BY, PINNACE
from orchestration.kubernetes.pod_spec import Pod
from orchestration.kubernetes.resource import FunctionResource, Manifest, Metadata, Spec, Unreadable, owner
from orchestration.kubernetes.schema import Quantity
from orchestration.names import FunctionId
from orchestration.revision import Revision
from orchestration.spec import FunctionSpec, Resources


class PodContent(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What the pods of a revision are made from, as far as the domain's Revision does not say it."""

    image: str
    digest: str | None = None
    restarted_at: str | None = None
    constraints: tuple[str, ...] | None = None
    limits: dict[str, Quantity] | None = None
    requests: dict[str, Quantity] | None = None
    pod: Pod = Pod()

    @property
    def identity(self) -> str:
        """A digest over all of it: what the domain calls the revision's bundle."""
        return "sha256:" + hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


class Record(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One revision: the domain's part and the pods' part."""

    revision: Revision
    content: PodContent


def content_of(spec: Spec) -> PodContent:
    """Return what pods of the function's present spec are made from."""
    return PodContent(
        image=spec.image,
        digest=spec.digest,
        restarted_at=spec.restarted_at,
        constraints=spec.constraints,
        limits=spec.limits,
        requests=spec.requests,
        pod=spec.pod,
    )


def domain_spec(function: FunctionResource) -> FunctionSpec:
    """Return the Function as the domain has it: what a GET shows."""
    spec = function.spec
    return FunctionSpec(
        service=function.metadata.name,
        namespace=function.metadata.namespace,
        image=spec.image,
        env_process=spec.env_process,
        env_vars=spec.env,
        constraints=spec.constraints,
        secrets=spec.secrets,
        labels=spec.labels,
        annotations=spec.annotations,
        limits=_resources(spec.limits),
        requests=_resources(spec.requests),
        read_only_root_filesystem=spec.read_only_root_filesystem,
    )


def function_manifest(spec: FunctionSpec, *, digest: str | None = None, restarted_at: str | None = None) -> Manifest:
    """Return the Function that says what a deploy through the API asks for; nothing else in it is touched."""
    said = {
        "image": spec.image,
        "digest": digest,
        "restartedAt": restarted_at,
        "envProcess": spec.env_process,
        "env": None if spec.env_vars is None else dict(spec.env_vars),
        "secrets": None if spec.secrets is None else list(dict.fromkeys(spec.secrets)),
        "labels": dict(spec.labels),
        "annotations": dict(spec.annotations),
        "constraints": None if spec.constraints is None else list(spec.constraints),
        "limits": None if spec.limits is None else msgspec.to_builtins(spec.limits),
        "requests": None if spec.requests is None else msgspec.to_builtins(spec.requests),
        "readOnlyRootFilesystem": spec.read_only_root_filesystem,
    }
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": spec.service, "namespace": spec.namespace},
        "spec": {name: value for name, value in said.items() if value is not None},
    }


def function_id(metadata: Metadata) -> FunctionId:
    return FunctionId(metadata.namespace, metadata.name)


def _resources(given: dict[str, Quantity] | None) -> Resources | None:
    if given is None:
        return None
    memory, cpu = given.get("memory"), given.get("cpu")
    return Resources(memory=None if memory is None else str(memory), cpu=None if cpu is None else str(cpu))


def controller_revision(function: Metadata, record: Record) -> Manifest:
    """Return the object that keeps a revision."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": record.revision.name,
            "namespace": function.namespace,
            "labels": {FUNCTION_LABEL: function.name, MANAGED_BY: PINNACE},
            "ownerReferences": [owner(function)],
        },
        "revision": record.revision.number,
        "data": msgspec.to_builtins(record),
    }


def read_record(document: Manifest) -> Record:
    """Return the revision that a ControllerRevision keeps. Raises Unreadable."""
    try:
        return msgspec.convert(document.get("data"), Record)
    except msgspec.ValidationError as error:
        raise Unreadable(f"{document['metadata']['name']}: {error}") from None
