"""What follows from what is there, as a pure function: given these objects, these writes.

A Function whose spec is new gets a revision. A live revision (one with traffic, or the newest while it rolls out) has a
Deployment and a Service. When as many pods of the newest are ready as the serving one has, traffic moves; when none is ready
by the deadline, it stays, and the status says why. A revision that is not live any more is scaled to zero, and its Deployment
removed when its pods have gone.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from orchestration import rollout
from orchestration.function import Function
from orchestration.kubernetes.drift import says
from orchestration.kubernetes.names import REVISION_LABEL
from orchestration.kubernetes.observed import ObjectKey, Observed, function_of, replicas_of
from orchestration.kubernetes.pod_state import read_time
from orchestration.kubernetes.record import Record, content_of, domain_spec
from orchestration.kubernetes.render import render, service_name
from orchestration.kubernetes.resource import FunctionResource, Manifest, Rollout, Status
from orchestration.kubernetes.status import refused_status, stamp, status_of
from orchestration.kubernetes.traffic import ALL_STEPS, allowed_step, given_up
from orchestration.revision import Revision
from orchestration.rollout import READY_WITHIN_S
from orchestration.scaling_labels import scale_settings
from orchestration.settings import InvalidSetting
from orchestration.traffic import TrafficTarget, follows, parts_of, share_of


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Writes in the order in which they are to be made; `status` None: it is as it should be.

    `newest` names the newest revision (empty: there is none yet).
    `scale` maps Deployments to counts. After `again_s` seconds it is to be looked at again, whatever happens.
    """

    newest: str = ""
    create: tuple[Record, ...] = ()
    apply: tuple[Manifest, ...] = ()
    scale: Mapping[str, int] = {}
    status: Status | None = None
    delete: tuple[ObjectKey, ...] = ()
    forget: tuple[str, ...] = ()
    again_s: float | None = None


class _Rolling(msgspec.Struct, kw_only=True):
    """The function while it is thought about."""

    function: Function
    records: dict[str, Record]
    rollout: Rollout
    pinned: int | None

    @property
    def newest(self) -> Revision:
        return self.function.newest

    @property
    def rolls(self) -> bool:
        return self.function.rolling and self.rollout.failure is None


def expected(resource: FunctionResource, records: tuple[Record, ...], now: float) -> tuple[Function, Record]:
    """Return the function as its spec wants it, and the record of its newest revision. Raises InvalidSetting."""
    content = content_of(resource.spec)
    deployed = rollout.deploy(function_of(resource, records), domain_spec(resource), content.identity, now)
    deployed = msgspec.structs.replace(deployed, generation=resource.metadata.generation)
    held = next((record for record in records if record.revision.name == deployed.newest.name), None)
    return deployed, held or Record(revision=deployed.newest, content=content)


def plan(
    observed: Observed, now: float, *, platform_namespace: str = "pinnace", ready_within_s: float = READY_WITHIN_S
) -> Plan:
    """Return what to write at `now` (Unix seconds)."""
    resource = observed.function
    if resource.metadata.deletion_timestamp is not None:
        return Plan()
    try:
        function, record = expected(resource, observed.records, now)
        least = max(1, scale_settings(function.spec).min_replicas)
    except InvalidSetting as error:
        return Plan(status=refused_status(resource, "InvalidSetting", str(error), now))
    thought = _Rolling(
        function=function,
        records={r.revision.name: r for r in observed.records} | {record.revision.name: record},
        rollout=_rollout(resource, function.newest.name, now),
        pinned=resource.spec.replicas,
    )
    _follow_gateway(thought, resource, now)
    _move_traffic(thought, observed, now, ready_within_s)
    live = [thought.records[revision.name] for revision in thought.function.revisions if _is_live(thought, revision.name)]
    try:
        wanted = render(resource, live, platform_namespace=platform_namespace)
    except InvalidSetting as error:
        return Plan(status=refused_status(resource, "InvalidSetting", str(error), now))
    kept = {revision.name for revision in thought.function.revisions}
    counts = _counts(thought, observed, least)
    gone, stopping = _unwanted(observed, wanted)
    status = status_of(thought.function, thought.rollout, observed, counts, now)
    return Plan(
        newest=thought.newest.name,
        create=() if any(r.revision.name == record.revision.name for r in observed.records) else (record,),
        apply=tuple(manifest for manifest in wanted if not says(observed.objects.get(_key(manifest)), manifest)),
        scale=_scaled(observed, counts) | stopping,
        status=None if status == resource.status else status,
        delete=gone,
        forget=tuple(r.revision.name for r in observed.records if r.revision.name not in kept),
        again_s=_again_s(thought, now, ready_within_s),
    )


def _rollout(resource: FunctionResource, newest: str, now: float) -> Rollout:
    """Return the rollout under way; one that was given up begins anew with each change of the spec."""
    held = resource.status.rollout
    generation = resource.metadata.generation
    if held is not None and held.revision == newest:
        stays = held.failure == given_up(resource, newest) if held.aborted else held.generation == generation
        if held.failure is None or stays:
            return held
    return Rollout(revision=newest, generation=generation, since=stamp(now))


