"""What the phases of starts took, over all functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from orchestration.starts import BOUNDS_S, StartBook
from telemetry import metrics
from telemetry.exposition import bound_texts, head, histogram, line
from telemetry.histogram import Histogram

_BOUNDS: Final = bound_texts(BOUNDS_S)


class Phases:
    """Writes what the orchestrator's `book` of starts counts."""

    def __init__(self, book: StartBook) -> None:
        self._book = book

    def __call__(self, openmetrics: bool) -> Iterator[str]:
        yield head(metrics.PHASE_SECONDS, openmetrics)
        for labels, took in sorted(self._book.histograms.items()):
            counted = Histogram.of(took.counts, took.sum_s, None)
            yield histogram(metrics.PHASE_SECONDS, labels, _BOUNDS, counted, openmetrics)
        yield head(metrics.START_FAILURES, openmetrics)
        for kind, failures in sorted(self._book.failures.items()):
            yield line(metrics.START_FAILURES, (kind,), failures)
