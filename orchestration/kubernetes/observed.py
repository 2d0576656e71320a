"""What is known of one function on a cluster, and the domain's function that it comes to."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from orchestration.function import Function
from orchestration.gradual import GradualRollout
from orchestration.kubernetes.pod_state import read_time
from orchestration.kubernetes.record import Record, domain_spec
from orchestration.kubernetes.resource import FunctionResource, Manifest, Status
from orchestration.kubernetes.traffic import split_of
from orchestration.traffic import InvalidTraffic, TrafficTarget, all_to

ObjectKey = tuple[str, str]
"""`(kind, name)` of an object in the function's namespace."""


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a function. `objects` are those made for it; `ready` and `trouble` are by revision."""

    function: FunctionResource
    records: tuple[Record, ...] = ()
    objects: Mapping[ObjectKey, Manifest] = {}
    ready: Mapping[str, int] = {}
    trouble: Mapping[str, str] = {}


def replicas_of(deployment: Manifest | None) -> int | None:
    """Return how many pods a Deployment should have; None where there is none."""
    return None if deployment is None else int(deployment["spec"].get("replicas", 1))


def function_of(resource: FunctionResource, records: tuple[Record, ...]) -> Function | None:
    """Return the domain's function: with the revisions that are there, the table that is asked for, and the traffic that the
    status says. A table that cannot be leaves traffic as it is."""
    if not records:
        return None
    revisions = tuple(record.revision for record in sorted(records, key=lambda r: r.revision.number))
    known = {revision.name for revision in revisions}
    traffic = tuple(
        TrafficTarget(entry.revision, entry.percent, entry.tag) for entry in resource.status.traffic if entry.revision in known
    )
    traffic = traffic or all_to(revisions[0].name)
    try:
        split = split_of(resource, known)
    except InvalidTraffic:
        split = traffic
    latest = resource.status.latest_ready_revision
    created = read_time(resource.metadata.creation_timestamp) or 0.0
    return Function(
        spec=domain_spec(resource),
        generation=resource.metadata.generation,
        revisions=revisions,
        traffic=traffic,
        created_at=created,
        updated_at=max(created, revisions[-1].created_at),
        split=split,
        latest=latest if latest in known else "",
        gradual=_gradual(resource.status, revisions[-1].name),
    )


def _gradual(status: Status, newest: str) -> GradualRollout | None:
    held = status.rollout
    if held is None or held.revision != newest or held.step is None or held.failure is not None:
        return None
    return GradualRollout(newest, held.step, held.percent or 0, read_time(held.step_since or held.since) or 0.0)
