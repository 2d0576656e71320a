from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from autoscaler.simulator.comparison import FIGURES
from autoscaler.simulator.report import HEAD, as_csv, as_json, rows
from tests.autoscaler.simulator.test_comparison import small


def test_a_row_has_the_mean_and_the_spread(tmp_path: Path) -> None:
    comparison = small(tmp_path)
    found = [dict(zip(HEAD, row, strict=True)) for row in rows(comparison)]
    assert [row["POLICY"] for row in found] == ["pinnace", "knative"]
    assert found[0]["CALLS"] == "38"
    assert found[0]["LONGEST"] == "300ms"
    assert found[0]["DROPPED"] == "0"
    hours = [run.replica_seconds / 3600 for run in comparison.results[1].runs]
    low, high = (f"{value:.3g}" for value in (min(hours), max(hours)))
    assert found[1]["REPLICA-H"] == f"{sum(hours) / 2:.3g} ({low}-{high})"


def test_csv_has_every_figure_of_every_seed(tmp_path: Path) -> None:
    lines = list(csv.DictReader(io.StringIO(as_csv(small(tmp_path)))))
    assert [(line["policy"], line["seed"]) for line in lines] == [
        ("pinnace", "1"),
        ("pinnace", "2"),
        ("knative", "1"),
        ("knative", "2"),
    ]
    assert set(lines[0]) == {"policy", "seed", *FIGURES}
    assert all(float(line[name]) >= 0 for line in lines for name in FIGURES)


def test_json_has_everything(tmp_path: Path) -> None:
    told = json.loads(json.dumps(as_json(small(tmp_path))))
    assert told["trace"]["functions"] == 2
    ours = told["policies"][0]
    assert ours["settings"]["learns"] is True
    assert len(ours["runs"]) == 2
    assert sum(ours["timeline"]["calls"]) == 38
