"""Which Python functions run with: the one beneath the platform's own virtual environment, if it is in one."""

from __future__ import annotations

import sys
from pathlib import Path


def base_interpreter() -> Path:
    """Return the path of that Python's program."""
    return Path(getattr(sys, "_base_executable", None) or sys.executable)
