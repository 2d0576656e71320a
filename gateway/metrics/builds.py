"""How long builds took, and what runs here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from builder.durations import BOUNDS_S
from telemetry import metrics
from telemetry.exposition import bound_texts, head, histogram, line
from telemetry.histogram import Histogram

_BOUNDS: Final = bound_texts(BOUNDS_S)


class Builds:
    """Writes `durations` by how builds ended."""

    def __init__(self, durations: Mapping[str, Histogram]) -> None:
        self._durations = durations

    def __call__(self, openmetrics: bool) -> Iterator[str]:
        yield head(metrics.BUILD_SECONDS, openmetrics)
        for status, seconds in sorted(self._durations.items()):
            yield histogram(metrics.BUILD_SECONDS, (status,), _BOUNDS, seconds, openmetrics)


class Release:
    """Writes which version runs here, and where functions run."""

    def __init__(self, version: str, orchestration: str) -> None:
        self._labels = (version, orchestration)

    def __call__(self, openmetrics: bool) -> Iterator[str]:
        yield head(metrics.INFO, openmetrics) + line(metrics.INFO, self._labels, 1)
