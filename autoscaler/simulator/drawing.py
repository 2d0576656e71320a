"""What is drawn of a comparison, whoever draws it: bars that compare policies, and lines over time."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Final

from autoscaler.simulator.comparison import Comparison, Result

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
"""Okabe and Ito's palette, which colour-blind people can tell apart; policies beyond it begin it anew."""


@dataclass(frozen=True)
class Bar:
    """One policy's `value`, between `low` and `high` over the seeds."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bars:
    title: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Line:
    """`values` of equal parts of the time, each drawn as a level."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Lines:
    title: str
    length_s: float
    lines: tuple[Line, ...]


def bars(comparison: Comparison) -> tuple[Bars, ...]:
    """Return what is compared: what calls suffered, and what it cost."""
    return (
        _bars(comparison, "Cold starts", "cold_starts", 1.0),
        _bars(comparison, "Replica-hours", "replica_seconds", 3600.0),
        _bars(comparison, "GiB-hours", "memory_gib_seconds", 3600.0),
        _bars(comparison, "Wait of calls, 99th percentile (ms)", "wait_p99_s", 0.001),
    )


def lines(comparison: Comparison) -> tuple[Lines, ...]:
    """Return what happened when (first seed): replicas and cold starts of each policy, and the calls they all met."""
    length_s = comparison.trace.length_s
    results = comparison.results

    def over_time(title: str, values: list[Line]) -> Lines:
        return Lines(title, length_s, tuple(values))

    first = results[0].timeline
    return (
        over_time("Replicas", [_line(r, [held / r.timeline.width_s for held in r.timeline.replica_s]) for r in results]),
        over_time("Cold starts so far", [_line(r, _so_far(r.timeline.cold)) for r in results]),
        over_time("Calls a second", [Line("calls", tuple(count / first.width_s for count in first.calls))]),
    )


def _bars(comparison: Comparison, title: str, figure: str, unit: float) -> Bars:
    found = [
        Bar(r.policy.name, r.mean(figure) / unit, r.least(figure) / unit, r.most(figure) / unit) for r in comparison.results
    ]
    return Bars(title, tuple(found))


def _line(result: Result, values: list[float]) -> Line:
    return Line(result.policy.name, tuple(values))


def _so_far(counts: list[int]) -> list[float]:
    total, sums = 0, []
    for count in counts:
        total += count
        sums.append(float(total))
    return sums


def ticks(most: float, wanted: int = 5) -> list[float]:
    """Return round numbers from 0 to at least `most`: steps of 1, 2 or 5 times a power of ten."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / wanted
    power = 10.0 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return [i * step for i in range(ceil(most / step * (1 - 1e-9)) + 1)]


def number(value: float) -> str:
    """Return a number as short as three digits allow: 12,345, 12.3, 0.012."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def clock(seconds: float, length_s: float) -> str:
    """Return a moment on the time axis: `3h` in a trace of hours, `5m` in one of minutes, else `20s`."""
    size, unit = (3600.0, "h") if length_s >= 2 * 3600 else (60.0, "m") if length_s >= 120 else (1.0, "s")
    return f"{seconds / size:.3g}{unit}"


def time_ticks(length_s: float) -> list[float]:
    """Return moments for the time axis, in whole steps of its unit, none beyond the end."""
    size = 3600.0 if length_s >= 2 * 3600 else 60.0 if length_s >= 120 else 1.0
    return [tick * size for tick in ticks(length_s / size, 8) if tick * size <= length_s * (1 + 1e-9)]
