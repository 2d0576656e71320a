"""What is counted for people: finished calls by status code and by duration, as plain integers."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the duration buckets, inclusive; one more bucket holds what is longer."""


class Tally:
    """Finished calls of one function. `buckets[i]` counts durations up to `BOUNDS_S[i]`, the last one the rest.

    A call whose client left before its response began counts under 499, as in nginx.
    """

    __slots__ = ("buckets", "codes", "completed", "seconds")

    def __init__(self) -> None:
        self.completed = 0
        self.codes: dict[int, int] = {}
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.seconds = 0.0

    def count(self, code: int, duration_s: float) -> None:
        """One call ended with `code`, `duration_s` after its head had come."""
        self.completed += 1
        codes = self.codes
        codes[code] = codes.get(code, 0) + 1
        self.buckets[bisect_left(BOUNDS_S, duration_s)] += 1
        self.seconds += duration_s

    def copy(self) -> Tally:
        """Return the figures as they are now."""
        copy = Tally()
        copy.add(self)
        return copy

    def add(self, more: Tally) -> None:
        """Count what another tally has counted too."""
        self.completed += more.completed
        for code, count in more.codes.items():
            self.codes[code] = self.codes.get(code, 0) + count
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, more.buckets, strict=True)]
        self.seconds += more.seconds

    def since(self, earlier: Tally) -> Tally:
        """Return what was counted since `earlier`, a copy of this tally."""
        added = Tally()
        added.completed = self.completed - earlier.completed
        added.codes = {code: more for code, count in self.codes.items() if (more := count - earlier.codes.get(code, 0))}
        added.buckets = [now - then for now, then in zip(self.buckets, earlier.buckets, strict=True)]
        added.seconds = self.seconds - earlier.seconds
        return added
