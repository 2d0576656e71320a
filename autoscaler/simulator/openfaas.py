"""OpenFaaS's autoscaler at work: calls a second from Prometheus, looked at each ten seconds; a fixed idle time.

From the behaviour of OpenFaaS Pro's documents: replicas = ceil(load / (target x proportion)) within min and max, never zero by
that; zero when no call began for the idle time; a call at zero sets max(min, 1). The load it knows is that of the last
scrapes, so what happened since the last look is not seen before the next one.
"""

from __future__ import annotations

from math import ceil, floor, inf
from typing import Final

from autoscaler.decider import Decider
from orchestration.load import LoadSample

LOOK_EVERY_S: Final = 10.0
"""Scrape 5 s, rule evaluation and loop: about so long in all."""


class OpenFaaS:
    """Takes the settings of `decider` and nothing else of it."""

    def __init__(self, decider: Decider, starts_at: float) -> None:
        self._settings = decider.settings
        self._arrivals = 0
        self._counted_since = 0.0
        self._called_at = -inf
        self._queued = 0
        self._wanted = self.initial = 0 if self._settings.zero else max(1, self._settings.min_replicas)
        self.look_at = inf

    def observe(self, sample: LoadSample, now: float) -> bool:
        """Take a sample; returns whether a call waits at zero, which is the one thing that is acted on at once."""
        self._arrivals += sample.arrivals
        self._queued = sample.queued
        if sample.arrivals:
            self._called_at = now
            if (look_at := _look_after(now)) < self.look_at:
                self.look_at, self._counted_since = look_at, now
        return self._wanted == 0 and sample.queued > 0

    def replicas_changed(self) -> bool:
        """A look sees it."""
        return False

    def decide(self, now: float, *, wanted: int, ready: int, starting: int) -> int:
        """Return the count that the calls of the last look's time ask for."""
        self._wanted = self._count(now, wanted)
        return self._wanted

    def _count(self, now: float, wanted: int) -> int:
        settings = self._settings
        least = max(1, settings.min_replicas)
        if wanted == 0:
            self.look_at = _look_after(now) if self._queued else inf
            return least if self._queued else 0
        if now < self.look_at:
            return wanted
        if settings.zero and now - self._called_at >= settings.zero_after_s:
            self.look_at = inf
            return 0
        rate = self._arrivals / max(LOOK_EVERY_S, now - self._counted_since)
        self._arrivals, self._counted_since = 0, now
        count = min(max(least, ceil(rate / settings.aim)), settings.max_replicas)
        self.look_at = _look_after(now)
        if not rate and count == least:  # nothing changes before the next call, or before it has been idle for long enough
            self.look_at = max(self.look_at, self._called_at + settings.zero_after_s) if settings.zero else inf
        return count

    def expect(self, at: float, lead_s: float) -> None:
        """Its timers call through the gateway like everyone."""


def _look_after(now: float) -> float:
    return (floor(now / LOOK_EVERY_S) + 1) * LOOK_EVERY_S
