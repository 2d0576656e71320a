"""How many replicas a function should have: one settings object, whatever words its labels used (`scaling_labels`)."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from orchestration.schedule import ScheduledFloor
from orchestration.settings import DEFAULT_CONCURRENCY

HIGHEST_REPLICAS: Final = 10_000
LEAST_TARGET: Final = 0.01


class Metric(enum.StrEnum):
    """What is counted per replica. The number is the unit of `ScaleSettings.target`."""

    CONCURRENCY = "concurrency"  # calls in flight and waiting
    RPS = "rps"  # calls a second
    QUEUE = "queue"  # calls that wait
    CPU = "cpu"  # thousandths of a core
    MEMORY = "memory"  # MiB
    CUSTOM = "custom"  # whatever `query` gives


UNITS: Final = {
    Metric.CONCURRENCY: "calls at a time",
    Metric.RPS: "calls/s",
    Metric.QUEUE: "calls waiting",
    Metric.CPU: "m of CPU",
    Metric.MEMORY: "MiB",
    Metric.CUSTOM: "by the query",
}
"""What stands behind the numbers of a metric, for people."""


class Aggregation(enum.StrEnum):
    """How the seconds of a window become one number (Knative's metric-aggregation-algorithm)."""

    LINEAR = "linear"
    WEIGHTED_EXPONENTIAL = "weighted-exponential"


class ScaleSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=False, weakref=True):
    """How many replicas a function should have. The defaults are those of a function without any label.

    `target` is what one replica takes in full, in the metric's unit; the decider aims at `target * utilisation`. Windows and
    delays are seconds. `initial_replicas` is how many the first revision starts with (0: the floor). `zero_after_s` is how long
    idle before zero; with `learns` it is only where learning starts from. `burst_capacity` is how much a burst may add at once
    before it waits; it is shown, and routes nothing (-1: not looked at).
    """

    min_replicas: int = 1
    max_replicas: int = 20
    initial_replicas: int = 0
    activation_replicas: int = 1
    metric: Metric = Metric.CONCURRENCY
    target: float = float(DEFAULT_CONCURRENCY)
    utilisation: float = 0.7
    query: str = ""
    window_s: float = 60.0
    panic_percent: float = 10.0
    panic_threshold: float = 2.0
    aggregation: Aggregation = Aggregation.LINEAR
    down_delay_s: float = 0.0
    up_rate: float = 1000.0
    down_rate: float = 2.0
    burst_capacity: float = 211.0
    zero: bool = False
    zero_after_s: float = 15 * 60.0
    learns: bool = False
    schedule: tuple[ScheduledFloor, ...] = ()

    @property
    def aim(self) -> float:
        """What one replica should have: `target` times `utilisation`, at least 0.01."""
        return max(LEAST_TARGET, self.target * self.utilisation)

    @property
    def panic_window_s(self) -> float:
        """Whole seconds, at least one (Knative's rule)."""
        return float(max(1, round(self.window_s * self.panic_percent / 100)))