def _follow_gateway(thought: _Rolling, resource: FunctionResource, now: float) -> None:
    """Do with a gradual rollout what the gateway, which sees the calls, has said."""
    gradual = thought.function.gradual
    if gradual is None:
        return
    if (why := given_up(resource, gradual.revision)) is not None:
        thought.function = rollout.abort(thought.function, gradual.revision, now)
        thought.rollout = msgspec.structs.replace(thought.rollout, failure=why, aborted=True)
    elif not follows(thought.function.split):
        thought.function = rollout.abort(thought.function, gradual.revision, now)
    elif (said := allowed_step(resource)) is not None and said.revision == gradual.revision and said.number > gradual.step:
        if said.number >= ALL_STEPS:
            thought.function = rollout.follow(thought.function, {}, now)
        else:
            thought.function = rollout.proceed(thought.function, gradual.revision, gradual.step + 1, now)


def _move_traffic(thought: _Rolling, observed: Observed, now: float, ready_within_s: float) -> None:
    if not thought.rolls:
        return
    newest = thought.newest.name
    ready = observed.ready.get(newest, 0)
    serving = replicas_of(observed.objects.get(("Deployment", thought.function.serving.name))) or 0
    if rollout.may_promote(ready=ready, wanted=rollout.needed(thought.function, serving)):
        thought.function = rollout.promote(thought.function, now)
    elif not ready and now >= (read_time(thought.rollout.since) or now) + ready_within_s:
        why = observed.trouble.get(newest) or f"not ready within {ready_within_s:.0f} s"
        thought.rollout = msgspec.structs.replace(thought.rollout, failure=f"{newest}: {why}")


def _counts(thought: _Rolling, observed: Observed, least: int) -> dict[str, int]:
    """Return how many pods each live revision should have."""
    counts: dict[str, int] = {}
    status, function = observed.function.status, thought.function
    serving = function.serving.name
    for target in function.traffic:
        there = replicas_of(observed.objects.get(("Deployment", target.revision)))
        if there is not None:
            counts[target.revision] = there
        elif status.serving_revision == target.revision:  # its Deployment was taken away: as many as it had
            counts[target.revision] = status.replicas
        elif share_of(function.traffic, target.revision):
            counts[target.revision] = max(least, scale_settings(function.spec).initial_replicas)
        else:
            counts[target.revision] = 0  # only tagged: a call starts one
    before = tuple(TrafficTarget(t.revision, t.percent, t.tag) for t in status.traffic)
    if before and before != function.traffic:  # calls move: each revision has its share of all pods before they come
        held = counts | {t.revision: replicas_of(observed.objects.get(("Deployment", t.revision))) or 0 for t in before}
        moved = rollout.counts(msgspec.structs.replace(function, traffic=before), function, held, {})
        counts = {name: moved[name] for name in counts}
    if thought.pinned is not None:
        counts |= _pinned(thought.pinned, function, counts, observed)
    if thought.rolls:
        there = replicas_of(observed.objects.get(("Deployment", thought.newest.name)))
        counts[thought.newest.name] = max(rollout.needed(function, counts[serving]), least if there is None else there)
    return counts


def _pinned(replicas: int, function: Function, there: Mapping[str, int], observed: Observed) -> dict[str, int]:
    """Return how many of the pods that the function is pinned to each revision has. Until all have theirs ready, as when calls
    have just moved, one keeps those that are `there`."""
    parts = parts_of(function.traffic, replicas)
    if all(observed.ready.get(name, 0) >= part for name, part in parts.items()):
        return parts
    return {name: max(part, min(there[name], replicas)) for name, part in parts.items()}


def _scaled(observed: Observed, counts: Mapping[str, int]) -> dict[str, int]:
    """Return the counts that have to be written: a new Deployment has one pod until it is told otherwise."""
    there = {name: replicas_of(observed.objects.get(("Deployment", name))) for name in counts}
    return {name: n for name, n in counts.items() if n != (1 if there[name] is None else there[name])}


def _unwanted(observed: Observed, wanted: list[Manifest]) -> tuple[tuple[ObjectKey, ...], dict[str, int]]:
    """Return what is to be removed now, and which Deployments are to fall to zero before."""
    keys = {_key(manifest) for manifest in wanted}
    gone: list[ObjectKey] = []
    stopping: dict[str, int] = {}
    for key, held in observed.objects.items():
        kind, name = key
        if key in keys:
            continue
        if kind == "Deployment":
            if replicas_of(held):
                stopping[name] = 0
            elif _has_no_pods(held):
                gone += [key, *(k for k in (("Service", service_name(name)),) if k in observed.objects)]
        elif kind != "Service" or ("Deployment", held["spec"]["selector"].get(REVISION_LABEL, "")) not in observed.objects:
            gone.append(key)
    return tuple(dict.fromkeys(gone)), stopping


def _has_no_pods(deployment: Manifest) -> bool:
    status = deployment.get("status", {})
    return not status.get("replicas") and status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]


def _again_s(thought: _Rolling, now: float, ready_within_s: float) -> float | None:
    return max(0.0, (read_time(thought.rollout.since) or now) + ready_within_s - now) if thought.rolls else None


def _is_live(thought: _Rolling, revision: str) -> bool:
    return thought.function.routes_to(revision) or (thought.rolls and revision == thought.newest.name)


def _key(manifest: Manifest) -> ObjectKey:
    return manifest["kind"], manifest["metadata"]["name"]
