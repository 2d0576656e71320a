"""One HTML page with everything in it: table, charts, what each policy means. It loads nothing and runs no script."""

from __future__ import annotations

from html import escape
from typing import Final

from autoscaler.simulator.chart import bar_chart, legend, line_chart
from autoscaler.simulator.comparison import Comparison
from autoscaler.simulator.drawing import bars, lines
from autoscaler.simulator.report import HEAD, rows
from orchestration.duration import format_duration

_STYLE: Final = """
:root { color-scheme: light dark; --faint: #8886; --page: #fff; --ink: #1a1a1a }
@media (prefers-color-scheme: dark) { :root { --page: #16181c; --ink: #e6e6e6 } }
body { margin: 2rem auto; padding: 0 1rem; max-width: 1180px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 1.4rem; margin: 0; overflow-wrap: anywhere }
h2 { font-size: 1rem; margin: 0 0 .4rem }
h2.after { margin-top: 2rem }
p { margin: .3rem 0 1rem }
.table { overflow-x: auto; margin: 1.2rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; white-space: nowrap }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--faint) }
th:first-child, td:first-child { text-align: left }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); gap: 1.6rem }
section.wide { grid-column: 1 / -1; overflow-x: auto }
section.wide svg { min-width: 720px }
svg { width: 100%; height: auto; display: block }
svg text { fill: currentColor; font-size: 12px }
.grid { stroke: var(--faint); fill: none }
.line { fill: none; stroke-width: 1.8 }
.spread { stroke: currentColor; fill: none; stroke-width: 1.2 }
.legend span { margin-right: 1.2rem; white-space: nowrap }
.legend i { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: 2px }
dl { margin: .4rem 0 }
dt { font-weight: 600 }
dd { margin: 0 0 .5rem }
"""


def page(comparison: Comparison) -> str:
    """Return the page."""
    trace, results = comparison.trace, comparison.results
    calls = results[0].mean("calls")
    functions = "1 function" if len(trace.workloads) == 1 else f"{len(trace.workloads):,} functions"
    told = f"{functions}, {calls:,.0f} calls in {format_duration(trace.length_s)}, {_seeds(comparison)}"
    names = [result.policy.name for result in results]
    head = "".join(f"<th>{escape(name)}</th>" for name in HEAD)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows(comparison))
    widest, *rest = lines(comparison)
    charts = "".join(
        [
            *(_section(chart.title, bar_chart(chart)) for chart in bars(comparison)),
            _section(widest.title, line_chart(widest, wide=True), "wide"),
            *(_section(chart.title, line_chart(chart)) for chart in rest),
        ]
    )
    meanings = "".join(f"<dt>{escape(result.policy.name)}</dt><dd>{escape(result.policy.words())}</dd>" for result in results)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(trace.origin)}: policies compared</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(trace.origin)}</h1><p>{escape(told)}</p>{legend(names)}"
        f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<div class="charts">{charts}</div><h2 class="after">What the policies are</h2><dl>{meanings}</dl></body></html>\n'
    )


def _section(title: str, svg: str, kind: str = "") -> str:
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{svg}</section>'


def _seeds(comparison: Comparison) -> str:
    if len(comparison.seeds) == 1:
        return f"seed {comparison.seeds[0]}"
    return f"{len(comparison.seeds)} seeds: the mean, with least and most; what happened when is of seed {comparison.seeds[0]}"
