"""How many jobs go into one commit: as many as wait, in equal parts that are worth their syncs. Pure.

While one part is being committed the event loop answers those of the part before and gathers the next: so both have work, where
with all in one commit each waits for the other. But each commit waits for the disk, and two parts are quicker than one only
while that takes less than a part's work: at 8 us a job 256 waiting jobs go in two parts up to 1 ms a sync, and in one above.
"""

from __future__ import annotations

import math
from typing import Final

LEAST: Final = 128
"""Fewer than that are not worth a commit, however quick: it writes some pages of its own."""
MOST: Final = 512
_WEIGHT: Final = 0.2
"""Of the last commit in the running means."""


class Parts:
    """Learns what commits take, and says how large the next one is to be."""

    def __init__(self) -> None:
        self._waited_s = 0.0
        self._worked_s = 0.0

    @property
    def least(self) -> int:
        """So many jobs are worth a commit."""
        if not self._worked_s:
            return MOST
        return min(MOST, max(LEAST, math.ceil(self._waited_s / self._worked_s)))

    def size(self, waiting: int) -> int:
        """Return how many of the waiting jobs to do together: equal parts, none smaller than is worth it."""
        parts = max(1, waiting // self.least, -(-waiting // MOST))
        return -(-waiting // parts)

    def saw(self, jobs: int, worked_s: float, waited_s: float) -> None:
        """A commit of so many jobs took so much of the processor, and waited so long for the disk."""
        weight = _WEIGHT if self._worked_s else 1.0
        self._waited_s += weight * (waited_s - self._waited_s)
        self._worked_s += weight * (worked_s / jobs - self._worked_s)
