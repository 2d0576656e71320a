"""Writes the Grafana dashboards beside this file: `python deploy/grafana/dashboards.py`.

A dashboard is a list of rows, a row a list of panels, a panel a title, a unit and its queries. What Grafana wants besides is
the same for all of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
WIDTH = 24
HEIGHT = 8
LOW = 4
RATE = "$__rate_interval"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Query(NamedTuple):
    """PromQL, and what its series are called."""

    expr: str
    legend: str = ""


class Panel(NamedTuple):
    """`kind` is Grafana's; `unit` too. `help` is shown on the panel's corner."""

    title: str
    unit: str
    queries: Sequence[Query]
    help: str = ""
    kind: str = "timeseries"
    stack: bool = False


def quantiles(metric: str, selector: str, by: str = "", *, of: Sequence[float] = (0.5, 0.95, 0.99)) -> list[Query]:
    """Percentiles of a histogram, one query for each."""
    kept = f"le, {by}" if by else "le"
    named = f" {{{{{by}}}}}" if by else ""
    return [
        Query(f"histogram_quantile({q}, sum by ({kept}) (rate({metric}_bucket{selector}[{RATE}])))", f"p{q * 100:g}{named}")
        for q in of
    ]


def rate(metric: str, selector: str = "", by: str = "function_name") -> str:
    """A counter's rate, summed."""
    return f"sum by ({by}) (rate({metric}{selector}[{RATE}]))"


def rates(metric: str, by: str, selector: str = "") -> Query:
    """A counter's rate for each value of the label `by`."""
    return Query(rate(metric, selector, by), f"{{{{{by}}}}}")


def top(expr: str, legend: str = "{{function_name}}") -> Query:
    """The ten largest of what may be a thousand functions'."""
    return Query(f"topk(10, {expr})", legend)


ERRORS = '{code=~"5.."}'
UNLUCKY = '{outcome!="succeeded"}'
ONE = '{function_name="$function"}'
ONE_FAILING = '{function_name="$function", code=~"5.."}'

OVERVIEW = [
    [
        Panel("Functions", "short", [Query("sum(pinnace_functions)")], kind="stat"),
        Panel("Calls", "reqps", [Query(f"sum(rate(gateway_function_invocation_total[{RATE}]))")], kind="stat"),
        Panel(
            "Errors (5xx)",
            "percentunit",
            [
                Query(
                    f"(sum(rate(gateway_function_invocation_total{ERRORS}[{RATE}])) or vector(0))"
                    f" / (sum(rate(gateway_function_invocation_total[{RATE}])) > 0)"
                )
            ],
            kind="stat",
        ),
        Panel("p95", "s", quantiles("gateway_functions_seconds", "", of=(0.95,)), kind="stat"),
        Panel("Replicas ready", "short", [Query("sum(gateway_service_ready_count)")], kind="stat"),
        Panel("Calls waiting", "short", [Query("sum(pinnace_queue_length)")], kind="stat"),
    ],
    [
        Panel("Calls", "reqps", [top(rate("gateway_function_invocation_total"))], "The ten functions that are called most."),
        Panel("Errors (5xx)", "reqps", [top(rate("gateway_function_invocation_total", ERRORS))]),
    ],
    [
        Panel(
            "How long calls take", "s", quantiles("gateway_functions_seconds", ""), "From the head to the end of the answer."
        ),
        Panel(
            "Slowest (p95)",
            "s",
            [
                Query(
                    "topk(10, histogram_quantile(0.95, sum by (le, function_name)"
                    f" (rate(gateway_functions_seconds_bucket[{RATE}]))))",
                    "{{function_name}}",
                )
            ],
        ),
    ],
    [
        Panel("Calls in flight", "short", [top("gateway_function_invocation_inflight")], "At a replica or waiting for one."),
        Panel(
            "Replicas",
            "short",
            [Query("sum(gateway_service_count)", "wanted"), Query("sum(gateway_service_ready_count)", "ready")],
        ),
    ],
    [
        Panel("Cold starts", "cps", [top(rate("pinnace_cold_starts_total"))]),
        Panel("Memory of functions", "bytes", [top("pod_memory_working_set_bytes")]),
    ],
    [
        Panel(
            "Asynchronous calls that wait",
            "short",
            [top("pinnace_async_waiting", "{{function_name}} {{kind}}")],
            "Also those that are delayed, or between two attempts.",
        ),
        Panel(
            "How late asynchronous calls are",
            "s",
            [top("pinnace_async_late_seconds", "{{function_name}} {{kind}}")],
            "For how long the oldest one has been due. It grows where calls come faster than they are carried out.",
        ),
    ],
    [
        Panel("Gradual rollouts", "percent", [Query("pinnace_rollout_percent", "{{function_name}}")], "How far they are."),
        Panel(
            "Gradual rollouts that ended",
            "short",
            [
                Query(
                    f"sum by (function_name, outcome) (increase(pinnace_rollouts_total[{RATE}]))",
                    "{{function_name}} {{outcome}}",
                )
            ],
        ),
    ],
]

