"""How many replicas the averages of two windows ask for: Knative's rules, from numbers alone.

Source: knative.dev/serving, pod autoscaler (KPA), restated from its behaviour. With what one replica should have, T:

1. The stable window asks for ceil(S / T), the panic window for ceil(P / T). Both stay within what one step may change:
   at most `up_rate` times the ready replicas, at least these divided by `down_rate`.
2. If ceil(P / T) is `panic_threshold` times the ready replicas or more, the revision is in panic, and stays there until
   that has not been so for a whole stable window. In panic the larger of both counts, and the count never falls.
   Example: 1 ready, T = 7, P = 70 → 10 ≥ 2 x 1 → panic, 10 replicas at once.
3. The largest count of the last `down_delay_s` is kept.
"""

from __future__ import annotations

from math import ceil, floor, inf
from typing import Final, NamedTuple

from autoscaler.windows import Largest
from orchestration.decisions import Rule
from orchestration.scaling import ScaleSettings

STEP_S: Final = 2.0
"""Knative's tick: what a rate limit is per, and the grain of the scale-down delay."""


class Recommendation(NamedTuple):
    """`replicas` to have, by which `rule`."""

    replicas: int
    rule: Rule


class Recommender:
    """The memory of one revision between two recommendations: whether it is in panic, and the delay's maximum.

    `kept` above 1 is how many replicas there were when the memory was lost: nothing is taken away for a stable window.
    """

    __slots__ = ("_delayed", "_panic_max", "_panic_seen")

    def __init__(self, now: float, kept: int = 0) -> None:
        self._panic_seen = now if kept > 1 else -inf
        self._panic_max = kept if kept > 1 else 0
        self._delayed: Largest | None = None

    @property
    def panicking(self) -> bool:
        """Whether the count may not fall."""
        return self._panic_seen != -inf

    def panic(self, now: float, replicas: int) -> None:
        """Enter or prolong panic: for a stable window the count does not fall below `replicas`."""
        self._panic_seen = now
        self._panic_max = max(self._panic_max, replicas)

    def calm(self) -> None:
        """Leave panic, and forget what the delay holds."""
        self._panic_seen = -inf
        self._panic_max = 0
        self._delayed = None

    def recommend(
        self,
        settings: ScaleSettings,
        now: float,
        *,
        ready: int,
        stable: float,
        panic: float,
        reachable: bool = True,
    ) -> Recommendation:
        """Return the count for averages `stable` and `panic` of the two windows, `ready` replicas at `now` (seconds).

        A revision that no route points to (not `reachable`) may lose all its replicas in one step.
        """
        base, aim = max(1, ready), settings.aim
        highest = ceil(settings.up_rate * base)
        lowest = floor(base / settings.down_rate) if reachable else 0
        asked, asked_in_panic = ceil(stable / aim), ceil(panic / aim)
        count, rule = _within(asked, lowest, highest)
        count_in_panic, _ = _within(asked_in_panic, lowest, highest)
        if asked > 0 and count < settings.activation_replicas:
            count, rule = settings.activation_replicas, Rule.ACTIVATION
        if asked_in_panic > 0:
            count_in_panic = max(count_in_panic, settings.activation_replicas)

        if asked_in_panic / base >= settings.panic_threshold:
            self._panic_seen = now
        elif self.panicking and self._panic_seen + settings.window_s < now:
            self._panic_seen, self._panic_max = -inf, 0
        if self.panicking:
            self._panic_max = max(self._panic_max, count, count_in_panic)
            if self._panic_max > count:
                count, rule = self._panic_max, Rule.PANIC

        if settings.down_delay_s > 0 and reachable:
            step, length = floor(now / STEP_S), ceil(settings.down_delay_s / STEP_S)
            if self._delayed is None or self._delayed.length != length:
                self._delayed = Largest(length)
            self._delayed.record(step, count)
            if (largest := self._delayed.largest(step)) > count:
                count, rule = largest, Rule.DELAY
        return Recommendation(count, rule)

    @staticmethod
    def spare(settings: ScaleSettings, ready: int, panic: float) -> float:
        """Return how much more load fits than a burst of `burst_capacity` needs: Knative's excess burst capacity."""
        if settings.burst_capacity <= 0:
            return settings.burst_capacity and -1
        return floor(ready * settings.target - settings.burst_capacity - panic)


def _within(count: int, lowest: int, highest: int) -> tuple[int, Rule]:
    if count > highest:
        return highest, Rule.RATE
    return (lowest, Rule.RATE) if count < lowest else (count, Rule.STABLE)
