"""Knative's autoscaler at work: the same rules as the decider's first, seen late.

What it is from knative.dev/serving's behaviour: the activator tells of the first call at zero at once, as one call; of all
else in reports each second; the decision is made each two seconds. So a burst at zero first asks for one replica, and the
rest of it is seen one report and one tick later. Calls that wait are not looked at by themselves, only as part of the
averages.

Zero comes when the stable window is empty (60 s), and the revision was marked inactive and looked at again (3 to 6 s): 64 s.
A pod that is let go drains for 30 s more, holding its memory. Where the activator had left the path (not at the scale of one or
two replicas) another 30 s pass; that is left out, in Knative's favour.
"""

from __future__ import annotations

from collections import deque
from math import ceil, floor, inf
from typing import Final

import msgspec

from autoscaler.decider import Decider
from orchestration.load import LoadSample

TICK_S: Final = 2.0
ZERO_AFTER_S: Final = 64.0
DRAIN_S: Final = 30.0
_PHASE_S: Final = 0.5
"""Reports come on the full second, ticks half a second after it: from a call to the decision that sees it 0.5 to 3 s, 1.5 s in
the mean, as with any two clocks that know nothing of each other."""

_LEAST_S: Final = 1e-3


class Knative:
    """Feeds the decider late. What waits is told as calls in flight, so that only the averages ask for replicas."""

    def __init__(self, decider: Decider, starts_at: float) -> None:
        self._decider = decider
        self._starts_at = starts_at
        self._reports: deque[LoadSample] = deque()
        self._wanted = 0
        self.initial = 0 if decider.settings.zero else max(1, decider.settings.min_replicas)
        self.look_at = inf

    def observe(self, sample: LoadSample, now: float) -> bool:
        """Take a sample; returns whether it pokes the decider: a call at zero does."""
        load = sample.in_flight + sample.queued
        if self._wanted == 0 and load:
            first = msgspec.structs.replace(sample, concurrency=1.0, arrivals=1, in_flight=0, queued=1, interval_s=0.0)
            self._decider.observe(first, now)
            self._reports.clear()
            return True
        self._reports.append(msgspec.structs.replace(sample, in_flight=min(1, load), queued=0))
        self.look_at = min(self.look_at, _tick_after(now))
        return False

    def replicas_changed(self) -> bool:
        """A tick sees it."""
        return False

    def decide(self, now: float, *, wanted: int, ready: int, starting: int) -> int:
        """Return the count for what was reported by now."""
        while self._reports and ceil(self._reports[0].at) <= now:
            report = self._reports.popleft()
            self._decider.observe(report, report.at)
        seen = now if self._wanted == 0 else floor(now) - _LEAST_S  # a second that is not over is not in its averages
        self._wanted = self._decider.decide(seen, self._starts_at + now, wanted=wanted, ready=ready, starting=starting).replicas
        self.look_at = _tick_after(now) if self._wanted or self._reports else inf
        if self._wanted == 0 and not self._reports:
            self.look_at = self._decider.look_at
        return self._wanted

    def expect(self, at: float, lead_s: float) -> None:
        """Knative knows no timers of its own."""


def _tick_after(now: float) -> float:
    tick = floor((now - _PHASE_S) / TICK_S) * TICK_S + _PHASE_S
    return tick + TICK_S
