"""Durations counted in buckets, as plain integers: what hot paths write and the metrics page renders."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

Exemplar = tuple[str, float, float]
"""Trace id (32 hex digits), the value in seconds, and when it was counted (Unix seconds)."""


class Histogram:
    """`buckets[i]` counts values up to the i-th bound, inclusive, the last one the rest. Who holds it knows the bounds.

    `exemplars` has, for a bucket's number, the last value in it whose call was traced; None before there was one.
    """

    __slots__ = ("buckets", "exemplars", "seconds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.buckets = [0] * (len(bounds) + 1)
        self.seconds = 0.0
        self.exemplars: dict[int, Exemplar] | None = None

    @classmethod
    def of(cls, buckets: list[int], seconds: float, exemplars: dict[int, Exemplar] | None) -> Histogram:
        """Return one with these figures."""
        made = cls.__new__(cls)
        made.buckets, made.seconds, made.exemplars = buckets, seconds, exemplars
        return made

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.buckets)

    def observe(self, bounds: Sequence[float], value_s: float) -> None:
        """Count a value."""
        self.buckets[bisect_left(bounds, value_s)] += 1
        self.seconds += value_s

    def illustrate(self, bucket: int, exemplar: Exemplar) -> None:
        """Remember a traced value of that bucket."""
        if self.exemplars is None:
            self.exemplars = {}
        self.exemplars[bucket] = exemplar

    def copy(self) -> Histogram:
        """Return the figures as they are now."""
        return self.of(list(self.buckets), self.seconds, dict(self.exemplars) if self.exemplars else None)

    def add(self, more: Histogram) -> None:
        """Count what another one, with the same bounds, has counted too."""
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, more.buckets, strict=True)]
        self.seconds += more.seconds
        if more.exemplars:
            self.exemplars = {**(self.exemplars or {}), **more.exemplars}

    def since(self, earlier: Histogram) -> Histogram:
        """Return what was counted since `earlier`, a copy of this one."""
        buckets = [now - then for now, then in zip(self.buckets, earlier.buckets, strict=True)]
        told = earlier.exemplars or {}
        exemplars = {i: exemplar for i, exemplar in (self.exemplars or {}).items() if told.get(i) != exemplar}
        return self.of(buckets, self.seconds - earlier.seconds, exemplars or None)
