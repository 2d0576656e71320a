"""Policies simple enough to compute by hand what they cost."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from math import inf
from typing import Any

from autoscaler.simulator.distribution import Distribution
from autoscaler.simulator.engine import Engine, Model, Outcome
from autoscaler.simulator.measures import Measures
from autoscaler.simulator.trace import Call, Listed, Trace
from orchestration.load import LoadSample


class Fixed:
    """Always `replicas`."""

    look_at = inf

    def __init__(self, replicas: int) -> None:
        self.initial = replicas

    def observe(self, sample: LoadSample, now: float) -> bool:
        return True

    def replicas_changed(self) -> bool:
        return False

    def decide(self, now: float, *, wanted: int, ready: int, starting: int) -> int:
        return self.initial

    def expect(self, at: float, lead_s: float) -> None:
        pass


class OnDemand:
    """As many as `per` calls each need now; none after `idle_s` without a call."""

    initial = 0

    def __init__(self, idle_s: float, per: int = 1) -> None:
        self.look_at = inf
        self.expected: list[tuple[float, float]] = []
        self._idle_s, self._per = idle_s, per
        self._load = 0
        self._zero_at = inf

    def observe(self, sample: LoadSample, now: float) -> bool:
        self._load = sample.in_flight + sample.queued
        if self._load or sample.arrivals or sample.concurrency:
            self._zero_at = now + self._idle_s
        return True

    def replicas_changed(self) -> bool:
        return False

    def decide(self, now: float, *, wanted: int, ready: int, starting: int) -> int:
        self.look_at = inf
        needed = -(-self._load // self._per)
        if needed >= wanted or wanted == 0:
            return needed
        if now >= self._zero_at:
            return needed
        self.look_at = self._zero_at
        return wanted

    def expect(self, at: float, lead_s: float) -> None:
        self.expected.append((at, lead_s))


def workload(calls: Sequence[Call], trigger: str = "http", memory_mib: float = 100.0) -> Listed:
    """Return a workload of `(start, run)` calls."""
    return Listed("f", array("d", [s for s, _ in calls]), array("d", [r for _, r in calls]), trigger, memory_mib)


def simulate(
    calls: Sequence[Call], controller: Fixed | OnDemand, *, length_s: float = 100.0, trigger: str = "http", **model: Any
) -> tuple[Measures, list[Outcome], list[LoadSample]]:
    """Run `calls` and return the measures, each call's outcome, and the samples."""
    outcomes: list[Outcome] = []
    samples: list[LoadSample] = []
    settings = Model(**{"start": Distribution.constant(1.0), "limit": 1, **model})
    work = workload(calls, trigger)
    trace = Trace("test", length_s, [work])
    engine = Engine(work, controller, settings, trace, 1, watch=outcomes.append, record=samples.append)
    return engine.run(), outcomes, samples
