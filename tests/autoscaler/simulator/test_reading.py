from __future__ import annotations

from pathlib import Path

import pytest

from autoscaler.simulator.reading import open_trace
from autoscaler.simulator.trace import InvalidTrace
from tests.autoscaler.simulator.traces import CALLS, azure2019


def test_what_a_text_names_is_seen_from_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "calls.csv").write_text(CALLS)
    (tmp_path / "calls.log").write_text("1 1 f\n")
    assert open_trace(str(azure2019(tmp_path / "day"))).origin == "Azure Functions 2019, day"
    assert open_trace(str(tmp_path / "calls.csv")).origin == "Azure Functions 2021, calls.csv"
    assert open_trace(str(tmp_path / "calls.log")).origin == "calls in calls.log"
    assert open_trace("burst:calls=5").origin == "burst:calls=5"


def test_what_is_nothing_is_refused_with_what_there_is() -> None:
    with pytest.raises(InvalidTrace, match="no such file or folder, and none of poisson, step"):
        open_trace("nowhere")
