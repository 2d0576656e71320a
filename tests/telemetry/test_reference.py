"""docs/telemetry.md lists what is served."""

from __future__ import annotations

from tests.telemetry.reference import PAGE, page


def test_every_metric_is_told() -> None:
    assert page() == PAGE.read_text(), "docs/telemetry.md is out of date: python -m tests.telemetry.reference"
