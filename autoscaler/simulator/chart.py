"""Charts as SVG text for a page: nothing is loaded from anywhere, colours of text and lines follow the page's."""

from __future__ import annotations

from html import escape
from typing import Final

from autoscaler.simulator.drawing import COLOURS, Bars, Lines, clock, number, ticks, time_ticks

_ROW: Final = 26
_NAMES: Final = 150
_NUMBERS: Final = 76
_WIDE: Final = 560
_PLOT: Final = 190
_LEFT: Final = 56
_LETTER: Final = 6.6
"""Width of a letter at 12 pixels, for what must not overlap."""


def bar_chart(chart: Bars) -> str:
    """Return horizontal bars, one for each policy, with a line from the least to the most over the seeds."""
    names = max(_NAMES, max(len(bar.name) for bar in chart.bars) * _LETTER + 12)
    space = _WIDE - names - _NUMBERS
    most = max(*(bar.high for bar in chart.bars), 1e-09)
    height = _ROW * len(chart.bars) + 8
    parts = [_open(_WIDE, height, chart.title)]
    for i, bar in enumerate(chart.bars):
        top = 4 + i * _ROW
        middle = top + _ROW / 2
        end = names + space * bar.value / most
        told = f"{bar.name}: {number(bar.value)}"
        if bar.low != bar.high:
            told += f" ({number(bar.low)} to {number(bar.high)})"
        parts.append(f"<g><title>{escape(told)}</title>")
        parts.append(_text(names - 8, middle + 4, bar.name, "end"))
        parts.append(
            f'<rect x="{names:.1f}" y="{top + 4}" width="{max(0.5, end - names):.1f}" height="{_ROW - 8}" fill="{_colour(i)}"/>'
        )
        label = end
        if bar.low != bar.high:
            low, high = (names + space * value / most for value in (bar.low, bar.high))
            parts.append(
                f'<path class="spread" d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8"/>'
            )
            label = max(end, high)
        parts.append(_text(label + 6, middle + 4, number(bar.value)))
        parts.append("</g>")
    return "".join([*parts, "</svg>"])


def line_chart(chart: Lines, *, wide: bool = False) -> str:
    """Return levels over time, one line for each policy; a `wide` one is as wide as two."""
    width = 2 * _WIDE if wide else _WIDE
    height = _PLOT + 34
    right = width - 10
    levels = ticks(max((value for line in chart.lines for value in line.values), default=0.0))
    scale = _PLOT / levels[-1]
    parts = [_open(width, height, chart.title)]
    for level in levels:
        y = 6 + _PLOT - level * scale
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>')
        parts.append(_text(_LEFT - 6, y + 4, number(level), "end"))
    for moment in time_ticks(chart.length_s):
        x = _LEFT + (right - _LEFT) * moment / chart.length_s
        parts.append(f'<path class="grid" d="M{x:.1f} {6 + _PLOT}v4"/>')
        parts.append(_text(min(x, right - 8), _PLOT + 24, clock(moment, chart.length_s), "middle"))
    for i, line in enumerate(chart.lines):
        step = (right - _LEFT) / len(line.values)
        path, before = [f"M{_LEFT} {6 + _PLOT - line.values[0] * scale:.1f}"], line.values[0]
        for n, value in enumerate(line.values):
            if value != before:
                path.append(f"H{_LEFT + n * step:.1f}V{6 + _PLOT - value * scale:.1f}")
                before = value
        path.append(f"H{right}")
        parts.append(f'<path class="line" stroke="{_colour(i)}" d="{"".join(path)}"><title>{escape(line.name)}</title></path>')
    return "".join([*parts, "</svg>"])


def legend(names: list[str]) -> str:
    """Return which colour is which policy, as HTML."""
    entries = [f'<span><i style="background:{_colour(i)}"></i>{escape(name)}</span>' for i, name in enumerate(names)]
    return f'<p class="legend">{"".join(entries)}</p>'


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _open(width: float, height: float, title: str) -> str:
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
