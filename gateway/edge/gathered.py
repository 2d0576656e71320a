"""What several edges told of calls, added up: to those who ask for figures it is what one edge is."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.edge.figures import EdgeFigures, FunctionLoad
from gateway.edge.messages import Counted, Load, Recorded
from gateway.edge.records import Records
from gateway.edge.routes import RevisionKey, told_apart
from gateway.edge.tally import Tally
from orchestration.events import Event, FunctionChanged, FunctionRemoved
from orchestration.load import LoadSample
from orchestration.names import FunctionId


class Gathered:
    """Figures of functions that it was told of by `apply`. What an edge that is gone had counted stays counted."""

    def __init__(self) -> None:
        self._totals: dict[FunctionId, Tally] = {}
        self._revisions: dict[RevisionKey, Tally] = {}
        self._told_apart: dict[FunctionId, set[RevisionKey]] = {}
        self._loads: dict[str, dict[tuple[str, str], LoadSample]] = {}
        self._figures: dict[str, EdgeFigures] = {}

    def apply(self, event: Event) -> None:
        """Follow functions as they come and go."""
        match event:
            case FunctionChanged(function):
                self._totals.setdefault(function.id, Tally())
                self._tell_apart(function.id, told_apart(function))
            case FunctionRemoved(namespace, name):
                self._totals.pop(FunctionId(namespace, name), None)
                self._tell_apart(FunctionId(namespace, name), set())

    def hear(self, edge: str, message: Load | Counted | Recorded) -> None:
        """Add what an edge tells."""
        match message:
            case Load(sample):
                loads, key = self._loads.setdefault(edge, {}), (sample.namespace, sample.revision)
                if sample.in_flight or sample.queued:
                    loads[key] = sample
                else:
                    loads.pop(key, None)
            case Counted(counts, figures, revisions):
                self._figures[edge] = figures
                for count in revisions:
                    if (counted := self._revisions.get((count.namespace, count.function))) is not None:
                        counted.add(count.tally())
                for count in counts:
                    if (total := self._totals.get(FunctionId(count.namespace, count.function))) is not None:
                        total.add(count.tally())
            case Recorded(namespace, name, recent, notable):
                if (total := self._totals.get(FunctionId(namespace, name))) is not None:
                    total.records = total.records or Records()
                    total.records.add(recent, notable)

    def forget(self, edge: str) -> None:
        """An edge is gone, and its calls with it."""
        self._loads.pop(edge, None)
        self._figures.pop(edge, None)

    def counts(self) -> Mapping[FunctionId, int]:
        """Return how many calls of each function have ended, as of a moment ago."""
        return {function: tally.completed for function, tally in self._totals.items()}

    def tallies(self) -> Mapping[FunctionId, Tally]:
        """Return each function's counters over all edges, as of a moment ago. They go on counting."""
        return self._totals

    def revisions(self) -> Mapping[RevisionKey, Tally]:
        """Return the counters of revisions over all edges, as of a moment ago; see `Edge.revisions`."""
        return self._revisions

    def loads(self) -> Mapping[FunctionId, FunctionLoad]:
        """Return the calls that each function has, as last told; functions without any are left out."""
        loads: dict[FunctionId, FunctionLoad] = {}
        for told in self._loads.values():
            for sample in told.values():
                function = FunctionId(sample.namespace, sample.function)
                load = loads.get(function, FunctionLoad())
                loads[function] = load.plus(sample.in_flight, sample.queued, sample.oldest_wait_s)
        return loads

    def figures(self) -> Mapping[str, EdgeFigures]:
        """Return what each edge that lives now tells of itself, by its name."""
        return dict(self._figures)

    def _tell_apart(self, function: FunctionId, several: set[RevisionKey]) -> None:
        """Keep the counters of these revisions of the function, and of no others."""
        for key in self._told_apart.pop(function, set()) - several:
            self._revisions.pop(key, None)
        for key in several:
            self._revisions.setdefault(key, Tally())
        if several:
            self._told_apart[function] = several
