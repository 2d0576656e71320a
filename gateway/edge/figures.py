"""What one edge tells of itself, beside what it counts for each function."""

from __future__ import annotations

import msgspec


class EdgeFigures(msgspec.Struct, frozen=True):
    """`connections` are open now, `accepted` have been since the edge started, `turned_away` were more than it may have.

    `refused` counts by status the requests that were no function's: malformed, too large, to a function that does not exist.
    `traces` were handed on to be exported, `traces_dropped` could not be.
    """

    connections: int = 0
    accepted: int = 0
    turned_away: int = 0
    refused: dict[int, int] = {}
    traces: int = 0
    traces_dropped: int = 0


class FunctionLoad(msgspec.Struct, frozen=True):
    """Calls of one function now: `in_flight` at a replica, `queued` for one, the oldest of these for `oldest_wait_s`."""

    in_flight: int = 0
    queued: int = 0
    oldest_wait_s: float = 0.0

    def plus(self, in_flight: int, queued: int, oldest_wait_s: float) -> FunctionLoad:
        """Return the load with more calls."""
        return FunctionLoad(self.in_flight + in_flight, self.queued + queued, max(self.oldest_wait_s, oldest_wait_s))
