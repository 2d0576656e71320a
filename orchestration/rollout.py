"""How a deploy becomes traffic, as pure functions.

A deploy adds a revision (or none, when nothing that makes one changed). Traffic moves to it when enough of its
replicas are ready; until then, and for ever when they never are, the previous revision serves.
"""

from __future__ import annotations

import enum

import msgspec

from orchestration.function import Function
from orchestration.revision import Revision, make_revision
from orchestration.spec import FunctionSpec
from orchestration.traffic import all_to

REVISIONS_KEPT = 10
READY_WITHIN_S = 120.0


class Phase(enum.StrEnum):
    """Where a function's newest revision is."""

    PROGRESSING = "Progressing"
    READY = "Ready"
    FAILED = "Failed"


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    """A phase and, when there is more to say, one line for people."""

    phase: Phase
    message: str = ""


def deploy(current: Function | None, spec: FunctionSpec, bundle: str, now: float) -> Function:
    """Return the function after deploying `spec` with the bundle of digest `bundle` at `now` (Unix seconds).

    The first revision gets the traffic at once, so that early calls wait for it instead of finding nothing. Raises
    settings.InvalidSetting.
    """
    if current is None:
        first = make_revision(spec, bundle, 1, now)
        return Function(spec=spec, generation=1, revisions=(first,), traffic=all_to(first.name), created_at=now, updated_at=now)
    candidate = make_revision(spec, bundle, current.newest.number + 1, now)
    revisions = current.revisions if candidate.identity == current.newest.identity else (*current.revisions, candidate)
    return msgspec.structs.replace(
        current, spec=spec, generation=current.generation + 1, revisions=_kept(current, revisions), updated_at=now
    )


def promote(function: Function, now: float) -> Function:
    """Return the function with all traffic on its newest revision."""
    return msgspec.structs.replace(function, traffic=all_to(function.newest.name), updated_at=now)


def may_promote(*, ready: int, wanted: int) -> bool:
    """Whether the newest revision can take over: all the replicas that the old one has (`wanted`, at least one) are ready."""
    return ready >= max(1, wanted)


def _kept(current: Function, revisions: tuple[Revision, ...]) -> tuple[Revision, ...]:
    routed = {t.revision for t in current.traffic}
    oldest = revisions[-REVISIONS_KEPT:][0].number
    return tuple(r for r in revisions if r.number >= oldest or r.name in routed)
