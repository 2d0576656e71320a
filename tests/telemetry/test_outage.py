from __future__ import annotations

import logging

import pytest

from telemetry.outage import Outage


def test_each_outage_is_said_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage(logging.getLogger("pinnace.test"), "it works again")
    with caplog.at_level(logging.INFO, "pinnace.test"):
        outage.went_well()
        for _ in range(2):
            for _ in range(3):
                outage.failed("it does not work: %s", OSError("no"))
            for _ in range(3):
                outage.went_well()
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [("WARNING", "it does not work: no"), ("INFO", "it works again")] * 2
