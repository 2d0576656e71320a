from __future__ import annotations

from pathlib import Path

from autoscaler.simulator.azure2019 import read
from autoscaler.simulator.comparison import Comparison, compare
from autoscaler.simulator.policy import named
from autoscaler.simulator.report import as_csv
from tests.autoscaler.simulator.traces import azure2019


def small(folder: Path, seeds: tuple[int, ...] = (1, 2), jobs: int = 1) -> Comparison:
    """Return a comparison of two policies on two functions."""
    return compare(read(azure2019(folder)), [named("pinnace"), named("knative")], seeds, jobs=jobs)


def without_time(comparison: Comparison) -> list[str]:
    return [line.rpartition(",")[0] for line in as_csv(comparison).splitlines()]


def test_every_policy_meets_the_same_calls(tmp_path: Path) -> None:
    comparison = small(tmp_path)
    assert [run.calls for result in comparison.results for run in result.runs] == [38] * 4
    ours, knative = comparison.results
    assert ours.mean("cold_starts") >= 2
    assert knative.mean("replica_seconds") > 0
    assert ours.runs[0].busy_seconds == knative.runs[0].busy_seconds != ours.runs[1].busy_seconds
    assert ours.least("busy_seconds") < ours.mean("busy_seconds") < ours.most("busy_seconds")
    assert sum(ours.timeline.calls) == 38


def test_the_same_seeds_give_the_same_figures_with_any_number_of_processes(tmp_path: Path) -> None:
    assert without_time(small(tmp_path)) == without_time(small(tmp_path, jobs=2))


def test_progress_is_told_until_all_is_done(tmp_path: Path) -> None:
    told: list[float] = []
    compare(read(azure2019(tmp_path)), [named("fixed")], [1], progress=told.append)
    assert told == [0.5, 1.0]
