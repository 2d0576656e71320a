"""What follows from what is there, as a pure function: given these objects, these writes.

A Function whose spec is new gets a revision. A live revision (one with traffic, or the newest while it rolls out) has a
Deployment and a Service. When as many pods of the newest are ready as the serving one has, traffic moves; when none is ready
by the deadline, it stays, and the status says why. A revision that is not live any more is scaled to zero, and its Deployment
removed when its pods have gone.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import msgspec

from orchestration import rollout
from orchestration.function import Function
from orchestration.gradual import GradualRollout
from orchestration.kubernetes.drift import says
from orchestration.kubernetes.names import FUNCTION_LABEL, REVISION_LABEL
from orchestration.kubernetes.pod_state import read_time
from orchestration.kubernetes.record import Record, content_of, domain_spec
from orchestration.kubernetes.render import render, service_name
from orchestration.kubernetes.resource import Condition, Failed, FunctionResource, Manifest, Rollout, Status, TrafficEntry
from orchestration.kubernetes.traffic import ALL_STEPS, allowed_step, given_up, split_of
from orchestration.revision import Revision
from orchestration.rollout import READY_WITHIN_S
from orchestration.scaling_labels import scale_settings
from orchestration.settings import InvalidSetting
from orchestration.traffic import InvalidTraffic, TrafficTarget, all_to, follows, share_of

ObjectKey = tuple[str, str]
"""`(kind, name)` of an object in the function's namespace."""


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a function. `objects` are those made for it; `ready` and `trouble` are by revision."""

    function: FunctionResource
    records: tuple[Record, ...] = ()
    objects: Mapping[ObjectKey, Manifest] = {}
    ready: Mapping[str, int] = {}
    trouble: Mapping[str, str] = {}


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
    status = _status(thought, observed, counts, now)
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


def replicas_of(deployment: Manifest | None) -> int | None:
    """Return how many pods a Deployment should have; None where there is none."""
    return None if deployment is None else int(deployment["spec"].get("replicas", 1))


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


def _rollout(resource: FunctionResource, newest: str, now: float) -> Rollout:
    """Return the rollout under way; one that was given up begins anew with each change of the spec."""
    held = resource.status.rollout
    generation = resource.metadata.generation
    if held is not None and held.revision == newest:
        stays = held.failure == given_up(resource, newest) if held.aborted else held.generation == generation
        if held.failure is None or stays:
            return held
    return Rollout(revision=newest, generation=generation, since=_stamp(now))


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
        counts[serving] = thought.pinned
    if thought.rolls:
        there = replicas_of(observed.objects.get(("Deployment", thought.newest.name)))
        counts[thought.newest.name] = max(rollout.needed(function, counts[serving]), least if there is None else there)
    return counts


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


def _status(thought: _Rolling, observed: Observed, counts: Mapping[str, int], now: float) -> Status:
    resource, function = observed.function, thought.function
    serving, newest = function.serving.name, thought.newest.name
    wanted, ready = counts[serving], observed.ready.get(serving, 0)
    trouble = observed.trouble.get(serving, "")
    told: dict[str, tuple[str, str, str]] = {"Progressing": ("False", "Settled", ""), "Degraded": ("False", "AsExpected", "")}
    if thought.rolls:
        of = f"{newest}: {observed.ready.get(newest, 0)} of {counts[newest]} pods are ready"
        told["Progressing"] = ("True", "RollingOut", observed.trouble.get(newest) or of)
    elif function.gradual is not None:
        told["Progressing"] = ("True", "RollingOut", rollout.told(function))
    elif ready < wanted and not trouble:
        told["Progressing"] = ("True", "Starting", f"{ready} of {wanted} pods are ready")
    if wrong := _wrong_table(resource, function):
        told["Degraded"] = ("True", "TrafficRefused", wrong)
    elif thought.rollout.failure is not None:
        told["Degraded"] = ("True", "RolloutFailed", thought.rollout.failure)
    elif trouble and ready < wanted:
        told["Degraded"] = ("True", "PodsFail", trouble)
    if not wanted:
        told["Ready"] = ("True", "Idle", "no pod is wanted; a call starts one" if thought.pinned is None else "pinned at zero")
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
        rollout=_progress(thought),
        failed=_failed(thought, resource.status),
        conditions=_conditions(resource, told, now),
    )


def _failed(thought: _Rolling, status: Status) -> tuple[Failed, ...]:
    """Return what is told of older revisions that are kept and never took over; the newest one's story is the rollout's."""
    told = {failed.revision: failed.why for failed in status.failed}
    if (held := status.rollout) is not None and status.latest_revision == held.revision:
        if held.failure is not None:
            told[held.revision] = held.failure
        elif status.latest_ready_revision not in ("", held.revision):
            told[held.revision] = rollout.superseded_by(held.revision, thought.newest.name)
    kept = [revision.name for revision in thought.function.revisions[:-1]]
    return tuple(Failed(revision=name, why=told[name]) for name in kept if name in told)


def _wrong_table(resource: FunctionResource, function: Function) -> str:
    try:
        split_of(resource, [revision.name for revision in function.revisions])
    except InvalidTraffic as error:
        return f"spec.traffic: {error}; calls go where they went"
    return ""


def _progress(thought: _Rolling) -> Rollout:
    gradual = thought.function.gradual
    if gradual is None:
        return msgspec.structs.replace(thought.rollout, step=None, percent=None, step_since=None)
    return msgspec.structs.replace(
        thought.rollout, step=gradual.step, percent=gradual.percent, step_since=_stamp(gradual.since)
    )


def _conditions(resource: FunctionResource, told: Mapping[str, tuple[str, str, str]], now: float) -> tuple[Condition, ...]:
    """Return the conditions; the time is when the status last changed, not the message."""
    held = {condition.type: condition for condition in resource.status.conditions}
    found = []
    for kind, (status, reason, message) in sorted(told.items()):
        before = held.get(kind)
        since = before.last_transition_time if before is not None and before.status == status else _stamp(now)
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


def _again_s(thought: _Rolling, now: float, ready_within_s: float) -> float | None:
    return max(0.0, (read_time(thought.rollout.since) or now) + ready_within_s - now) if thought.rolls else None


def _is_live(thought: _Rolling, revision: str) -> bool:
    return thought.function.routes_to(revision) or (thought.rolls and revision == thought.newest.name)


def _key(manifest: Manifest) -> ObjectKey:
    return manifest["kind"], manifest["metadata"]["name"]


def _stamp(now: float) -> str:
    return datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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
