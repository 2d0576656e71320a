"""What is counted for people: calls by status code and duration, and those that waited, as plain integers."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from gateway.edge.records import CallRecord, Records
from telemetry.histogram import Histogram

BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the duration buckets, inclusive; one more bucket holds what is longer. OpenFaaS's are among them."""


class Tally:
    """Calls of one function: `started` ones, and `completed` ones in `by_code`. `waits` holds how long those that found no
    free slot waited for one (None: none had to); `cold` of them waited because no replica was ready, and `first_bytes` holds
    how long after their heads their answers began.

    A call whose client left before its response began counts under 499, as in nginx. `records` are the last calls; None: none
    has ended. Only the figures are copied and subtracted.
    """

    __slots__ = ("by_code", "cold", "completed", "first_bytes", "records", "started", "waits")

    def __init__(self) -> None:
        self.started = 0
        self.completed = 0
        self.by_code: dict[int, Histogram] = {}
        self.waits: Histogram | None = None
        self.cold = 0
        self.first_bytes: Histogram | None = None
        self.records: Records | None = None

    def ended(self, record: CallRecord) -> None:
        """Count a call, and keep its record."""
        self.count(record.code, record.duration_s)
        if self.records is None:
            self.records = Records()
        self.records.keep(record)

    def count(self, code: int, duration_s: float) -> None:
        """One call ended with `code`, `duration_s` after its head had come."""
        self.completed += 1
        try:
            durations = self.by_code[code]
        except KeyError:
            durations = self.by_code[code] = Histogram(BOUNDS_S)
        durations.buckets[bisect_left(BOUNDS_S, duration_s)] += 1
        durations.seconds += duration_s

    def waited(self, duration_s: float, cold: bool) -> None:
        """One call has waited for a slot, and got it."""
        if self.waits is None:
            self.waits = Histogram(BOUNDS_S)
        self.waits.observe(BOUNDS_S, duration_s)
        self.cold += cold

    def began(self, duration_s: float) -> None:
        """The answer to a cold call has begun."""
        if self.first_bytes is None:
            self.first_bytes = Histogram(BOUNDS_S)
        self.first_bytes.observe(BOUNDS_S, duration_s)

    def illustrate(self, code: int, trace: str, duration_s: float, at: float) -> None:
        """The call that was just counted was traced. `at` is Unix seconds."""
        self.by_code[code].illustrate(bisect_left(BOUNDS_S, duration_s), (trace, duration_s, at))

    @property
    def codes(self) -> dict[int, int]:
        """How many calls ended with each code."""
        return {code: durations.count for code, durations in self.by_code.items()}

    def copy(self) -> Tally:
        """Return the figures as they are now."""
        copy = Tally()
        copy.add(self)
        return copy

    def add(self, more: Tally) -> None:
        """Count what another tally has counted too."""
        self.started += more.started
        self.completed += more.completed
        self.cold += more.cold
        for code, durations in more.by_code.items():
            if (known := self.by_code.get(code)) is None:
                self.by_code[code] = durations.copy()
            else:
                known.add(durations)
        self.waits = _sum(self.waits, more.waits)
        self.first_bytes = _sum(self.first_bytes, more.first_bytes)

    def since(self, earlier: Tally) -> Tally:
        """Return what was counted since `earlier`, a copy of this tally."""
        added = Tally()
        added.started = self.started - earlier.started
        added.completed = self.completed - earlier.completed
        added.cold = self.cold - earlier.cold
        for code, durations in self.by_code.items():
            more = durations.since(told) if (told := earlier.by_code.get(code)) is not None else durations.copy()
            if any(more.buckets):
                added.by_code[code] = more
        added.waits = _since(self.waits, earlier.waits)
        added.first_bytes = _since(self.first_bytes, earlier.first_bytes)
        return added


def _sum(mine: Histogram | None, theirs: Histogram | None) -> Histogram | None:
    if theirs is not None:
        mine = mine or Histogram(BOUNDS_S)
        mine.add(theirs)
    return mine


def _since(now: Histogram | None, earlier: Histogram | None) -> Histogram | None:
    if now is None:
        return None
    more = now.since(earlier) if earlier is not None else now.copy()
    return more if any(more.buckets) else None
