"""What a deploy on this machine may ask for, and the record that follows from it. Pure.

A record says which revisions there are and how many replicas each should have.
"""

from __future__ import annotations

import msgspec

from orchestration import rollout
from orchestration.local.limits import check_resources
from orchestration.local.store import Record
from orchestration.names import check_function_name
from orchestration.scaling_labels import scale_settings
from orchestration.settings import InvalidSetting, wants_zygote
from orchestration.spec import FunctionSpec


def check_deploy(spec: FunctionSpec) -> None:
    """See that a spec says what can be carried out. Raises names.InvalidName, InvalidSetting."""
    check_function_name(spec.service)
    scale_settings(spec)
    wants_zygote(spec.labels, spec.annotations)
    check_resources("limits", spec.limits)
    check_resources("requests", spec.requests)
    for key, value in (spec.env_vars or {}).items():
        if not key or "=" in key or "\0" in key + value:
            raise InvalidSetting(f"environment variable {key!r}: a name may not be empty or hold '=', nothing may hold NUL")


def first_record(spec: FunctionSpec, bundle: str, now: float) -> Record:
    """Return the record of a function that is new, with the bundle of that digest."""
    function, settings = rollout.deploy(None, spec, bundle, now), scale_settings(spec)
    least = max(1, settings.min_replicas)
    return Record(function, {function.newest.name: max(least, settings.initial_replicas)}, {}, 0, 0)


def next_record(current: Record, spec: FunctionSpec, bundle: str, now: float, trouble: str) -> Record:
    """Return the record after another deploy; `trouble` is what keeps the newest revision until now from being ready."""
    function = rollout.deploy(current.function, spec, bundle, now)
    least = max(1, scale_settings(spec).min_replicas)
    told = rollout.superseded(current.function, function, trouble) | current.failures
    failures = {r.name: told[r.name] for r in function.revisions if r.name in told}
    newest = function.newest.name
    failures.pop(newest, None)
    wanted = rollout.counts(current.function, function, current.wanted, failures)
    if function.rolling:  # it rolls out, or it is tried again: at least one starts, so that a broken one is seen
        wanted[newest] = rollout.needed(function, max(least, wanted.get(function.serving.name, 0)))
    return msgspec.structs.replace(current, function=function, wanted=wanted, failures=failures)
