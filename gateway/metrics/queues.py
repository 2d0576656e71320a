"""Asynchronous calls: what waits, runs and is dead, how late the oldest one is, and what became of attempts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from gateway.asynchronous.calls import Call, Depth
from gateway.asynchronous.retry import Again, Dead, Succeeded, Verdict
from telemetry import metrics
from telemetry.exposition import head, line

OUTCOMES: Final[Mapping[type[Verdict], str]] = {Succeeded: "succeeded", Again: "again", Dead: "dead"}
_GAUGES: Final[tuple[tuple[metrics.Metric, Callable[[Depth, float], float]], ...]] = (
    (metrics.ASYNC_WAITING, lambda depth, now: depth.waiting),
    (metrics.ASYNC_RUNNING, lambda depth, now: depth.running),
    (metrics.ASYNC_DEAD, lambda depth, now: depth.dead),
    (metrics.ASYNC_LATE, lambda depth, now: max(0.0, now - depth.oldest_due) if depth.oldest_due else 0.0),
)


class Queues:
    """Writes what `depths` tells, and the attempts that `attempted` was told of. Queues that hold nothing are left out of the
    gauges; functions that are gone, of the counter, when `knows` says so."""

    def __init__(
        self,
        depths: Callable[[], Mapping[str, Depth]],
        knows: Callable[[str], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._depths = depths
        self._knows = knows
        self._clock = clock
        self._attempts: Counter[tuple[str, str]] = Counter()

    def attempted(self, call: Call, verdict: Verdict) -> None:
        """An attempt to carry out a call has ended."""
        self._attempts[call.queue, OUTCOMES[type(verdict)]] += 1

    def __call__(self, openmetrics: bool) -> Iterator[str]:
        now = self._clock()
        depths = sorted(self._depths().items())
        for metric, figure in _GAUGES:
            yield head(metric, openmetrics)
            for queue, depth in depths:
                yield line(metric, _labels(queue), figure(depth, now))
        yield head(metrics.ASYNC_ATTEMPTS, openmetrics)
        for key in [key for key in self._attempts if not self._knows(key[0].partition("#")[0])]:
            del self._attempts[key]
        for (queue, outcome), count in sorted(self._attempts.items()):
            yield line(metrics.ASYNC_ATTEMPTS, (*_labels(queue), outcome), count)


def _labels(queue: str) -> tuple[str, str]:
    function, _, kind = queue.partition("#")
    return function, kind or "call"
