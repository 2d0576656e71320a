"""What a policy cost and what it spared: counts, waits, and replicas over time."""

from __future__ import annotations

from math import exp, log, log1p
from typing import Final

import msgspec

_STEP: Final = log1p(0.01)
SHORTEST_WAIT_S: Final = 1e-6
"""Less is no wait: clocks of the real thing cannot tell."""


class Waits:
    """How long calls waited, to one percent: buckets each 1 % wider than the one before. Any number of calls, few numbers."""

    __slots__ = ("buckets", "count", "longest_s", "none", "total_s")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.none = 0
        self.count = 0
        self.total_s = 0.0
        self.longest_s = 0.0

    def add(self, wait_s: float) -> None:
        """Note one call's wait."""
        self.count += 1
        if wait_s < SHORTEST_WAIT_S:
            self.none += 1
            return
        self.total_s += wait_s
        if wait_s > self.longest_s:
            self.longest_s = wait_s
        bucket = round(log(wait_s) / _STEP)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def merge(self, other: Waits) -> None:
        """Take in what another function's calls waited."""
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        self.none += other.none
        self.count += other.count
        self.total_s += other.total_s
        self.longest_s = max(self.longest_s, other.longest_s)

    def percentile_s(self, percent: float) -> float:
        """Return what `percent` of the calls waited at most (to 0.5 %); 0 when there was no call."""
        left = self.count * percent / 100 - self.none
        if left <= 0:
            return 0.0
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 1e-9:
                return min(self.longest_s, exp(bucket * _STEP))
        return self.longest_s


class Timeline:
    """Sums over `bins` equal parts of the time from 0 to `length_s`; what is later belongs to no part."""

    __slots__ = ("calls", "cold", "length_s", "replica_s", "width_s")

    def __init__(self, length_s: float, bins: int) -> None:
        self.length_s = length_s
        self.width_s = length_s / bins
        self.calls = [0] * bins
        self.cold = [0] * bins
        self.replica_s = [0.0] * bins

    def bin(self, at: float) -> int:
        """Return which part `at` belongs to; the last one takes what is later."""
        return min(len(self.calls) - 1, int(at / self.width_s))

    def hold(self, replicas: int, since: float, until: float) -> float:
        """Note that there were so many `replicas`; returns the replica-seconds within the time that is counted."""
        until = min(until, self.length_s)
        if not replicas or until <= since:
            return 0.0
        first, last = self.bin(since), self.bin(until)
        if first == last:
            self.replica_s[first] += replicas * (until - since)
        else:
            self.replica_s[first] += replicas * ((first + 1) * self.width_s - since)
            for i in range(first + 1, last):
                self.replica_s[i] += replicas * self.width_s
            self.replica_s[last] += replicas * (until - last * self.width_s)
        return replicas * (until - since)

    def merge(self, other: Timeline) -> None:
        """Add another function's."""
        for mine, theirs in ((self.calls, other.calls), (self.cold, other.cold)):
            for i, count in enumerate(theirs):
                mine[i] += count
        for i, held in enumerate(other.replica_s):
            self.replica_s[i] += held


class Measures:
    """Of one function, or of several merged.

    `calls` came; `served` ran to their end, `dropped` found the queue full, `expired` waited for too long. `cold` calls
    waited for a replica to start: they ran on one that became ready after they had come. `started` replicas, `decisions`
    asked for, `writes` that changed a count, `largest` count of one function. `busy_s` is the sum of what calls ran.
    `spent_s` is the processor time of the simulation itself.
    """

    __slots__ = (
        "busy_s",
        "calls",
        "cold",
        "decisions",
        "dropped",
        "expired",
        "largest",
        "memory_mib_s",
        "replica_s",
        "served",
        "spent_s",
        "started",
        "timeline",
        "waits",
        "writes",
    )

    def __init__(self, length_s: float, bins: int = 96) -> None:
        self.calls = self.served = self.dropped = self.expired = 0
        self.cold = self.started = self.decisions = self.writes = self.largest = 0
        self.replica_s = self.memory_mib_s = self.busy_s = self.spent_s = 0.0
        self.waits = Waits()
        self.timeline = Timeline(length_s, bins)

    def merge(self, other: Measures) -> None:
        """Add another function's."""
        for name in ("calls", "served", "dropped", "expired", "cold", "started", "decisions", "writes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("replica_s", "memory_mib_s", "busy_s", "spent_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest = max(self.largest, other.largest)
        self.waits.merge(other.waits)
        self.timeline.merge(other.timeline)

    def figures(self) -> Figures:
        """Return what is shown of it."""
        waits = self.waits
        return Figures(
            calls=self.calls,
            served=self.served,
            dropped=self.dropped,
            expired=self.expired,
            cold_starts=self.cold,
            cold_percent=100 * self.cold / self.calls if self.calls else 0.0,
            wait_p50_s=waits.percentile_s(50),
            wait_p95_s=waits.percentile_s(95),
            wait_p99_s=waits.percentile_s(99),
            wait_longest_s=waits.longest_s,
            wait_mean_s=waits.total_s / waits.count if waits.count else 0.0,
            replica_seconds=self.replica_s,
            memory_gib_seconds=self.memory_mib_s / 1024,
            busy_seconds=self.busy_s,
            largest_replicas=self.largest,
            replicas_started=self.started,
            decisions=self.decisions,
            writes=self.writes,
            simulation_s=self.spent_s,
        )


class Figures(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The numbers of one policy and one seed. Waits are seconds, of calls that were served; percentiles are exact to 0.5 %."""

    calls: int
    served: int
    dropped: int
    expired: int
    cold_starts: int
    cold_percent: float
    wait_p50_s: float
    wait_p95_s: float
    wait_p99_s: float
    wait_longest_s: float
    wait_mean_s: float
    replica_seconds: float
    memory_gib_seconds: float
    busy_seconds: float
    largest_replicas: int
    replicas_started: int
    decisions: int
    writes: int
    simulation_s: float