FUNCTION = [
    [
        Panel("Calls by code", "reqps", [rates("gateway_function_invocation_total", "code", ONE)], stack=True),
        Panel("How long calls take", "s", quantiles("gateway_functions_seconds", ONE), "Points are traced calls."),
    ],
    [
        Panel(
            "Distribution",
            "s",
            [Query(f"sum by (le) (rate(gateway_functions_seconds_bucket{ONE}[{RATE}]))", "{{le}}")],
            kind="heatmap",
        ),
        Panel(
            "Share of errors (5xx)",
            "percentunit",
            [
                Query(
                    f"(sum(rate(gateway_function_invocation_total{ONE_FAILING}[{RATE}])) or vector(0))"
                    f" / (sum(rate(gateway_function_invocation_total{ONE}[{RATE}])) > 0)",
                    "errors",
                )
            ],
        ),
    ],
    [
        Panel(
            "In flight and waiting",
            "short",
            [Query(f"pinnace_calls_in_flight{ONE}", "at replicas"), Query(f"pinnace_queue_length{ONE}", "waiting")],
            stack=True,
        ),
        Panel(
            "How long calls waited",
            "s",
            [
                *quantiles("pinnace_queue_wait_seconds", ONE, of=(0.5, 0.95)),
                Query(f"pinnace_queue_oldest_wait_seconds{ONE}", "oldest now"),
            ],
            "Calls that found no free slot.",
        ),
    ],
    [
        Panel(
            "Asynchronous calls",
            "short",
            [
                Query(f"sum(pinnace_async_waiting{ONE})", "waiting"),
                Query(f"sum(pinnace_async_running{ONE})", "running"),
                Query(f"sum(pinnace_async_dead{ONE})", "dead"),
            ],
        ),
        Panel(
            "Attempts at asynchronous calls",
            "cps",
            [rates("pinnace_async_attempts_total", "outcome", ONE)],
            "Succeeded, to be made again, or the last one of a call that is dead.",
        ),
        Panel("How late they are", "s", [Query(f"max(pinnace_async_late_seconds{ONE})", "oldest")]),
    ],
    [
        Panel("Replicas by state", "short", [Query(f"pinnace_replicas{ONE}", "{{state}}")], stack=True),
        Panel(
            "Wanted, and the bounds",
            "short",
            [
                Query(f"gateway_service_count{ONE}", "wanted"),
                Query(f"gateway_service_ready_count{ONE}", "ready"),
                Query(f"gateway_service_min{ONE}", "min"),
                Query(f"pinnace_service_max{ONE}", "max"),
            ],
        ),
    ],
    [
        Panel(
            "Cold starts and restarts",
            "short",
            [
                Query(f"increase(pinnace_cold_starts_total{ONE}[{RATE}])", "cold starts"),
                Query(f"increase(pinnace_replica_restarts_total{ONE}[{RATE}])", "restarts"),
            ],
        ),
        Panel("Starts of replicas", "s", quantiles("pinnace_replica_start_seconds", ONE, of=(0.5, 0.95))),
        Panel(
            "First byte of cold calls",
            "s",
            quantiles("pinnace_cold_start_first_byte_seconds", ONE, of=(0.5, 0.95)),
            "Of calls that found no replica: until their answer began.",
        ),
    ],
    [
        Panel("CPU", "short", [Query(f"rate(pod_cpu_usage_seconds_total{ONE}[{RATE}])", "cores")]),
        Panel("Memory", "bytes", [Query(f"pod_memory_working_set_bytes{ONE}", "memory")]),
    ],
    [
        Panel(
            "Traffic",
            "percent",
            [Query(f"pinnace_revision_traffic_percent{ONE}", "{{revision}}")],
            "Where calls can come to several revisions.",
            stack=True,
        ),
        Panel(
            "Errors (5xx) by revision",
            "percentunit",
            [
                Query(
                    f"{rate('pinnace_revision_invocations_total', ONE_FAILING, 'revision')}"
                    f" / ({rate('pinnace_revision_invocations_total', ONE, 'revision')} > 0)",
                    "{{revision}}",
                )
            ],
        ),
    ],
]

