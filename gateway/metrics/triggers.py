"""What called functions by itself, timers and events; and who was told of calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.callbacks.callbacks import Fate
from gateway.cloudevents.router import Counts as EventCounts
from gateway.timers.timers import Counts as TimerCounts
from telemetry import metrics
from telemetry.exposition import head, line


class Triggers:
    """Writes these counts, which go on being counted."""

    def __init__(self, timers: TimerCounts, events: EventCounts) -> None:
        self._timers = timers
        self._events = events

    def __call__(self, openmetrics: bool) -> Iterator[str]:
        timers, events = self._timers, self._events
        yield head(metrics.TIMER_RUNS, openmetrics)
        runs = {"fired": timers.fired, "missed": timers.missed, "overlapping": timers.overlapping, "failed": timers.failed}
        for fate, count in runs.items():
            yield line(metrics.TIMER_RUNS, (fate,), count)
        yield head(metrics.EVENTS, openmetrics)
        for fate, count in (("matched", events.accepted - events.unmatched), ("unmatched", events.unmatched)):
            yield line(metrics.EVENTS, (fate,), count)
        yield head(metrics.EVENT_CALLS, openmetrics) + line(metrics.EVENT_CALLS, (), events.delivered)


class Callbacks:
    """Writes how many attempts to send callbacks came to what; `counts` go on being counted."""

    def __init__(self, counts: Mapping[Fate, int]) -> None:
        self._counts = counts

    def __call__(self, openmetrics: bool) -> Iterator[str]:
        yield head(metrics.CALLBACKS, openmetrics)
        for fate, count in self._counts.items():
            yield line(metrics.CALLBACKS, (fate,), count)
