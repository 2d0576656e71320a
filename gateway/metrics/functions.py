"""What is deployed: how many replicas there should be and are, in which states, how they started, and how it is scaled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from orchestration.decisions import Rule, ScalingFigures
from orchestration.events import Event, FunctionRemoved, ReplicaChanged
from orchestration.names import FunctionId
from orchestration.orchestrator import FunctionStatus, NotFound, Orchestrator
from orchestration.replica import Replica, ReplicaState
from orchestration.scaling import Metric, ScaleSettings
from telemetry import metrics
from telemetry.exposition import bound_texts, head, histogram, line
from telemetry.histogram import Histogram

START_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
SCALING_TYPES: Final = {Metric.CONCURRENCY: "capacity"}
"""OpenFaaS's word where it has another one for the same; all else is called as in the labels."""
LIVE: Final = tuple(state for state in ReplicaState if state is not ReplicaState.STOPPED)
_BOUNDS: Final = bound_texts(START_BOUNDS_S)


class Starts:
    """Follows an orchestrator's events and counts what replicas do."""

    def __init__(self) -> None:
        self.seconds: dict[FunctionId, Histogram] = {}
        self.restarts: Counter[FunctionId] = Counter()
        self._known: dict[str, Replica] = {}

    def apply(self, event: Event) -> None:
        """Take what `Orchestrator.watch` yields."""
        match event:
            case ReplicaChanged(replica):
                self._changed(replica)
            case FunctionRemoved(namespace, name):
                self.seconds.pop(FunctionId(namespace, name), None)
                self.restarts.pop(FunctionId(namespace, name), None)

    def _changed(self, replica: Replica) -> None:
        function = FunctionId(replica.namespace, replica.function)
        known = self._known.get(replica.id)
        if replica.state is ReplicaState.STOPPED:
            self._known.pop(replica.id, None)
        else:
            self._known[replica.id] = replica
        if known is None:
            return
        if replica.restarts > known.restarts:
            self.restarts[function] += replica.restarts - known.restarts
        if replica.state is ReplicaState.RUNNING and known.state is not ReplicaState.RUNNING:
            self._started(function, replica)

    def _started(self, function: FunctionId, replica: Replica) -> None:
        if replica.started_at is None or replica.ready_at is None:
            return
        seconds = self.seconds.setdefault(function, Histogram(START_BOUNDS_S))
        seconds.observe(START_BOUNDS_S, replica.ready_at - replica.started_at)


class _Row(NamedTuple):
    """One function: `name` is what its series are labelled with."""

    name: tuple[str]
    function: FunctionId
    status: FunctionStatus
    settings: ScaleSettings
    limited: bool
    decided: Mapping[Rule, int]


_OF_FUNCTION: Final[tuple[tuple[metrics.Metric, Callable[[_Row], float]], ...]] = (
    (metrics.SERVICE_COUNT, lambda row: row.status.replicas),
    (metrics.READY_COUNT, lambda row: row.status.available),
    (metrics.SERVICE_MIN, lambda row: row.settings.min_replicas),
    (metrics.SERVICE_MAX, lambda row: row.settings.max_replicas),
    (metrics.LIMITED, lambda row: int(row.limited)),
)


class Functions:
    """Writes the metrics of all functions that `scalings` lists."""

    def __init__(self, orchestrator: Orchestrator, scalings: Callable[[], list[ScalingFigures]], starts: Starts) -> None:
        self._orchestrator = orchestrator
        self._scalings = scalings
        self._starts = starts

    def __call__(self, openmetrics: bool) -> Iterator[str]:
        rows: list[_Row] = []
        for figures in self._scalings():
            try:
                status = self._orchestrator.status(figures.function)
            except NotFound:
                continue
            name = (str(figures.function),)
            rows.append(_Row(name, figures.function, status, figures.settings, figures.limited, figures.decided))
            yield ""  # a place to pause
        yield head(metrics.FUNCTIONS, openmetrics) + line(metrics.FUNCTIONS, (), len(rows))
        for metric, figure in _OF_FUNCTION:
            yield head(metric, openmetrics)
            for row in rows:
                yield line(metric, row.name, figure(row))
        yield head(metrics.TARGET_LOAD, openmetrics)
        for row in rows:
            scaling_type = SCALING_TYPES.get(row.settings.metric, str(row.settings.metric))
            yield line(metrics.TARGET_LOAD, (*row.name, scaling_type), row.settings.target)
        yield head(metrics.REPLICAS, openmetrics)
        for row in rows:
            states = Counter(replica.state for replica in row.status.instances)
            yield "".join(line(metrics.REPLICAS, (*row.name, state), states[state]) for state in LIVE)
        yield head(metrics.DECISIONS, openmetrics)
        for row in rows:
            yield "".join(line(metrics.DECISIONS, (*row.name, rule), count) for rule, count in sorted(row.decided.items()))
        yield head(metrics.RESTARTS, openmetrics)
        for row in rows:
            yield line(metrics.RESTARTS, row.name, self._starts.restarts[row.function])
        yield head(metrics.START_SECONDS, openmetrics)
        for row in rows:
            if (seconds := self._starts.seconds.get(row.function)) is not None:
                yield histogram(metrics.START_SECONDS, row.name, _BOUNDS, seconds, openmetrics)
