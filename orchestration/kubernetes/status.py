"""The status of a function, as the controller writes it into the resource and as people are told of it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import msgspec

from orchestration import rollout
from orchestration.function import Function
from orchestration.kubernetes.names import FUNCTION_LABEL
from orchestration.kubernetes.observed import Observed, replicas_of
from orchestration.kubernetes.pod_state import read_time
from orchestration.kubernetes.resource import Condition, Failed, FunctionResource, Rollout, Status, TrafficEntry
from orchestration.kubernetes.traffic import split_of
from orchestration.rollout import READY_WITHIN_S
from orchestration.traffic import InvalidTraffic


def status_of(function: Function, progress: Rollout, observed: Observed, counts: Mapping[str, int], now: float) -> Status:
    """Return the status of a function of which each live revision should have `counts` pods; `progress` is the rollout of its
    newest revision."""
    resource = observed.function
    serving, newest = function.serving.name, function.newest.name
    wanted, ready = counts[serving], observed.ready.get(serving, 0)
    trouble = observed.trouble.get(serving, "")
    told: dict[str, tuple[str, str, str]] = {"Progressing": ("False", "Settled", ""), "Degraded": ("False", "AsExpected", "")}
    if function.rolling and progress.failure is None:
        of = f"{newest}: {observed.ready.get(newest, 0)} of {counts[newest]} pods are ready"
        told["Progressing"] = ("True", "RollingOut", observed.trouble.get(newest) or of)
    elif function.gradual is not None:
        told["Progressing"] = ("True", "RollingOut", rollout.told(function))
    elif ready < wanted and not trouble:
        told["Progressing"] = ("True", "Starting", f"{ready} of {wanted} pods are ready")
    if wrong := _wrong_table(resource, function):
        told["Degraded"] = ("True", "TrafficRefused", wrong)
    elif progress.failure is not None:
        told["Degraded"] = ("True", "RolloutFailed", progress.failure)
    elif trouble and ready < wanted:
        told["Degraded"] = ("True", "PodsFail", trouble)
    if not wanted:
        told["Ready"] = (
            "True",
            "Idle",
            "no pod is wanted; a call starts one" if resource.spec.replicas is None else "pinned at zero",
        )
    elif ready:
        told["Ready"] = ("True", "Serving", "" if ready >= wanted else f"{ready} of {wanted} pods are ready")
    else:
        told["Ready"] = ("False", "NoPodReady", trouble or f"0 of {wanted} pods are ready")
    return Status(
        observed_generation=resource.metadata.generation,
        replicas=wanted,
        ready_replicas=ready,
        selector=f"{FUNCTION_LABEL}={resource.metadata.name}",
        serving_revision=serving,
        latest_revision=newest,
        latest_ready_revision=function.latest_ready,
        traffic=tuple(TrafficEntry(revision=t.revision, percent=t.percent, tag=t.tag) for t in function.traffic),
        rollout=_progress(function, progress),
        failed=_failed(function, resource.status, observed),
        conditions=_conditions(resource, told, now),
    )


def _failed(function: Function, status: Status, observed: Observed) -> tuple[Failed, ...]:
    """Return what is told of older revisions that are kept and never took over; the newest one's story is the rollout's."""
    told = {failed.revision: failed.why for failed in status.failed}
    if (held := status.rollout) is not None and status.latest_revision == held.revision:
        if held.failure is not None:
            told[held.revision] = held.failure
        elif status.latest_ready_revision not in ("", held.revision):
            trouble = observed.trouble.get(held.revision, "")
            told[held.revision] = rollout.superseded_by(held.revision, function.newest.name, trouble)
    kept = [revision.name for revision in function.revisions[:-1]]
    return tuple(Failed(revision=name, why=told[name]) for name in kept if name in told)


def _wrong_table(resource: FunctionResource, function: Function) -> str:
    try:
        split_of(resource, [revision.name for revision in function.revisions])
    except InvalidTraffic as error:
        return f"spec.traffic: {error}; calls go where they went"
    return ""


def _progress(function: Function, progress: Rollout) -> Rollout:
    gradual = function.gradual
    if gradual is None:
        return msgspec.structs.replace(progress, step=None, percent=None, step_since=None)
    return msgspec.structs.replace(progress, step=gradual.step, percent=gradual.percent, step_since=stamp(gradual.since))


def _conditions(resource: FunctionResource, told: Mapping[str, tuple[str, str, str]], now: float) -> tuple[Condition, ...]:
    """Return the conditions; the time is when the status last changed, not the message."""
    held = {condition.type: condition for condition in resource.status.conditions}
    found = []
    for kind, (status, reason, message) in sorted(told.items()):
        before = held.get(kind)
        since = before.last_transition_time if before is not None and before.status == status else stamp(now)
        found.append(
            Condition(
                type=kind,
                status=status,
                reason=reason,
                message=message,
                last_transition_time=since,
                observed_generation=resource.metadata.generation,
            )
        )
    return tuple(found)


def _told(status: Status, kind: str) -> tuple[str, str, str] | None:
    return next(((c.status, c.reason, c.message) for c in status.conditions if c.type == kind), None)


def refused_status(resource: FunctionResource, reason: str, message: str, now: float) -> Status | None:
    """Return the status of a function whose spec cannot be carried out; what served goes on."""
    told = {
        "Degraded": ("True", reason, message),
        "Progressing": ("False", reason, message),
        "Ready": _told(resource.status, "Ready") or ("False", reason, message),
    }
    status = msgspec.structs.replace(
        resource.status, observed_generation=resource.metadata.generation, conditions=_conditions(resource, told, now)
    )
    return None if status == resource.status else status


def condition(resource: FunctionResource, observed: Observed, function: Function, now: float) -> rollout.Condition:
    """Say where the function's newest revision is, as `FunctionStatus` has it, from what is known now."""
    status, newest = resource.status, function.newest.name
    held = status.rollout
    if status.observed_generation < resource.metadata.generation:
        return rollout.Condition(rollout.Phase.PROGRESSING, "the controller has not looked at it yet")
    for told in status.conditions:
        if told.type == "Degraded" and told.status == "True" and told.reason not in ("PodsFail", "RolloutFailed"):
            return rollout.Condition(rollout.Phase.FAILED, told.message)
    if held is not None and held.failure is not None:
        return rollout.Condition(rollout.Phase.FAILED, held.failure)
    ready, trouble = observed.ready.get(newest, 0), observed.trouble.get(newest, "")
    wanted = replicas_of(observed.objects.get(("Deployment", newest)))
    if function.rolling:
        why = trouble or f"{newest}: {ready} of {max(1, wanted or 0)} replicas are ready"
        return rollout.Condition(rollout.Phase.PROGRESSING, why)
    if function.gradual is not None:
        return rollout.Condition(rollout.Phase.PROGRESSING, rollout.told(function))
    if not function.routes_to(newest) or (wanted is not None and ready >= wanted):
        return rollout.Condition(rollout.Phase.READY, rollout.told(function))
    late = held is not None and now >= (read_time(held.since) or now) + READY_WITHIN_S
    if not ready and trouble and late:
        return rollout.Condition(rollout.Phase.FAILED, trouble)
    return rollout.Condition(rollout.Phase.PROGRESSING, trouble or f"{ready} of {wanted or 0} replicas are ready")


def stamp(now: float) -> str:
    """Return a time (Unix seconds) as RFC 3339 has it."""
    return datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
