"""Reads metrics with the official client's parsers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics.page import Source

read_text: Final[Callable[[str], Iterable[Metric]]] = text_string_to_metric_families
_untyped: Final[Any] = openmetrics_parser
read_openmetrics: Final[Callable[[str], Iterable[Metric]]] = _untyped.text_string_to_metric_families


def samples(source: Source) -> dict[tuple[str, ...], float]:
    """Return each sample's value under its name and its labels' values, in the order in which they are written."""
    families = read_openmetrics("".join(source(True)) + "# EOF\n")
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}
