"""What an edge that is one of several tells of its calls: loads at once, counts and records now and then.

While nobody reads, loads are merged and counts wait: what must be held does not grow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from gateway.edge.edge import Edge
from gateway.edge.figures import EdgeFigures
from gateway.edge.messages import Count, Counted, Load, Recorded
from gateway.edge.tally import Tally
from orchestration.load import LoadSample
from orchestration.names import FunctionId


def merged(earlier: LoadSample, later: LoadSample) -> LoadSample:
    """Return one sample for two intervals that follow each other."""
    interval_s = earlier.interval_s + later.interval_s
    area = earlier.concurrency * earlier.interval_s + later.concurrency * later.interval_s
    return msgspec.structs.replace(
        later,
        interval_s=interval_s,
        concurrency=area / interval_s if interval_s > 0 else later.concurrency,
        arrivals=earlier.arrivals + later.arrivals,
    )


class Report:
    """`send` sends a message; while it is not `writable` only what cannot wait is sent."""

    def __init__(self, send: Callable[[msgspec.Struct], None], writable: Callable[[], bool]) -> None:
        self._send = send
        self._writable = writable
        self._held: dict[tuple[str, str], LoadSample] = {}
        self._told: dict[FunctionId, tuple[Tally, Tally]] = {}
        self._told_revisions: dict[FunctionId, tuple[Tally, Tally]] = {}
        self._figures = EdgeFigures()

    def load(self, sample: LoadSample) -> None:
        """Tell a revision's load, now or merged with the next one."""
        if self._writable():
            self._send(Load(sample))
        else:
            key = (sample.namespace, sample.revision)
            before = self._held.get(key)
            self._held[key] = merged(before, sample) if before is not None else sample

    def tell_held(self) -> None:
        """Tell what was held back."""
        held, self._held = self._held, {}
        for sample in held.values():
            self.load(sample)

    def tell(self, edge: Edge) -> None:
        """Tell what was counted and recorded since the last time."""
        tallies = edge.tallies()
        counts = _added(tallies, self._told)
        revisions = _added({FunctionId(*key): tally for key, tally in edge.revisions().items()}, self._told_revisions)
        figures = edge.own_figures()
        if counts or revisions or figures != self._figures:
            self._figures = figures
            self._send(Counted(counts, figures, revisions))
        for function, tally in tallies.items():
            if tally.records is not None and tally.records.recent:
                self._send(Recorded(function.namespace, function.name, *tally.records.take()))


def _added(tallies: Mapping[FunctionId, Tally], before: dict[FunctionId, tuple[Tally, Tally]]) -> tuple[Count, ...]:
    """Return what was added to each tally since `before`, which then has what they are now."""
    counts = []
    for name, tally in tallies.items():
        known, told = before.get(name) or (tally, Tally())
        if known is not tally:  # it was removed and made anew
            told = Tally()
        if tally.completed != told.completed or tally.started != told.started:
            counts.append(Count.of(name, tally.since(told)))
            before[name] = (tally, tally.copy())
    for name in before.keys() - tallies.keys():
        del before[name]
    return tuple(counts)
