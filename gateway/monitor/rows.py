"""One line for each function: what `faas top` and the page's list show."""

from __future__ import annotations

from collections import Counter

import msgspec

from orchestration.orchestrator import FunctionStatus
from orchestration.replica import ReplicaState
from orchestration.rollout import Phase


class FunctionRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A function in figures.

    `desired` replicas of the serving revision should be, `ready` of them are; `starting`, `failing` and `draining` are those of
    all revisions. `calls` and `coldStarts` count since the platform started, `rate` is calls per second over the last ten,
    `minuteCalls`, `minuteErrors` (status 5xx) and the percentiles are about the last 50 to 60 seconds. `recent` is how many
    calls ended in each of the last 60 seconds, empty when none did; only a `state` event has it.
    """

    name: str
    namespace: str
    image: str
    phase: Phase
    message: str
    desired: int
    ready: int
    starting: int
    failing: int
    draining: int
    calls: int
    cold_starts: int
    in_flight: int
    waiting: int
    rate: float
    minute_calls: int
    minute_errors: int
    p50_ms: float | None
    p99_ms: float | None
    recent: list[int] | msgspec.UnsetType = msgspec.UNSET


class States(msgspec.Struct, frozen=True):
    """How many replicas of a function are in which state."""

    starting: int
    failing: int
    draining: int


def states(status: FunctionStatus) -> States:
    """Count the replicas of all revisions."""
    found = Counter(replica.state for replica in status.instances)
    return States(found[ReplicaState.PENDING], found[ReplicaState.CRASH_LOOP], found[ReplicaState.DRAINING])


def milliseconds(seconds: float | None) -> float | None:
    """Return what people read: three digits after the point are microseconds."""
    return None if seconds is None else round(seconds * 1000, 3)
