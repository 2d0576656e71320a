"""When the next call of a function is due, where its calls are so regular that this can be said to the second.

Shahrad et al. forecast rare calls by ARIMA; here the last five idle times say it, if they agree: the next is due between the
shortest and the longest of them, give or take twice their difference (0.5 % at least, since durations of calls and timers of
other machines vary). Each idle time that ends is first held against the forecast, so that how often it fails is known, and a
function that only seems regular is found out.
"""

from __future__ import annotations

from math import inf
from typing import Final

import msgspec

from autoscaler.idle_times import SHORTEST_S

LAST: Final = 5
LEAST_ERROR: Final = 0.005
MEMORY: Final = 50.0
"""Of how many forecasts the failures are known, at most."""


class Forecast(msgspec.Struct, array_like=True):
    """The last idle times (s), and how many forecasts there were and failed, older ones fading."""

    last: tuple[float, ...] = ()
    made: float = 0.0
    failed: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError for what no idle times can give (msgspec makes a ValidationError of it)."""
        if len(self.last) > LAST or not all(SHORTEST_S <= seconds < inf for seconds in self.last):
            raise ValueError("not idle times")
        if not 0 <= self.failed <= self.made <= MEMORY:
            raise ValueError("more failures than forecasts")

    def add(self, seconds: float) -> None:
        """An idle time of a second or more has ended."""
        if due := self.due():
            fading = 1 - 1 / MEMORY
            self.made = self.made * fading + 1
            self.failed = self.failed * fading + (not due[0] <= seconds <= due[1])
        self.last = (*self.last, float(seconds))[-LAST:]

    def due(self) -> tuple[float, float] | None:
        """Return from when to when the next call is due, in seconds after the last one's end; None: that cannot be said."""
        if len(self.last) < LAST:
            return None
        low, high = min(self.last), max(self.last)
        error = max(SHORTEST_S, 2 * (high - low), LEAST_ERROR * high)
        return (low - error, high + error) if low > error else None

    @property
    def fails(self) -> float:
        """The probability that the next forecast fails, by Laplace's rule of succession: 1/2 while there was none."""
        return (self.failed + 1) / (self.made + 2)
