"""Traffic as a cluster keeps it: the table that was asked for is `spec.traffic`, what it comes to `status.traffic`.

Only the controller writes a status; so how far a gradual rollout may go, and that one is given up, the gateway says in
annotations of the Function, which the controller reads (`plan`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

import msgspec

from orchestration.kubernetes.names import ROLLOUT_ABORT_ANNOTATION, ROLLOUT_STEP_ANNOTATION
from orchestration.kubernetes.resource import FunctionResource, Manifest, TrafficRequest
from orchestration.traffic import FOLLOWING, LATEST, Table, TrafficTarget, check_table

ALL_STEPS: Final = 1_000
"""A step that is beyond the last one of any rollout."""


class Step(NamedTuple):
    """A gradual rollout of `revision` may go to step `number`."""

    revision: str
    number: int


def split_of(resource: FunctionResource, known: Collection[str]) -> Table:
    """Return the table that a Function asks for. Raises InvalidTraffic."""
    if not resource.spec.traffic:
        return FOLLOWING
    asked = (TrafficTarget(t.revision or LATEST, t.percent, t.tag) for t in resource.spec.traffic)
    return check_table(asked, known)


def requested(table: Table) -> list[Manifest]:
    """Return what `spec.traffic` says for a table."""
    return [
        msgspec.to_builtins(
            TrafficRequest(
                revision=None if target.revision == LATEST else target.revision,
                latest=target.revision == LATEST,
                percent=target.percent,
                tag=target.tag,
            )
        )
        for target in table
    ]


def allowed_step(resource: FunctionResource) -> Step | None:
    """Return how far the gateway has said that a rollout may go."""
    revision, _, number = resource.metadata.annotations.get(ROLLOUT_STEP_ANNOTATION, "").rpartition("/")
    return Step(revision, int(number)) if revision and number.isdecimal() and len(number) < 6 else None


def given_up(resource: FunctionResource, revision: str) -> str | None:
    """Return why the gateway has given up a revision; None where it has not."""
    said = resource.metadata.annotations.get(ROLLOUT_ABORT_ANNOTATION, "")
    return said if said.startswith(f"{revision}: ") else None
