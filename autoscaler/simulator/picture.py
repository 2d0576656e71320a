"""The charts as a PNG picture, drawn by Matplotlib, which is there only where it was asked for (`pinnace[charts]`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from autoscaler.simulator.comparison import Comparison
from autoscaler.simulator.drawing import COLOURS, Bars, Lines, bars, clock, lines, number, time_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class NoMatplotlib(Exception):
    """Matplotlib is not installed; the message says how to get it, and what works without."""


def write(comparison: Comparison, path: Path) -> None:
    """Draw the comparison into the file. Raises NoMatplotlib, OSError."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    except ImportError:
        raise NoMatplotlib(
            "pictures need Matplotlib: pip install 'pinnace[charts]'. A page with the same charts (--html) needs nothing"
        ) from None
    compared, over_time = bars(comparison)[:2], lines(comparison)
    figure = Figure(figsize=(12, 9), layout="constrained")
    FigureCanvasAgg(figure)  # the one back end that needs no screen; pyplot and its global state are not used
    shares = [0.42 * len(comparison.results) + 0.6, 4, 4]
    grid = figure.add_gridspec(3, 2, height_ratios=shares)
    figure.suptitle(comparison.trace.origin)
    names = [result.policy.name for result in comparison.results]
    keys = [Patch(color=COLOURS[i % len(COLOURS)], label=name) for i, name in enumerate(names)]
    figure.legend(handles=keys, loc="outside lower center", ncols=min(6, len(keys)), frameon=False)
    for place, chart in enumerate(compared):
        _draw_bars(figure.add_subplot(grid[0, place]), chart)
    _draw_lines(figure.add_subplot(grid[1, :]), over_time[0])
    for place, drawn in enumerate(over_time[1:]):
        _draw_lines(figure.add_subplot(grid[2, place]), drawn)
    figure.savefig(path, format="png", dpi=110)


def _draw_bars(axes: Axes, chart: Bars) -> None:
    names = [bar.name for bar in chart.bars]
    values = [bar.value for bar in chart.bars]
    spread = [[bar.value - bar.low for bar in chart.bars], [bar.high - bar.value for bar in chart.bars]]
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(names))]
    drawn = axes.barh(names, values, color=colours, xerr=spread if any(map(any, spread)) else None, capsize=3)
    axes.bar_label(drawn, [number(value) for value in values], padding=6)
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.set_title(chart.title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_lines(axes: Axes, chart: Lines) -> None:
    for i, line in enumerate(chart.lines):
        edges = [n * chart.length_s / len(line.values) for n in range(len(line.values) + 1)]
        axes.stairs(line.values, edges, baseline=None, color=COLOURS[i % len(COLOURS)])
    moments = time_ticks(chart.length_s)
    axes.set_xticks(moments, [clock(moment, chart.length_s) for moment in moments])
    axes.set_xlim(0, chart.length_s)
    axes.set_ylim(bottom=0)
    axes.set_title(chart.title, fontsize=10, loc="left")
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
