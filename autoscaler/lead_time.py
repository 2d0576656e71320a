"""How long before a call is due the start of its replica has to begin: what starts of that function have taken of late."""

from __future__ import annotations

from math import ceil, isfinite
from typing import Final

LAST: Final = 20
PERCENTILE: Final = 0.95
UNKNOWN_S: Final = 1.0
SHORTEST_S: Final = 0.25
"""Two turns of the loop of a busy platform, and a timer that fires late."""
LONGEST_S: Final = 300.0
"""What takes longer than that to start is a function whose start hangs; loading it ever earlier would not help."""


class LeadTime:
    """The last start durations of one function; pure, less than 1 KB."""

    __slots__ = ("_starts",)

    def __init__(self) -> None:
        self._starts: tuple[float, ...] = ()

    def started(self, seconds: float) -> None:
        """A replica became ready so many seconds after it had been asked for. Starts that failed say nothing."""
        if isfinite(seconds):
            self._starts = (*self._starts[1 - LAST :], max(0.0, seconds))

    @property
    def lead_s(self) -> float:
        """Return the 95th percentile of the last 20 starts and a quarter more, from 0.25 s to 5 minutes; at first 1 s.

        Of less than 20 starts that is the longest, of 20 the second longest, so that one mishap does not count for long.
        """
        if not self._starts:
            return UNKNOWN_S
        start_s = sorted(self._starts)[ceil(PERCENTILE * len(self._starts)) - 1]
        return min(max(start_s * 1.25, SHORTEST_S), LONGEST_S)
