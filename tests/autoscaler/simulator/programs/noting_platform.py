"""The command `faas`, whose scaler writes down all that its deciders are told and answer: JOURNAL names the file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[4]))

import autoscaler.scaler
from cli.main import main
from tests.autoscaler.simulator.journal import Noting

Noting.file = Path(os.environ["JOURNAL"]).open("a")  # noqa: SIM115  # as long as the process
autoscaler.scaler.__dict__["Decider"] = Noting
main()
