"""What became of spans."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from telemetry import metrics
from telemetry.exporting import Report
from telemetry.exposition import head, line


class Spans:
    """Writes what `report` says; where nothing is exported all is zero."""

    def __init__(self, report: Callable[[], Report]) -> None:
        self._report = report

    def __call__(self, openmetrics: bool) -> Iterator[str]:
        report = self._report()
        yield head(metrics.SPANS, openmetrics)
        for fate, count in (("exported", report.exported), ("dropped", report.dropped), ("failed", report.failed)):
            yield line(metrics.SPANS, (fate,), count)
