"""Sliding windows over whole seconds: averages of what was recorded, and the largest of what was recommended.

`Average` is Knative's bucketed average (knative.dev/serving, pkg/autoscaler/aggregation; restated from its behaviour):
what is written within one second adds up in that second's bucket; seconds between the first and the last write that got
nothing count as zero; seconds after the last write are not yet known and leave sum and divisor alike. Example, five
seconds long: 1, 2, 3, 4, 5 written at 0 s to 4 s average 3; read at 6 s without a write, (3 + 4 + 5) / 3 = 4.
"""

from __future__ import annotations

from collections import deque
from math import floor

DECIMALS = 6


class Average:
    """The average of the last `length_s` seconds (whole, at least one). Times are seconds of one steady clock."""

    __slots__ = ("_buckets", "_first", "_last", "length_s")

    def __init__(self, length_s: int) -> None:
        self.length_s = length_s
        self._buckets = [0.0] * length_s
        self._first = self._last = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._first, self._last = 0, -1  # no write yet: the last second lies before the first

    @property
    def empty(self) -> bool:
        """Whether nothing was ever recorded."""
        return self._last < self._first

    def record(self, at: float, value: float) -> None:
        """Add `value` to the second that `at` lies in. What is older than the window is ignored."""
        second, length, buckets = floor(at), self.length_s, self._buckets
        if self.empty or second - self._last >= length:
            self._first = self._last = second
            buckets[:] = [0.0] * length
        elif second > self._last:
            for passed in range(self._last + 1, second + 1):
                buckets[passed % length] = 0.0
            self._last = second
        elif second <= self._last - length:
            return
        elif second < self._first:
            self._first = second
        buckets[second % length] += value

    def silent(self, until: float) -> None:
        """Know that the seconds after the last write, up to the one that `until` lies in, held nothing."""
        if not self.empty and floor(until) > self._last:
            self.record(until, 0.0)

    def average(self, now: float) -> float:
        """Return the plain average at `now`; 0 when the last write is a window ago or more."""
        oldest, valid = self._known(now)
        if valid <= 0:
            return 0.0
        start, end, buckets = oldest % self.length_s, self._last % self.length_s + 1, self._buckets
        total = sum(buckets[start:end]) if start < end else sum(buckets[start:]) + sum(buckets[:end])
        return round(total / valid, DECIMALS)

    def weighted(self, now: float) -> float:
        """Return the average in which each second weighs less than the one after it (Knative's weighted-exponential).

        The newest of n seconds weighs c = max(1 - 0.0001^(1/n), 0.2), the one before it c (1 - c), and so on.
        """
        oldest, valid = self._known(now)
        if valid <= 0:
            return 0.0
        share = max(1 - 0.0001 ** (1 / self.length_s), 0.2)
        total, weight = 0.0, share
        for second in range(self._last, oldest - 1, -1):
            total += self._buckets[second % self.length_s] * weight
            weight *= 1 - share
        return round(total, DECIMALS)

    def resize(self, length_s: int) -> None:
        """Change the window's length; the newest seconds are kept."""
        if length_s == self.length_s:
            return
        first, last, old, before = self._first, self._last, self._buckets, self.length_s
        self.length_s = length_s
        self._buckets = [0.0] * length_s
        if not self.empty:
            self._first = max(first, last - before + 1)
            for second in range(max(self._first, last - length_s + 1), last + 1):
                self._buckets[second % length_s] = old[second % before]

    def _known(self, now: float) -> tuple[int, int]:
        """Return the oldest second that counts, and by how many seconds to divide."""
        silent = floor(now) - self._last
        if self.empty or silent >= self.length_s:
            return 0, 0
        silent = max(0, silent)
        oldest = max(self._first, self._last - self.length_s + 1 + silent)
        valid = min(self._last - self._first + 1, self.length_s - silent)
        return oldest, valid


class Largest:
    """The largest value of the last `length` steps (ints that only grow)."""

    __slots__ = ("_kept", "length")

    def __init__(self, length: int) -> None:
        self.length = length
        self._kept: deque[tuple[int, int]] = deque()  # steps ascending, values descending

    def record(self, step: int, value: int) -> None:
        """Note `value` for `step`; a smaller one for the same step lowers nothing."""
        kept = self._kept
        while kept and kept[-1][1] <= value:
            kept.pop()
        if not kept or kept[-1][0] < step:
            kept.append((step, value))
        self._expire(step)

    def largest(self, step: int) -> int:
        """Return the largest value noted for the `length` steps that end with `step`; 0 when there is none."""
        self._expire(step)
        return self._kept[0][1] if self._kept else 0

    def _expire(self, step: int) -> None:
        while self._kept and self._kept[0][0] <= step - self.length:
            self._kept.popleft()
