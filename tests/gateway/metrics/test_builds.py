"""Builds and the release, as metrics."""

from __future__ import annotations

from builder.durations import Durations
from gateway.metrics.builds import Builds, Release
from tests.gateway.metrics.reading import samples


def test_builds_are_told_by_how_they_ended() -> None:
    durations = Durations()
    durations.ended("success", 0.7)
    durations.ended("success", 700.0)
    durations.ended("failed", 0.05)
    told = samples(Builds(durations))
    assert told["pinnace_build_seconds_count", "success"] == 2
    assert told["pinnace_build_seconds_bucket", "success", "1.0"] == 1
    assert told["pinnace_build_seconds_bucket", "failed", "0.1"] == 1


def test_the_release_is_told() -> None:
    assert samples(Release("1.2.3", "local")) == {("pinnace_build_info", "1.2.3", "local"): 1}
