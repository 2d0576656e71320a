"""What is known of the load on one revision: calls now, over all edges, and the metric's averages over two windows.

Each edge tells an exact time-average for the interval since it told last. It is spread over the seconds it covers: within
each second an edge's part is its own average over the time it has told of, and the parts of all edges add up. Example: an
edge tells 10 for 0.4 s and then 20 for 0.6 s of one second: 10, then 16. So a second that is not over counts for what it is.

A revision without load has no windows: they are made by the first sample and dropped when nothing in them is left.
"""

from __future__ import annotations

from math import ceil, floor, inf
from typing import Final

from autoscaler.windows import Average
from orchestration.load import LoadSample
from orchestration.scaling import Aggregation, Metric, ScaleSettings

LEAST_COVER_S: Final = 0.1
"""A second of which less was told does not count yet, so that a millisecond's load is not taken for a second's."""
SILENT_AFTER_S: Final = 1.5
"""An edge with calls tells each second, at most a quarter of a second late: of what is longer ago, silence is the news."""

PUSHED: Final = frozenset((Metric.CONCURRENCY, Metric.RPS, Metric.QUEUE))
"""What edges tell. The others are measured at times, and no news of them is not the news that there is no load."""


class _Edge:
    """What one edge told last, and its part of the second that is not over."""

    __slots__ = ("area", "covered", "in_flight", "oldest_since", "part", "queued", "second")

    def __init__(self) -> None:
        self.in_flight = self.queued = 0
        self.oldest_since = inf
        self.second = -1
        self.area = self.covered = self.part = 0.0


