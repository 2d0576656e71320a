"""The dashboards are what their definition makes, and ask for nothing that is not served."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from telemetry.metrics import ALL
from tests.deploy.prometheus import REPOSITORY, rules

FOLDER = REPOSITORY / "deploy" / "grafana"
NAMES = {m.name + suffix for m in ALL for suffix in (("_bucket", "_sum", "_count") if m.kind == "histogram" else ("",))}
OF_PROCESS = {"process_open_fds", "process_max_fds", "up"}


def definition() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboards", FOLDER / "dashboards.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dashboards() -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))]


def queries() -> list[tuple[str, str]]:
    """Dashboard and panel, and each of its queries."""
    return [(f"{d['title']}: {p['title']}", t["expr"]) for d in dashboards() for p in d["panels"] for t in p["targets"]]


def test_files_are_what_the_definition_makes() -> None:
    files: dict[Path, str] = definition().files()
    assert set(files) == set(FOLDER.glob("*.json"))
    for path, text in files.items():
        assert path.read_text() == text, "out of date: python deploy/grafana/dashboards.py"


def test_every_metric_asked_for_is_served() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for where, expr in [*queries(), *((str(r), r["expr"]) for r in rules())]:
        for name in re.findall(r"\b(?:gateway|pinnace|pod|http|provider|process)_[a-z_]+", expr):
            assert name in NAMES | OF_PROCESS, f"{where}: {name}"
        for name in re.findall(r"\b(?:function|job):[a-z_:0-9]+", expr):
            assert name in recorded, f"{where}: {name}"


@pytest.mark.parametrize("board", dashboards(), ids=lambda board: str(board["uid"]))
def test_panels_have_a_place_of_their_own(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not cells & taken
        taken |= cells
        assert place["x"] + place["w"] <= 24
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_every_metric_of_ours_is_shown_or_watched() -> None:
    asked = " ".join([expr for _, expr in queries()] + [rule["expr"] for rule in rules()])
    unseen = {m.name for m in ALL if not re.search(rf"\b{m.name}", asked)}
    assert unseen <= {
        "gateway_function_invocation_started",
        "provider_http_requests_total",
        "provider_http_request_duration_seconds",
        "pinnace_build_info",
        "pinnace_edge_traces_total",
    }
