"""What an edge makes of its loads while nobody reads them. Processes that report are tested with the fleet."""

from __future__ import annotations

import msgspec
import pytest

from gateway.edge.report import merged
from orchestration.load import LoadSample

FIRST = LoadSample(
    edge="edge-0",
    namespace="ns",
    function="f",
    revision="f-00001",
    at=1.0,
    interval_s=1.0,
    concurrency=4.0,
    arrivals=2,
    in_flight=4,
    queued=0,
)


def test_merged_loads_keep_the_integral_the_arrivals_and_the_newest_state() -> None:
    later = msgspec.structs.replace(FIRST, at=1.5, interval_s=0.5, concurrency=1.0, arrivals=3, in_flight=0, queued=7)
    both = merged(FIRST, later)
    assert both.interval_s == 1.5
    assert both.concurrency == pytest.approx((4.0 * 1.0 + 1.0 * 0.5) / 1.5)
    assert (both.arrivals, both.in_flight, both.queued, both.at) == (5, 0, 7, 1.5)


def test_loads_of_one_moment_merge() -> None:
    moment = msgspec.structs.replace(FIRST, interval_s=0.0)
    assert merged(moment, moment).concurrency == 4.0
