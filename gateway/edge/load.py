"""Exact load figures for one revision: an integral, not a scrape.

Concurrency changes only when a call comes or goes. Between two changes it is a rectangle, so its time-average over
any interval is the sum of `level x duration` divided by the interval: 3 calls for 0.2 s and 1 call for 0.8 s within
one second average 1.4.
"""

from __future__ import annotations


class LoadMeter:
    """Calls in flight plus waiting (`level`), integrated over time. `began` is when the active time did; monotonic seconds."""

    __slots__ = ("_area", "_arrivals", "_changed_at", "_read_at", "began", "level")

    def __init__(self, now: float) -> None:
        self.level = 0
        self._area = 0.0
        self._arrivals = 0
        self.began = self._changed_at = self._read_at = now

    def begin(self, now: float) -> None:
        """Forget the time in which there was nothing: the interval begins now."""
        self._area, self._arrivals = 0.0, 0
        self.began = self._changed_at = self._read_at = now

    def arrived(self, now: float) -> None:
        """A call came."""
        self._area += self.level * (now - self._changed_at)
        self._changed_at = now
        self.level += 1
        self._arrivals += 1

    def left(self, now: float) -> None:
        """A call ended, however it did."""
        self._area += self.level * (now - self._changed_at)
        self._changed_at = now
        self.level -= 1

    def read(self, now: float) -> tuple[float, float, int]:
        """Return (interval_s, average concurrency, arrivals) since the last reading, and begin a new interval."""
        area = self._area + self.level * (now - self._changed_at)
        interval_s = now - self._read_at
        arrivals = self._arrivals
        self._area, self._arrivals = 0.0, 0
        self._changed_at = self._read_at = now
        return interval_s, area / interval_s if interval_s > 0 else float(self.level), arrivals
