"""A real Prometheus on a live platform: figures are those of the load, and every panel and rule has something to show."""

from __future__ import annotations

import concurrent.futures
import http.client
import math
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.deploy.prometheus import Prometheus, free_port, promtool, rules, scraping
from tests.deploy.test_dashboards import queries
from tests.end_to_end.platform import Platform, running, until
from tests.telemetry.collector import collecting

NAME = "hello.openfaas-fn"
HANDLER = """
import time
def handle(event, context):
    time.sleep(0.002)
    if event.path == "/metrics":
        return {"statusCode": 200, "body": "own_total 7\\n", "headers": {"Content-Type": "text/plain"}}
    if event.path == "/fail":
        raise ValueError("broken")
    return "ok"
"""
BROKEN = "raise SystemExit('does not start')\ndef handle(event, context): pass\n"
ROUNDS, CALLERS, CALLS = 6, 4, 50


class Live(NamedTuple):
    platform: Platform
    prometheus: Prometheus
    sent: Counter[str]


def load(platform: Platform, calls: int) -> Counter[str]:
    """Call over one connection, each tenth fails; returns how many were answered with which code."""
    connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=20)
    answered: Counter[str] = Counter()
    for number in range(calls):
        connection.request("GET", "/function/hello/fail" if number % 10 == 0 else "/function/hello")
        response = connection.getresponse()
        response.read()
        answered[str(response.status)] += 1
    connection.close()
    return answered


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Two edges under load, with a function of each kind, one that does not start, and a Prometheus that saw all of it."""
    home: Path = tmp_path_factory.mktemp("live")
    port = free_port()
    flags = ["--workers", "2", "--metrics-port", str(port), "--trace-ratio", "0.1"]
    with collecting() as collector, running(home, *flags, "--otlp-endpoint", collector.url) as platform:
        limits = ("--label", "com.pinnace.concurrency=1", "--label", "com.openfaas.scale.max=2")
        for version in ("1", "2"):
            platform.deploy("hello", HANDLER, *limits, "--env", f"VERSION={version}")
            platform.deploy("rolling", HANDLER, "--env", f"VERSION={version}", "--gradual", "1h")
        platform.faas("traffic", "hello", "--tag", "old=1")
        platform.deploy(
            "by-rate", HANDLER, "--label", "com.openfaas.scale.type=rps", "--annotation", "prometheus.io.scrape=true"
        )
        platform.deploy("by-cpu", HANDLER, "--label", "com.openfaas.scale.type=cpu", "--label", "com.openfaas.scale.target=500")
        until(lambda: platform.call("hello").status == 200)
        with scraping(home, f"127.0.0.1:{port}") as prometheus:
            until(lambda: prometheus.query(f'gateway_service_count{{function_name="{NAME}"}}'))
            sent = Counter({"200": 1})
            platform.scale("hello", 0)
            until(lambda: not platform.pids("hello"))
            with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
                for _ in range(ROUNDS):
                    for answered in pool.map(lambda _: load(platform, CALLS), range(CALLERS)):
                        sent += answered
            # A rate needs a series that grows: its second cold call is the first that a panel can show.
            until(lambda: prometheus.query(f'pinnace_cold_start_first_byte_seconds_count{{function_name="{NAME}"}}'))
            platform.scale("hello", 0)
            until(lambda: not platform.pids("hello"))
            sent += load(platform, 1)
            for name in ("by-rate", "by-cpu", "nobody"):
                platform.call(name)
            for words in ({}, {"X-TTL-Seconds": "0.000001"}, {"X-Delay-Seconds": "3600"}):
                assert platform.request("POST", "/async-function/hello", b"", words).status == 202
            (home / "broken").mkdir()
            (home / "broken" / "handler.py").write_text(BROKEN)
            platform.faas("deploy", home / "broken", "--name", "broken", "--lang", "python3-http", check=False)
            until(lambda: prometheus.query("sum(pinnace_replica_start_failures_total) > 0"))
            yield Live(platform, prometheus, sent)


def test_figures_are_those_of_the_load(live: Live) -> None:
    total = sum(live.sent.values())
    expr = f'sum by (code) (gateway_function_invocation_total{{function_name="{NAME}"}})'

    def counted() -> dict[str, float]:
        return {labels["code"]: value for labels, value in live.prometheus.query(expr)}

    until(lambda: sum(counted().values()) >= total)
    assert set(counted()) == set(live.sent) == {"200", "500"}
    for code, count in live.sent.items():
        assert counted()[code] == pytest.approx(count, rel=0.01)
    for metric in ("gateway_function_invocation_started", "gateway_functions_seconds_count"):
        (_, value), *_ = live.prometheus.query(f'sum({metric}{{function_name="{NAME}"}})')
        assert value == pytest.approx(total, rel=0.01)
    ((_, cold),) = live.prometheus.query(f'pinnace_cold_starts_total{{function_name="{NAME}"}}')
    assert 2 <= cold <= CALLERS + 1
    ((_, took),) = live.prometheus.query(f'sum(gateway_functions_seconds_sum{{function_name="{NAME}"}})')
    assert took >= 0.002 * total


def test_figures_of_asynchronous_calls_are_those_that_were_sent(live: Live) -> None:
    late = {"X-TTL-Seconds": "0.000001"}
    for number in range(60):
        assert live.platform.request("POST", "/async-function/by-cpu", b"", late if number % 6 == 0 else {}).status == 202
    own = '{function_name="by-cpu.openfaas-fn", kind="call"}'

    def counted() -> dict[str, float]:
        found = live.prometheus.query(f"sum by (outcome) (pinnace_async_attempts_total{own})")
        return {labels["outcome"]: value for labels, value in found}

    until(lambda: sum(counted().values()) >= 60)
    assert counted() == {"succeeded": 50, "dead": 10}
    until(lambda: live.prometheus.query(f"sum(pinnace_async_dead{own}) == 10"))
    until(lambda: live.prometheus.query(f"sum(pinnace_async_waiting{own}) + sum(pinnace_async_running{own}) == 0"))


def test_every_panel_shows_something(live: Live) -> None:
    def empty() -> list[str]:
        return [
            f"{where}: {expr}"
            for where, expr in queries()
            if all(math.isnan(value) for _, value in live.prometheus.query(shown(expr)))
        ]

    def shown(expr: str) -> str:
        return expr.replace("$__rate_interval", "2m").replace("$function", NAME)

    deadline = time.monotonic() + 20
    while missing := empty():
        assert time.monotonic() < deadline, "\n".join(missing)


def test_every_recorded_series_is_there(live: Live) -> None:
    for rule in rules():
        if "record" in rule:
            labels = ",".join(f'{name}="{value}"' for name, value in rule.get("labels", {}).items())
            until(lambda: live.prometheus.query(f"{rule['record']}{{{labels}}}"))  # noqa: B023


def test_every_alert_looks_at_something(live: Live) -> None:
    for rule in rules():
        if "alert" in rule:
            watched = re.sub(r" (?:>|==) [0-9.]+(?: \* [0-9.]+)?", "", rule["expr"])
            watched = watched.replace('status="failed"', 'status="success"')
            until(lambda: live.prometheus.query(watched))  # noqa: B023


def test_metrics_of_a_function_s_own_are_scraped(live: Live) -> None:
    (series,) = until(lambda: live.prometheus.query("own_total"))
    labels, value = series
    assert value == 7
    assert (labels["function_name"], labels["job"], labels["revision"]) == (
        "by-rate.openfaas-fn",
        "functions",
        "by-rate-00001",
    )
    assert live.prometheus.query('count(up{job="functions"} == 1)') == [({}, 1.0)]


def test_exemplars_lead_to_traces(live: Live) -> None:
    def exemplars() -> list[dict[str, str]]:
        found = live.prometheus.get(
            "/api/v1/query_exemplars", query="gateway_functions_seconds_bucket", start="0", end="9999999999"
        )
        return [exemplar["labels"] for series in found for exemplar in series["exemplars"]]

    assert re.fullmatch("[0-9a-f]{32}", until(exemplars)[0]["trace_id"])


def test_promtool_finds_only_what_is_openfaas_s(live: Live) -> None:
    lines = (Path(__file__).parent / "promtool_findings.txt").read_text().splitlines()
    known = " ".join(line for line in lines if not line.startswith("#"))
    page = live.platform.request("GET", "/metrics").text
    found = promtool("check", "metrics", stdin=page)
    assert (found.stdout + found.stderr).split() == known.split()
