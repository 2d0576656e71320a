"""Traffic that is split, and gradual rollouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from gateway.edge.tally import Tally
from gateway.monitor.rollouts import OUTCOMES, GradualRollouts
from orchestration.names import FunctionId
from orchestration.traffic import share_of
from telemetry import metrics
from telemetry.exposition import head, line


class Rollouts:
    """Writes what `rollouts` follows, and the calls that edges counted by revision."""

    def __init__(self, rollouts: GradualRollouts, revisions: Callable[[], Mapping[tuple[str, str], Tally]]) -> None:
        self._rollouts = rollouts
        self._revisions = revisions

    def __call__(self, openmetrics: bool) -> Iterator[str]:
        yield head(metrics.REVISION_CALLS, openmetrics)
        for (namespace, revision), tally in self._revisions().items():
            name = str(FunctionId(namespace, revision.rpartition("-")[0]))
            counts = sorted(tally.codes.items())
            yield "".join(line(metrics.REVISION_CALLS, (name, revision, str(code)), count) for code, count in counts)
        yield head(metrics.REVISION_TRAFFIC, openmetrics)
        for function, table in self._rollouts.split.items():
            for revision in sorted({target.revision for target in table}):
                yield line(metrics.REVISION_TRAFFIC, (str(function), revision), share_of(table, revision))
        yield head(metrics.ROLLOUT_PERCENT, openmetrics)
        for function, gradual in self._rollouts.under_way():
            yield line(metrics.ROLLOUT_PERCENT, (str(function),), gradual.percent)
        yield head(metrics.ROLLOUTS, openmetrics)
        outcomes = self._rollouts.outcomes
        begun = {function for function, _ in outcomes} | {function for function, _ in self._rollouts.under_way()}
        for function in sorted(begun):  # both are there before one of them grows, so that a rate sees the first
            for outcome in OUTCOMES:
                yield line(metrics.ROLLOUTS, (str(function), outcome), outcomes.get((function, outcome), 0))
