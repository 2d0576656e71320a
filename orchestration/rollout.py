"""How deploys and tables of traffic become traffic, as pure functions.

A deploy adds a revision (or none, when nothing that makes one changed). When enough of its replicas are ready it becomes
`@latest`: calls that follow that move to it, at once or step by step (`gradual`); until then, and for ever when it never is
ready, what served serves. A table that names revisions moves with no deploy. Times are Unix seconds.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from math import ceil
from typing import Final

import msgspec

from orchestration.function import Function
from orchestration.gradual import GradualRollout, gradual_settings
from orchestration.revision import Revision, make_revision, revisions_kept
from orchestration.spec import FunctionSpec
from orchestration.traffic import LATEST, Table, TrafficTarget, all_to, check_table, follows, share_of, tags_of

READY_WITHIN_S = 120.0
ALL: Final = 100


class Phase(enum.StrEnum):
    """Where a function's newest revision is."""

    PROGRESSING = "Progressing"
    READY = "Ready"
    FAILED = "Failed"


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    """A phase and, when there is more to say, one line for people."""

    phase: Phase
    message: str = ""


class NothingToMove(Exception):
    """There is no revision that calls could move to; the message says why."""


class Outdated(Exception):
    """The table was changed by somebody else since it was looked at; the message says what holds now."""


def deploy(current: Function | None, spec: FunctionSpec, bundle: str, now: float) -> Function:
    """Return the function after deploying `spec` with the bundle of digest `bundle` at `now`.

    The first revision gets the traffic at once, so that early calls wait for it instead of finding nothing. A gradual rollout
    that is under way ends where it began: what was proven serves until the newest is ready. Raises settings.InvalidSetting.
    """
    gradual_settings(spec)
    if current is None:
        first = make_revision(spec, bundle, 1, now)
        return Function(
            spec=spec,
            generation=1,
            revisions=(first,),
            traffic=all_to(first.name),
            created_at=now,
            updated_at=now,
            latest=first.name,
        )
    candidate = make_revision(spec, bundle, current.newest.number + 1, now)
    is_new = candidate.identity != current.newest.identity
    deployed = msgspec.structs.replace(
        current,
        spec=spec,
        generation=current.generation + 1,
        revisions=(*current.revisions, candidate) if is_new else current.revisions,
        latest=current.latest_ready,
        gradual=None if is_new else current.gradual,
        updated_at=now,
    )
    return _kept(_resolved(deployed))


def promote(function: Function, now: float) -> Function:
    """Return the function whose newest revision has become ready: it is `@latest`, or on its way there."""
    settings = gradual_settings(function.spec)
    before = function.latest_ready
    moves = share_of(function.split, LATEST) and before != function.newest.name
    gradual = None
    if settings.duration_s and moves:
        gradual = GradualRollout(function.newest.name, 0, settings.steps[0], now)
    latest = before if gradual is not None else function.newest.name
    return _resolved(msgspec.structs.replace(function, latest=latest, gradual=gradual, updated_at=now))


def proceed(function: Function, revision: str, step: int, now: float) -> Function:
    """Return the function whose gradual rollout of `revision` has got to `step`; past the last one, to its end.

    Returns it as it is when it is not at the step before, so that it may be told twice.
    """
    gradual = function.gradual
    if gradual is None or gradual.revision != revision or gradual.step != step - 1:
        return function
    steps = gradual_settings(function.spec).steps
    if step >= len(steps):
        return _resolved(msgspec.structs.replace(function, latest=revision, gradual=None, updated_at=now))
    percent = max(gradual.percent, steps[step])  # a deploy may have changed the steps
    return _resolved(msgspec.structs.replace(function, gradual=GradualRollout(revision, step, percent, now), updated_at=now))


def abort(function: Function, revision: str, now: float) -> Function:
    """Return the function whose gradual rollout of `revision` ends where it began; as it is when there is none."""
    if function.gradual is None or function.gradual.revision != revision:
        return function
    return _resolved(msgspec.structs.replace(function, gradual=None, updated_at=now))


def set_traffic(function: Function, table: Table, now: float, *, known: Table | None = None) -> Function:
    """Return the function with the table that was asked for. A gradual rollout goes on while `@latest` has a share.

    `known` is the table that whoever asks has seen. Raises traffic.InvalidTraffic, Outdated.
    """
    if known is not None and known != function.split:
        holds = ", ".join(f"{t.revision}={t.percent}" for t in function.split)
        raise Outdated(f"traffic of {function.id} was changed meanwhile ({holds}): look at it again")
    split = check_table(table, [r.name for r in function.revisions])
    gradual = function.gradual if follows(split) else None
    return _resolved(msgspec.structs.replace(function, split=split, gradual=gradual, updated_at=now))


def roll_back(function: Function, to: str | None, failures: Mapping[str, str], now: float) -> Function:
    """Return the function with all calls on revision `to`, or on the one before the one that serves; tags stay.

    `failures` says of revisions why they never became ready or were given up (`superseded` ones too): they are passed over.
    Deploys move no calls from then on. Raises NothingToMove, traffic.InvalidTraffic.
    """
    if to is None:
        to = _before(function, failures)
    return set_traffic(function, (TrafficTarget(to, ALL), *_tags(function)), now)


def follow(function: Function, failures: Mapping[str, str], now: float) -> Function:
    """Return the function with all calls on `@latest`, which the newest revision is at once if it is ready; tags stay.

    Raises NothingToMove when the newest revision failed.
    """
    if why := failures.get(function.newest.name):
        raise NothingToMove(f"{why}; a table that names {function.newest.name} moves calls there all the same")
    latest = function.gradual.revision if function.gradual is not None else function.latest_ready
    split = (TrafficTarget(LATEST, ALL), *_tags(function))
    return _resolved(msgspec.structs.replace(function, split=split, latest=latest, gradual=None, updated_at=now))


