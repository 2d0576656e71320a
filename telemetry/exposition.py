"""Writing metrics: Prometheus's text format (version 0.0.4) and OpenMetrics 1.0, as pieces of text.

The two differ in how a counter's family is called, in exemplars, and in the end mark. A counter whose name lacks `_total`
(OpenFaaS has one) is of no known type to OpenMetrics; its name is what queries know, so that stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from telemetry.histogram import Histogram
from telemetry.metrics import Metric

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Series = tuple[Sequence[str], float]
"""Label values in the metric's order, and the value."""


def is_openmetrics(accept: str) -> bool:
    """Whether a client with this `Accept` header prefers OpenMetrics; who says nothing of it gets text."""
    best = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in accept.lower().split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        if media in best:
            best[media] = max(best[media], _number(quality))
    return best["application/openmetrics-text"] > 0 and best["application/openmetrics-text"] >= best["text/plain"]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def head(metric: Metric, openmetrics: bool) -> str:
    """Return the lines that begin a metric."""
    name, kind = metric.name, str(metric.kind)
    if openmetrics and kind == "counter":
        if name.endswith("_total"):
            name = name.removesuffix("_total")
        else:
            kind = "unknown"
    return f"# HELP {name} {metric.help}\n# TYPE {name} {kind}\n"


def labels(names: Sequence[str], values: Sequence[str]) -> str:
    """Return `name="value",…` without braces."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return value


def line(metric: Metric, values: Sequence[str], value: float) -> str:
    """Return one line of a counter or gauge."""
    braced = f"{{{labels(metric.labels, values)}}}" if values else ""
    return f"{metric.name}{braced} {value}\n"


def histogram(metric: Metric, values: Sequence[str], bounds: Sequence[str], counted: Histogram, openmetrics: bool) -> str:
    """Return the lines of one histogram; `bounds` as `bound_texts` wrote them."""
    told = labels(metric.labels, values)
    start = f"{metric.name}_bucket{{{told}{',' if told else ''}le="
    exemplars = counted.exemplars if openmetrics else None
    lines = []
    total = 0
    for i, (bound, count) in enumerate(zip(bounds, counted.buckets, strict=True)):
        total += count
        mark = ""
        if exemplars and (exemplar := exemplars.get(i)) is not None:
            trace, value, at = exemplar
            mark = f' # {{trace_id="{trace}"}} {value} {at:.3f}'
        lines.append(f'{start}"{bound}"}} {total}{mark}\n')
    braced = f"{{{told}}}" if told else ""
    lines.append(f"{metric.name}_sum{braced} {counted.seconds}\n{metric.name}_count{braced} {total}\n")
    return "".join(lines)


def bound_texts(bounds: Sequence[float]) -> tuple[str, ...]:
    """Return how the bounds are written, and that of the bucket for the rest."""
    return (*(str(float(bound)) for bound in bounds), "+Inf")