class Observed:
    """The load on one revision. Times are seconds of one steady clock.

    `last_active` is when it last had a call; `idle_since` the same, but None before the first call that was ever told of.
    """

    __slots__ = ("_edges", "_measured_at", "_metric", "_panic", "_settings", "_stable", "idle_since", "last_active")

    def __init__(self, settings: ScaleSettings, now: float) -> None:
        self._settings = settings
        self._metric = settings.metric
        self._edges: dict[str, _Edge] = {}
        self._stable: Average | None = None
        self._panic: Average | None = None
        self._measured_at = -inf
        self.last_active = now
        self.idle_since: float | None = None

    def configure(self, settings: ScaleSettings) -> None:
        """Take other settings; another metric forgets what was told of the old one."""
        if settings.metric is not self._metric or settings.query != self._settings.query:
            self.clear()
        self._settings, self._metric = settings, settings.metric
        if self._stable is not None and self._panic is not None:
            self._stable.resize(round(settings.window_s))
            self._panic.resize(round(settings.panic_window_s))

    def clear(self) -> None:
        """Forget both windows."""
        self._stable = self._panic = None
        self._measured_at = -inf
        for edge in self._edges.values():
            edge.second, edge.part = -1, 0.0

    # what is told

    def sample(self, sample: LoadSample, now: float) -> float | None:
        """Take what an edge tells at `now`; returns how long the revision had been idle when its first call since came."""
        edge = self._edges.get(sample.edge)
        if edge is None:
            edge = self._edges[sample.edge] = _Edge()
        was_busy = edge.in_flight or edge.queued
        idle_s = None
        if sample.arrivals or was_busy or sample.concurrency or sample.in_flight or sample.queued:
            if sample.arrivals and self.idle_since is not None and not self.load:
                idle_s = max(0.0, now - sample.interval_s - self.idle_since)
            self.last_active = self.idle_since = now
        edge.in_flight, edge.queued = sample.in_flight, sample.queued
        edge.oldest_since = now - sample.oldest_wait_s if sample.queued else inf
        if self._metric is Metric.CONCURRENCY:
            self._spread(edge, now, sample.interval_s, sample.concurrency)
        elif self._metric is Metric.RPS:
            self._record(floor(now), float(sample.arrivals))
        elif self._metric is Metric.QUEUE:
            self._spread(edge, now, sample.interval_s, float(sample.queued))
        return idle_s

    def measured(self, value: float, now: float) -> None:
        """Take the whole load as it was measured at `now`; it holds for the seconds since the last measurement."""
        second, length = floor(now), self._settings.window_s
        first = max(self._measured_at + 1, second - length + 1) if self._measured_at > -inf else second
        for passed in range(round(first), second + 1):
            self._record(passed, value)
        self._measured_at = float(second)
        if value > 0 and self._metric is Metric.CUSTOM:
            self.last_active = now

    def forget_edge(self, edge: str) -> bool:
        """Drop what an edge that is gone had told; its calls ended with it. Returns whether there was something."""
        return self._edges.pop(edge, None) is not None

    def forget_calls(self) -> None:
        """Do not believe any more in calls that were told of: edges tell again of those that still are."""
        for edge in self._edges.values():
            edge.in_flight = edge.queued = 0
            edge.oldest_since = inf

    # what is known

    @property
    def in_flight(self) -> int:
        return sum(edge.in_flight for edge in self._edges.values())

    @property
    def queued(self) -> int:
        return sum(edge.queued for edge in self._edges.values())

    @property
    def load(self) -> int:
        """Calls in flight and waiting."""
        return sum(edge.in_flight + edge.queued for edge in self._edges.values())

    def waited_s(self, now: float) -> float:
        """For how long the oldest waiting call has waited; 0 when none does."""
        return max(0.0, now - min((edge.oldest_since for edge in self._edges.values()), default=inf))

    def averages(self, now: float) -> tuple[float, float] | None:
        """Return the metric over the stable and the panic window; None when it is not known.

        That edges tell nothing means that there was nothing.
        """
        stable, panic = self._stable, self._panic
        if stable is None or panic is None:
            return (0.0, 0.0) if self._metric in PUSHED else None
        if self._metric in PUSHED:
            stable.silent(now - SILENT_AFTER_S)
            panic.silent(now - SILENT_AFTER_S)
        elif now - self._measured_at >= self._settings.window_s:
            return None
        if self._settings.aggregation is Aggregation.WEIGHTED_EXPONENTIAL:
            return stable.weighted(now), panic.weighted(now)
        return stable.average(now), panic.average(now)

    def rest(self) -> None:
        """Drop windows in which nothing is left, and edges without calls."""
        if self._metric in PUSHED:
            self._stable = self._panic = None
        self._edges = {name: edge for name, edge in self._edges.items() if edge.in_flight or edge.queued}

    @property
    def resting(self) -> bool:
        """Whether there are no windows."""
        return self._stable is None

    def _spread(self, edge: _Edge, now: float, interval_s: float, value: float) -> None:
        start = max(now - interval_s, now - self._settings.window_s)
        for second in range(floor(start), ceil(now)):
            if second < edge.second:
                continue  # told of already
            if second > edge.second:
                self._add(edge, LEAST_COVER_S)  # a second of which less than that was told
                edge.second, edge.area, edge.covered, edge.part = second, 0.0, 0.0, 0.0
            told_s = min(now, second + 1.0) - max(start, float(second))
            edge.area += value * told_s
            edge.covered += told_s
            if edge.covered >= LEAST_COVER_S:
                self._add(edge, edge.covered)

    def _add(self, edge: _Edge, covered_s: float) -> None:
        part = edge.area / max(covered_s, edge.covered)
        if edge.area or edge.part or edge.covered >= LEAST_COVER_S:
            self._record(edge.second, part - edge.part)
        edge.part = part

    def _record(self, second: float, value: float) -> None:
        if self._stable is None or self._panic is None:
            if not value and self._metric in PUSHED:
                return
            self._stable = Average(round(self._settings.window_s))
            self._panic = Average(round(self._settings.panic_window_s))
        self._stable.record(second, value)
        self._panic.record(second, value)
