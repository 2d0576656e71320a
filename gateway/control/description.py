"""The JSON shapes of our own routes for functions: all that is known of one, for those who want to know why."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.control.wire import FunctionDeployment, from_spec, rfc3339
from orchestration.gradual import GradualRollout
from orchestration.names import FunctionId
from orchestration.orchestrator import FunctionStatus as Status
from orchestration.replica import Replica
from orchestration.rollout import Condition
from orchestration.starts import Start
from orchestration.traffic import TrafficTarget, share_of, tags_of


class RevisionDetails(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`percent` of the function's calls go to this revision, and those that name one of its `tags`; `latest` where it is what
    `@latest` stands for. `replicas` it should have. `bundle` is the digest of its code, `failure` why it never became ready or
    was given up (empty: neither), `trouble` what keeps replicas of it from being ready now (empty: nothing)."""

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
    trouble: str


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
            trouble=status.troubles.get(r.name, ""),
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
