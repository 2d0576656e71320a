"""The idle times of one function as a life table: how likely an idle time ends in each interval, given it lasted until there.

An idle time runs from the end of a function's last call to its next one. Bins grow by 10 %, from one second to a day, so that
4 s and 4 h are known equally well; shorter idle times are not looked at, since nothing is unloaded within a second. Each
bin counts how many idle times reached it and how many of those ended in it (the actuarial estimator of a hazard rate: Cutler
and Ederer, 1958). A histogram of plain counts would do for the same number of idle times; the table keeps apart what a
histogram mixes. Each bin forgets by what *it* sees (a weight of 49/50 for each idle time that reaches it), so that a burst of a
thousand short idle times takes nothing from what is known about the nights between the bursts, and a changed pattern is
learnt anew in the bins where it changed.
"""

from __future__ import annotations

import itertools
import sys
from array import array
from bisect import bisect_right
from typing import Final, Self

SHORTEST_S: Final = 1.0
LONGEST_S: Final = 24 * 3600.0
GROWTH: Final = 1.1

MARGIN: Final = 0.15
"""An idle time counts as spread evenly over ±15 % of itself: what Shahrad et al. add around their forecasts (section 4)."""
MEMORY: Final = 50.0
"""Of how many idle times that reached it a bin knows, at most."""
FADING: Final = 1 - 1 / MEMORY
PRIOR_WEIGHT: Final = 0.5
PRIOR_FROM_S: Final = 60.0
"""Before anything is known, an idle time that has lasted t ends at the rate 1 / (60 s + t): about as likely as not it lasts
as long again. That weighs half an observation. The first ten idle times of the functions in the Azure 2019 trace end at rates
of 0.3 / t to 1.3 / t from two minutes on, and at lower ones before."""


def _edges() -> tuple[float, ...]:
    edges = [SHORTEST_S]
    while edges[-1] * GROWTH < LONGEST_S:
        edges.append(edges[-1] * GROWTH)
    return (*edges, LONGEST_S)


EDGES: Final = _edges()
"""Bin i holds idle times from EDGES[i] up to EDGES[i + 1], in seconds."""
BINS: Final = len(EDGES) - 1

_PRIOR: Final = tuple(1 - (PRIOR_FROM_S + low) / (PRIOR_FROM_S + high) for low, high in itertools.pairwise(EDGES))


class IdleTimes:
    """What is known of one function's idle times. At most 1.1 KB: two 4-byte numbers for each bin that was ever reached."""

    __slots__ = ("_ended", "_reached", "count")

    def __init__(self) -> None:
        self.count = 0
        """How many idle times of a second or more were added."""
        self._reached = array("f")
        self._ended = array("f")

    def add(self, seconds: float) -> None:
        """Count an idle time. Costs up to 20 µs for a day, 5 µs for ten seconds, nothing below one."""
        if not seconds >= SHORTEST_S:
            return
        self.count += 1
        low, high = max(SHORTEST_S, seconds * (1 - MARGIN)), seconds * (1 + MARGIN)
        first, end = bisect_right(EDGES, low) - 1, min(BINS, bisect_right(EDGES, high))
        reached, ended = self._reached, self._ended
        if end > len(reached):
            nothing = [0.0] * (end - len(reached))
            reached.extend(nothing)
            ended.extend(nothing)
        for i in range(min(first, end)):
            reached[i] = reached[i] * FADING + 1.0
            ended[i] *= FADING
        left = 1.0
        for i in range(first, end):
            part = (min(high, EDGES[i + 1]) - max(low, EDGES[i])) / (high - low)
            reached[i] = reached[i] * FADING + left
            ended[i] = ended[i] * FADING + min(part, left)
            left = max(0.0, left - part)

    def chances(self) -> list[float]:
        """For each bin, the probability that an idle time which reached it ends in it."""
        known = [
            min(1.0, (ended + PRIOR_WEIGHT * prior) / (reached + PRIOR_WEIGHT))
            for ended, reached, prior in zip(self._ended, self._reached, _PRIOR, strict=False)
        ]
        return [*known, *_PRIOR[len(known) :]]

    def dump(self) -> tuple[int, bytes, bytes]:
        """Return what `load` takes."""
        return self.count, _little_endian(self._reached).tobytes(), _little_endian(self._ended).tobytes()

    @classmethod
    def load(cls, count: int, reached: bytes, ended: bytes) -> Self:
        """Return what was dumped. Raises ValueError if that cannot be what `dump` gave."""
        times = cls()
        times._reached.frombytes(reached)
        times._ended.frombytes(ended)
        times._reached, times._ended = _little_endian(times._reached), _little_endian(times._ended)
        pairs = list(zip(times._reached, times._ended, strict=True))
        if len(pairs) > BINS or not (0 <= count < 2**63) or bool(count) != bool(pairs):
            raise ValueError(f"{len(pairs)} bins and {count} idle times")
        if not all(0 <= ended <= reached + 0.001 and reached <= MEMORY + 0.001 for reached, ended in pairs):
            raise ValueError("a bin with impossible counts")
        times.count = count
        return times


def _little_endian(numbers: array[float]) -> array[float]:
    if sys.byteorder == "big":
        numbers = array("f", numbers)
        numbers.byteswap()
    return numbers
