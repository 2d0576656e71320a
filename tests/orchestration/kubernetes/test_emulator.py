"""Where no API server is, the same tests run on kmock's emulator, and say which of them cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_what_the_api_alone_decides_is_shown_without_a_server() -> None:
    files = [str(HERE / name) for name in ("test_controller.py", "test_orchestrator.py", "test_lease.py")]
    environment = os.environ | {"PINNACE_TEST_API_SERVER": "kmock"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=110, cwd=HERE.parents[2])
    assert done.returncode == 0, done.stdout[-5000:]
    assert "NO REAL API SERVER" in done.stdout, "what needs one says so"
    passed = int(done.stdout.rsplit(" passed", 1)[0].rsplit(None, 1)[1])
    skipped = int(done.stdout.rsplit(" skipped", 1)[0].rsplit(None, 1)[1])
    assert passed > 4 * skipped, done.stdout[-500:]
