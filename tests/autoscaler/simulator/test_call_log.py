from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.simulator.call_log import parse, read
from autoscaler.simulator.trace import InvalidTrace
from tests.autoscaler.simulator.test_azure2019 import calls_of

HERE = Path("calls.log")


def test_lines_in_any_order_become_calls_by_function() -> None:
    trace = parse(
        HERE, ["# a comment", "", "1700000005.5 0.25 web http", "1700000000 1 clock timer", "1700000002 0.5 web http"]
    )
    clock, web = trace.workloads
    assert (trace.starts_at, trace.length_s) == (1700000000.0, 5.75)
    assert calls_of(clock) == [(0.0, 1.0)] and clock.trigger == "timer"
    assert calls_of(web) == [(2.0, 0.5), (5.5, 0.25)]


def test_times_from_anywhere_have_no_date() -> None:
    assert parse(HERE, ["0.5 0.1 f"]).starts_at == 0.0


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1 2"], "calls.log, line 1: 2 fields; a call is START DURATION FUNCTION [TRIGGER]"),
        (["1 2 f t x"], "line 1: 5 fields"),
        (["1 2 f", "1 x f"], "line 2, column DURATION: 'x' is not a number of seconds"),
        (["nan 2 f"], "line 1, column START: 'nan'"),
        (["# nothing"], "no call is in it"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(lines: list[str], message: str) -> None:
    with pytest.raises(InvalidTrace) as raised:
        parse(HERE, lines)
    assert message in str(raised.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(InvalidTrace, match="cannot be read: No such file"):
        read(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff\xff")
    with pytest.raises(InvalidTrace, match="not UTF-8"):
        read(tmp_path / "bytes")


@given(st.text())
def test_any_text_is_a_trace_or_an_error_that_says_so(text: str) -> None:
    try:
        assert parse(HERE, text.splitlines()).workloads
    except InvalidTrace as error:
        assert str(error).startswith("calls.log")
