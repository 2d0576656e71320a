"""What the autoscaler decided and why: what `faas describe` and the API tell people."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from orchestration.names import FunctionId
from orchestration.scaling import ScaleSettings


class Rule(enum.StrEnum):
    """Which rule gave a count its value: the last one that changed it."""

    STABLE = "stable"  # the load of the stable window
    PANIC = "panic"  # the load of the panic window, or the largest count while in panic
    BACKLOG = "backlog"  # calls that wait now
    ACTIVATION = "activation"  # the least for a function that has any load
    RATE = "rate"  # not faster than so
    DELAY = "delay"  # the largest count of the scale-down delay
    BUSY = "busy"  # calls in flight keep what they need
    MIN = "min"
    MAX = "max"
    INITIAL = "initial"
    SCHEDULE = "schedule"
    TIMER = "timer"  # a call is due
    KEPT = "kept"  # idle, but not for long enough
    IDLE = "idle"  # idle for long enough: zero
    LEARNT = "learnt"  # idle times of the past say so
    STOPPED = "stopped"  # someone scaled it to zero: the next call wakes it
    NO_DATA = "no data"
    STARTS = "starts"  # as many replicas start already as may at a time


class Decision(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`replicas` to have instead of `previous`, and why. `at` is Unix seconds, `reason` one line for people.

    What was known: `ready` and `starting` replicas, calls `in_flight` and `queued`, the metric's averages over the `stable`
    and the `panic` window (None: no data), what one replica should have (`aim`), and for how long nothing was called.
    `spare` is how much more load fits than a burst needs (Knative's excess burst capacity; None: no data).
    """

    at: float
    replicas: int
    previous: int
    rule: Rule
    reason: str
    ready: int
    starting: int
    in_flight: int
    queued: int
    stable: float | None
    panic: float | None
    aim: float
    idle_s: float
    spare: float | None = None


class ScalingFigures(NamedTuple):
    """What is counted of a function's scaling. `decided` counts, by rule, the decisions that changed its replica count.

    `limited`: the load asks for more replicas than the most that the function may have.
    """

    function: FunctionId
    settings: ScaleSettings
    limited: bool
    decided: Mapping[Rule, int]


class Scaling(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A function's scaling: its settings, the newest decision, and the last ones that changed something (newest first).

    `learnt` says in one line what its idle times taught (empty: nothing), `trouble` why its metric is not known (empty: it is).
    """

    settings: ScaleSettings
    latest: Decision | None
    changes: tuple[Decision, ...]
    learnt: str = ""
    trouble: str = ""
