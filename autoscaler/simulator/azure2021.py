"""The Azure Functions 2021 data set (Zhang et al., SOSP 2021): one line for each call, with its end and its duration."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from autoscaler.simulator.columns import Table
from autoscaler.simulator.trace import Listing, Trace

COLUMNS: Final = ("app", "func", "end_timestamp", "duration")
"""Seconds, both of the last; the end counts from the set's beginning."""


def read(path: Path) -> Trace:
    """Return the trace in the file. Raises InvalidTrace."""
    calls = Listing(path)
    for row in Table(path, COLUMNS):
        runs_s = row.number("duration")
        end = row.number("end_timestamp")
        calls.add(row.text("func"), end - runs_s, runs_s)
    return calls.trace(f"Azure Functions 2021, {path.name}")