AUTOSCALER = [
    [
        Panel("Wanted", "short", [top("gateway_service_count")]),
        Panel(
            "Missing",
            "short",
            [top("gateway_service_count - gateway_service_ready_count")],
            "Replicas that are wanted and not ready.",
        ),
    ],
    [
        Panel(
            "Decisions by rule",
            "cps",
            [rates("pinnace_scaler_decisions_total", "rule")],
            "Those that changed a count, by the rule that gave it its value.",
            stack=True,
        ),
        Panel(
            "At the most allowed",
            "short",
            [Query("sum(pinnace_scale_limit_reached)", "functions")],
            "Functions whose load asks for more replicas than they may have.",
        ),
    ],
    [
        Panel(
            "Calls per ready replica, of the target",
            "percentunit",
            [
                Query(
                    "topk(10, gateway_function_invocation_inflight / (gateway_service_ready_count > 0)"
                    ' / on (function_name) gateway_service_target_load{scaling_type="capacity"})',
                    "{{function_name}}",
                )
            ],
            "Functions scaled by concurrency.",
        ),
        Panel("Waiting", "short", [top("pinnace_queue_length")]),
    ],
    [
        Panel(
            "Phases of starts (p95)",
            "s",
            [
                Query(
                    "histogram_quantile(0.95, sum by (le, kind, phase)"
                    f" (rate(pinnace_replica_start_phase_seconds_bucket[{RATE}])))",
                    "{{kind}}: {{phase}}",
                )
            ],
        ),
        Panel("Starts", "cps", [rates("pinnace_replica_start_seconds_count", "function_name")]),
    ],
]

PLATFORM = [
    [
        Panel("CPU", "short", [rates("pinnace_process_cpu_seconds_total", "process")], "Cores."),
        Panel("Memory", "bytes", [Query("sum by (process) (pinnace_process_resident_memory_bytes)", "{{process}}")]),
    ],
    [
        Panel("Connections", "short", [Query("pinnace_edge_connections", "{{edge}}")], stack=True),
        Panel(
            "New connections",
            "cps",
            [
                Query(rate("pinnace_edge_connections_accepted_total", by="edge"), "{{edge}} accepted"),
                Query(rate("pinnace_edge_connections_refused_total", by="edge"), "{{edge}} refused"),
            ],
        ),
    ],
    [
        Panel("Requests that were no function's", "reqps", [rates("pinnace_edge_requests_refused_total", "code")]),
        Panel("Open files", "short", [Query("sum by (process) (pinnace_process_open_fds)", "{{process}}")]),
    ],
    [
        Panel("Control API", "reqps", [rates("http_requests_total", "status")], stack=True),
        Panel(
            "Control API, how long (p95)",
            "s",
            [
                Query(
                    "topk(10, histogram_quantile(0.95, sum by (le, method, path)"
                    f" (rate(http_request_duration_seconds_bucket[{RATE}]))))",
                    "{{method}} {{path}}",
                )
            ],
        ),
    ],
    [
        Panel("Event loop's lateness", "s", quantiles("pinnace_control_loop_lag_seconds", "", of=(0.5, 0.99))),
        Panel("Builds", "short", [Query(f"sum by (status) (increase(pinnace_build_seconds_count[{RATE}]))", "{{status}}")]),
    ],
    [
        Panel(
            "How long builds take (p95)",
            "s",
            [Query(f"histogram_quantile(0.95, sum by (le) (rate(pinnace_build_seconds_bucket[{RATE}])))", "p95")],
        ),
        Panel(
            "Spans",
            "cps",
            [rates("pinnace_spans_total", "fate")],
            "Exported, dropped as too many waited, or failed to reach the collector.",
        ),
    ],
]

