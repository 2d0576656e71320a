"""What edges counted: calls, and connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

from gateway.edge.figures import EdgeFigures, FunctionLoad
from gateway.edge.tally import BOUNDS_S, Tally
from orchestration.names import FunctionId
from telemetry import metrics
from telemetry.exposition import bound_texts, head, histogram, line
from telemetry.metrics import Metric

_BOUNDS: Final = bound_texts(BOUNDS_S)
_IDLE: Final = FunctionLoad()
_OF_LOAD: Final[tuple[tuple[Metric, Callable[[FunctionLoad], float]], ...]] = (
    (metrics.IN_FLIGHT, lambda load: load.in_flight + load.queued),
    (metrics.AT_REPLICAS, lambda load: load.in_flight),
    (metrics.QUEUED, lambda load: load.queued),
    (metrics.OLDEST_WAIT, lambda load: load.oldest_wait_s),
)
_OF_EDGE: Final[tuple[tuple[Metric, Callable[[EdgeFigures], float]], ...]] = (
    (metrics.CONNECTIONS, lambda figures: figures.connections),
    (metrics.ACCEPTED, lambda figures: figures.accepted),
    (metrics.TURNED_AWAY, lambda figures: figures.turned_away),
)


class Counting(Protocol):
    """An edge, or several seen as one."""

    def tallies(self) -> Mapping[FunctionId, Tally]: ...
    def loads(self) -> Mapping[FunctionId, FunctionLoad]: ...
    def figures(self) -> Mapping[str, EdgeFigures]: ...


class Calls:
    """Writes the metrics of `edge`."""

    def __init__(self, edge: Counting) -> None:
        self._edge = edge

    def __call__(self, openmetrics: bool) -> Iterator[str]:
        tallies = [(str(function), function, tally) for function, tally in self._edge.tallies().items()]
        yield head(metrics.INVOCATIONS, openmetrics)
        for name, _, tally in tallies:
            yield "".join(line(metrics.INVOCATIONS, (name, str(code)), count) for code, count in sorted(tally.codes.items()))
        yield head(metrics.STARTED, openmetrics)
        for name, _, tally in tallies:
            yield line(metrics.STARTED, (name,), tally.started)
        yield head(metrics.SECONDS, openmetrics)
        for name, _, tally in tallies:
            for code, durations in sorted(tally.by_code.items()):
                yield histogram(metrics.SECONDS, (name, str(code)), _BOUNDS, durations, openmetrics)
        loads = self._edge.loads()
        for metric, figure in _OF_LOAD:
            yield head(metric, openmetrics)
            for name, function, _ in tallies:
                yield line(metric, (name,), figure(loads.get(function, _IDLE)))
        yield head(metrics.QUEUE_WAIT, openmetrics)
        for name, _, tally in tallies:
            if tally.waits is not None:
                yield histogram(metrics.QUEUE_WAIT, (name,), _BOUNDS, tally.waits, openmetrics)
        yield head(metrics.COLD_CALLS, openmetrics)
        for name, _, tally in tallies:
            yield line(metrics.COLD_CALLS, (name,), tally.cold)
        yield head(metrics.COLD_FIRST_BYTE, openmetrics)
        for name, _, tally in tallies:
            if tally.first_bytes is not None:
                yield histogram(metrics.COLD_FIRST_BYTE, (name,), _BOUNDS, tally.first_bytes, openmetrics)
        yield from self._connections(openmetrics)

    def _connections(self, openmetrics: bool) -> Iterator[str]:
        edges = self._edge.figures().items()
        for metric, figure in _OF_EDGE:
            yield head(metric, openmetrics)
            for edge, figures in edges:
                yield line(metric, (edge,), figure(figures))
        yield head(metrics.TRACES, openmetrics)
        for edge, figures in edges:
            yield line(metrics.TRACES, (edge, "exported"), figures.traces)
            yield line(metrics.TRACES, (edge, "dropped"), figures.traces_dropped)
        yield head(metrics.REFUSED, openmetrics)
        for edge, figures in edges:
            for code, count in sorted(figures.refused.items()):
                yield line(metrics.REFUSED, (edge, str(code)), count)
