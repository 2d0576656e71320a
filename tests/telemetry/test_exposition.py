"""Both formats, read back by the official client."""

from __future__ import annotations

import math

import pytest

from telemetry.exposition import bound_texts, head, histogram, is_openmetrics, line
from telemetry.histogram import Histogram
from telemetry.metrics import Metric
from tests.gateway.metrics.reading import read_openmetrics, read_text

COUNTER = Metric("calls_total", "counter", ("name",), "Calls.")
BARE = Metric("calls_started", "counter", ("name",), "Calls that came.")
GAUGE = Metric("level", "gauge", (), "A level.")
TIMES = Metric("times_seconds", "histogram", ("name",), "Times.")
BOUNDS = (0.5, 2.0)


def page(openmetrics: bool) -> str:
    counted = Histogram(BOUNDS)
    for value in (0.25, 1.0, 4.0):
        counted.observe(BOUNDS, value)
    counted.illustrate(1, ("ab" * 16, 1.0, 12.5))
    return (
        head(COUNTER, openmetrics)
        + line(COUNTER, ('odd "name"\\\n',), 3)
        + head(BARE, openmetrics)
        + line(BARE, ("a",), 5)
        + head(GAUGE, openmetrics)
        + line(GAUGE, (), 1.5)
        + head(TIMES, openmetrics)
        + histogram(TIMES, ("a",), bound_texts(BOUNDS), counted, openmetrics)
        + ("# EOF\n" if openmetrics else "")
    )


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_official_client_reads_what_was_written(openmetrics: bool) -> None:
    families = {f.name: f for f in (read_openmetrics if openmetrics else read_text)(page(openmetrics))}
    samples = {(s.name, *s.labels.values()): s.value for f in families.values() for s in f.samples}
    assert samples == {
        ("calls_total", 'odd "name"\\\n'): 3,
        ("calls_started" if openmetrics else "calls_started_total", "a"): 5,  # the text parser adds what it thinks is missing
        ("level",): 1.5,
        ("times_seconds_bucket", "a", "0.5"): 1,
        ("times_seconds_bucket", "a", "2.0"): 2,
        ("times_seconds_bucket", "a", "+Inf"): 3,
        ("times_seconds_sum", "a"): 5.25,
        ("times_seconds_count", "a"): 3,
    }
    assert "\ncalls_started{" in page(openmetrics)
    assert families["times_seconds"].type == "histogram"
    assert (families["calls_started"].type, families["calls"].type) == ("unknown" if openmetrics else "counter", "counter")


def test_exemplars_are_in_openmetrics_only() -> None:
    bucket = next(s for f in read_openmetrics(page(True)) for s in f.samples if s.labels.get("le") == "2.0")
    assert bucket.exemplar is not None
    assert (bucket.exemplar.labels, bucket.exemplar.value) == ({"trace_id": "ab" * 16}, 1.0)
    assert math.isclose(float(bucket.exemplar.timestamp or 0), 12.5)
    assert "trace_id" not in page(False)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0; q=0.75, text/plain;version=0.0.4;q=0.5, */*;q=0.1", True),
        ("application/openmetrics-text;q=0.1,text/plain", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=nonsense", False),
    ],
)
def test_who_prefers_openmetrics_gets_it(accept: str, openmetrics: bool) -> None:
    assert is_openmetrics(accept) is openmetrics