def superseded(before: Function, after: Function, trouble: str = "") -> dict[str, str]:
    """Return why the revision that was the newest is passed over when calls go back: a deploy came before it had taken over.
    `trouble` is what kept it from that until then, as far as is known. Empty where it had, or no revision was made."""
    newest = before.newest.name
    if newest in (after.newest.name, before.latest_ready):
        return {}
    return {newest: superseded_by(newest, after.newest.name, trouble)}


def superseded_by(revision: str, newer: str, trouble: str = "") -> str:
    """Return what is told of a revision that a newer one came before, and that had `trouble` until then."""
    return f"{revision}: {f'{trouble}; ' if trouble else ''}{newer} was deployed before it had taken over"


def may_promote(*, ready: int, wanted: int) -> bool:
    """Whether the newest revision can take over: all the replicas that it needs (`wanted`, at least one) are ready."""
    return ready >= max(1, wanted)


def needed(function: Function, serving_wanted: int) -> int:
    """Return how many replicas the newest revision needs before it is promoted: its share of those that serve now."""
    share = share_of(promote(function, function.updated_at).traffic, function.newest.name)
    return max(1, ceil(serving_wanted * share / ALL))


def counts(before: Function, after: Function, wanted: Mapping[str, int], failures: Mapping[str, str]) -> dict[str, int]:
    """Return how many replicas each kept revision should have once calls go as `after` says.

    `wanted` are the counts until now, `before` is how calls went. Each revision has its share of the replicas that all calls
    need; one that is only tagged keeps what it has, one that no call can come to has none.

    What all calls need is read off the revision that most of them go to, and a share of it is rounded to the nearest: a
    replica is filled to 70 % at most unless it is set otherwise. The sum of all counts, each rounded up, would say more each
    time that calls move, up to four replicas at the end of a rollout where one did. One replica is the least that there can
    be: it may be idle or full, and is taken for half full. So one each at 50 % are one at 100 %, where taking it for full
    would start a second one that the autoscaler ends at once; with the load of two it starts that one itself.
    """
    shares = {t.revision: share_of(before.traffic, t.revision) for t in before.traffic if t.percent}
    total = sum(wanted.get(name, 0) for name in shares)
    most = max(shares, key=lambda name: (shares[name], wanted.get(name, 0)))
    found = {}
    for revision in after.revisions:
        name, share = revision.name, share_of(after.traffic, revision.name)
        count = wanted.get(name, 0)
        if share:
            halves = 2 * wanted.get(most, 0) - (wanted.get(most, 0) == 1)
            by_most = (halves * share + shares[most]) // (2 * shares[most])
            count = max(count, min(ceil(total * share / ALL), max(by_most, min(total, 1))))
        elif not after.routes_to(name) and not (after.rolling and name == after.newest.name and name not in failures):
            count = 0
        found[name] = count
    return found


def told(function: Function) -> str:
    """Return what is to be said of traffic that is on its way, or that a deploy does not move; empty: nothing."""
    if (gradual := function.gradual) is not None:
        share = share_of(function.traffic, gradual.revision)
        steps = len(gradual_settings(function.spec).steps)
        return f"{gradual.revision} gets {share} % of the calls (step {gradual.step + 1} of {steps})"
    if not share_of(function.traffic, function.newest.name):
        tags = tags_of(function.traffic, function.newest.name)
        gets = f"only calls that name its tag {' or '.join(tags)}" if tags else "no calls"
        return f"{function.newest.name} gets {gets}: traffic is set by hand (faas promote {function.spec.service} moves it)"
    return ""


def _resolved(function: Function) -> Function:
    """Return the function with what its table comes to now."""
    gradual, latest = function.gradual, function.latest_ready
    found: list[TrafficTarget] = []
    for target in function.split:
        if target.revision != LATEST:
            found.append(target)
        elif gradual is None or not target.percent:
            found.append(TrafficTarget(latest, target.percent, target.tag))
        else:
            moved = max(1, target.percent * gradual.percent // ALL)
            if target.percent > moved or target.tag is not None:  # a tag comes last: with it all its calls move
                found.append(TrafficTarget(latest, target.percent - moved, target.tag))
            found.append(TrafficTarget(gradual.revision, moved))
    merged: dict[tuple[str, str | None], int] = {}
    for target in found:
        key = (target.revision, target.tag)
        merged[key] = merged.get(key, 0) + target.percent
    traffic = tuple(TrafficTarget(revision, percent, tag) for (revision, tag), percent in merged.items())
    return msgspec.structs.replace(function, traffic=traffic, latest=latest)


def _kept(function: Function) -> Function:
    """Return the function without old revisions: those that calls can come to stay, and the newest few."""
    needed_ones = {t.revision for t in (*function.traffic, *function.split)} | {function.latest_ready}
    oldest = function.revisions[-revisions_kept(function.spec) :][0].number
    kept = tuple(r for r in function.revisions if r.number >= oldest or r.name in needed_ones)
    return msgspec.structs.replace(function, revisions=kept)


def _before(function: Function, failures: Mapping[str, str]) -> str:
    if function.gradual is not None:
        return function.latest_ready
    serving: Revision = function.serving
    older = [r for r in function.revisions if r.number < serving.number and r.name not in failures]
    if not older:
        raise NothingToMove(f"no revision is older than {serving.name}, which serves: there is nothing to go back to")
    return older[-1].name


def _tags(function: Function) -> tuple[TrafficTarget, ...]:
    """Return the tags of a function as targets without a share; `@latest`'s as well."""
    return tuple(TrafficTarget(t.revision, 0, t.tag) for t in function.split if t.tag is not None)
