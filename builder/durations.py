"""How long builds took, by how they ended."""

from __future__ import annotations

from typing import Final

from telemetry.histogram import Histogram

BOUNDS_S: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
CANCELLED: Final = "cancelled"


class Durations(dict[str, Histogram]):
    """A histogram for each of `success`, `failed` and `cancelled` (whoever asked has left)."""

    def ended(self, status: str, seconds: float) -> None:
        """One build ended so, that long after it was asked for."""
        if (histogram := self.get(status)) is None:
            histogram = self[status] = Histogram(BOUNDS_S)
        histogram.observe(BOUNDS_S, seconds)