ASYNC = [
    [
        Panel("Calls that wait", "short", [Query("sum(pinnace_async_waiting)")], kind="stat"),
        Panel("Calls that run", "short", [Query("sum(pinnace_async_running)")], kind="stat"),
        Panel("Dead calls", "short", [Query("sum(pinnace_async_dead)")], kind="stat"),
        Panel("The latest", "s", [Query("max(pinnace_async_late_seconds)")], kind="stat"),
    ],
    [
        Panel(
            "Waiting",
            "short",
            [top("pinnace_async_waiting", "{{function_name}} {{kind}}")],
            "Also those that are delayed, or between two attempts.",
        ),
        Panel(
            "How late they are",
            "s",
            [top("pinnace_async_late_seconds", "{{function_name}} {{kind}}")],
            "For how long the oldest one has been due.",
        ),
    ],
    [
        Panel("Running", "short", [top("pinnace_async_running", "{{function_name}} {{kind}}")], stack=True),
        Panel("Dead", "short", [top("pinnace_async_dead", "{{function_name}} {{kind}}")], "Given up. They can be replayed."),
    ],
    [
        Panel(
            "Attempts",
            "cps",
            [rates("pinnace_async_attempts_total", "outcome")],
            "Succeeded, to be made again, or the last one of a call that is dead.",
            stack=True,
        ),
        Panel(
            "Attempts that failed",
            "cps",
            [top(rate("pinnace_async_attempts_total", UNLUCKY, "function_name, outcome"), "{{function_name}} {{outcome}}")],
        ),
    ],
    [
        Panel(
            "Timers",
            "cps",
            [rates("pinnace_timer_runs_total", "fate")],
            "Runs: fired, left out as missed or overlapping, or failed to be submitted and tried again.",
        ),
        Panel(
            "CloudEvents",
            "cps",
            [
                rates("pinnace_events_total", "fate"),
                Query(f"sum(rate(pinnace_event_calls_total[{RATE}]))", "calls made of them"),
            ],
        ),
        Panel(
            "Callbacks",
            "cps",
            [rates("pinnace_callbacks_total", "fate")],
            "Attempts: sent, to be tried again, given up, or refused for their address.",
        ),
    ],
]

DASHBOARDS = {
    "overview": ("Pinnace: overview", OVERVIEW),
    "function": ("Pinnace: one function", FUNCTION),
    "autoscaler": ("Pinnace: autoscaler", AUTOSCALER),
    "async": ("Pinnace: asynchronous calls", ASYNC),
    "platform": ("Pinnace: platform", PLATFORM),
}


def panel(number: int, shown: Panel, x: int, y: int, width: int, height: int) -> dict[str, Any]:
    """Return a panel as Grafana has it."""
    targets = [
        {
            "refId": chr(ord("A") + i),
            "datasource": DATASOURCE,
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "exemplar": "gateway_functions_seconds_bucket" in query.expr and shown.kind == "timeseries",
            **({"format": "heatmap"} if shown.kind == "heatmap" else {}),
        }
        for i, query in enumerate(shown.queries)
    ]
    defaults: dict[str, Any] = {"unit": shown.unit, "min": 0}
    if shown.kind == "timeseries":
        defaults["custom"] = {
            "fillOpacity": 20 if shown.stack else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if shown.stack else "none"},
        }
    return {
        "id": number,
        "type": shown.kind,
        "title": shown.title,
        **({"description": shown.help} if shown.help else {}),
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": width, "h": height},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": targets,
    }


def dashboard(name: str, title: str, rows: Sequence[Sequence[Panel]]) -> dict[str, Any]:
    """Return a dashboard as Grafana has it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        height = LOW if all(shown.kind == "stat" for shown in row) else HEIGHT
        width = WIDTH // len(row)
        for column, shown in enumerate(row):
            panels.append(panel(len(panels) + 1, shown, column * width, y, width, height))
        y += height
    variables: list[dict[str, Any]] = [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
    ]
    if "$function" in json.dumps([p["targets"] for p in panels]):
        variables.append(
            {
                "name": "function",
                "type": "query",
                "label": "Function",
                "datasource": DATASOURCE,
                "query": {"query": "label_values(gateway_service_count, function_name)", "refId": "functions"},
                "refresh": 2,
                "sort": 1,
            }
        )
    return {
        "uid": f"pinnace-{name}",
        "title": title,
        "tags": ["pinnace"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables},
        "links": [{"type": "dashboards", "tags": ["pinnace"], "title": "Pinnace", "asDropdown": True, "keepTime": True}],
        "panels": panels,
    }


def files() -> dict[Path, str]:
    """Return each file's path and text."""
    return {
        HERE / f"{name}.json": json.dumps(dashboard(name, title, rows), indent=1) + "\n"
        for name, (title, rows) in DASHBOARDS.items()
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
