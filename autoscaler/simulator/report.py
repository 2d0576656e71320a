"""Results as rows: for the terminal, as CSV, as JSON."""

from __future__ import annotations

import csv
import io
from typing import Any, Final

import msgspec

from autoscaler.simulator.comparison import FIGURES, Comparison, Result

_HOUR_S: Final = 3600.0

HEAD: Final = (
    "POLICY",
    "CALLS",
    "COLD",
    "COLD %",
    "WAIT P50",
    "P95",
    "P99",
    "LONGEST",
    "REPLICA-H",
    "GIB-H",
    "DROPPED",
    "LARGEST",
    "WRITES",
    "TOOK",
)


def rows(comparison: Comparison) -> list[tuple[object, ...]]:
    """Return a row of `HEAD` for each policy: the mean over the seeds, with least and most where they differ."""
    return [_row(result) for result in comparison.results]


def _row(result: Result) -> tuple[object, ...]:
    return (
        result.policy.name,
        _spread(result, "calls"),
        _spread(result, "cold_starts"),
        f"{result.mean('cold_percent'):.3g}",
        *(_seconds(result.mean(f"wait_{name}_s")) for name in ("p50", "p95", "p99", "longest")),
        _spread(result, "replica_seconds", _HOUR_S),
        _spread(result, "memory_gib_seconds", _HOUR_S),
        _number(result.mean("dropped") + result.mean("expired")),
        _number(result.most("largest_replicas")),
        _spread(result, "writes"),
        f"{result.mean('simulation_s'):.1f}s",
    )


def _spread(result: Result, figure: str, unit: float = 1.0) -> str:
    low, mean, high = (value / unit for value in (result.least(figure), result.mean(figure), result.most(figure)))
    if _number(low) == _number(high):
        return _number(mean)
    return f"{_number(mean)} ({_number(low)}-{_number(high)})"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _seconds(value: float) -> str:
    if value < 0.0005:
        return "0"
    return f"{value * 1000:.0f}ms" if value < 1 else f"{value:.1f}s"


def as_csv(comparison: Comparison) -> str:
    """Return one line for each policy and seed, with all figures."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["policy", "seed", *FIGURES])
    for result in comparison.results:
        for seed, run in zip(comparison.seeds, result.runs, strict=True):
            writer.writerow([result.policy.name, seed, *(getattr(run, name) for name in FIGURES)])
    return file.getvalue()


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return everything: policies with what they mean, figures of each seed, and what happened when."""
    return {
        "trace": {
            "origin": comparison.trace.origin,
            "lengthS": comparison.trace.length_s,
            "functions": len(comparison.trace.workloads),
        },
        "seeds": list(comparison.seeds),
        "policies": [
            {
                "name": result.policy.name,
                "words": result.policy.words(),
                "changed": result.policy.changed,
                "settings": msgspec.to_builtins(result.policy.settings()),
                "runs": [msgspec.to_builtins(run) for run in result.runs],
                "timeline": {
                    "widthS": result.timeline.width_s,
                    "calls": result.timeline.calls,
                    "coldStarts": result.timeline.cold,
                    "replicaSeconds": [round(value, 3) for value in result.timeline.replica_s],
                },
            }
            for result in comparison.results
        ],
    }
