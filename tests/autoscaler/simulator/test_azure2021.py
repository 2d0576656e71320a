from __future__ import annotations

from pathlib import Path

import pytest

from autoscaler.simulator.azure2021 import read
from autoscaler.simulator.trace import InvalidTrace
from tests.autoscaler.simulator.test_azure2019 import calls_of
from tests.autoscaler.simulator.traces import CALLS


def test_calls_begin_a_duration_before_their_end(tmp_path: Path) -> None:
    path = tmp_path / "calls.csv"
    path.write_text(CALLS)
    trace = read(path)
    f, g = trace.workloads
    assert calls_of(f) == [(0.25, 1.0), (1.0, 0.5)], "counted from the trace's first call, at 1.0"
    assert calls_of(g) == [(0.0, 3.0)]
    assert trace.length_s == 3.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CALLS.replace("duration", "took"), "line 1, column duration: there is no such column"),
        (CALLS.replace("3.0", "-3"), "line 3, column duration: '-3' is not a number"),
        (CALLS.splitlines()[0], "no call is in it"),
        (CALLS.replace("a,g", 'a,"g'), "is not CSV"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "calls.csv"
    path.write_text(text)
    with pytest.raises(InvalidTrace) as raised:
        read(path)
    assert message in str(raised.value)
