from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from builder.child import run_child


def test_lines_come_whole_also_the_last_without_an_end(tmp_path: Path) -> None:
    lines: list[str] = []
    script = "printf 'a\\n\\nb  \\n'; printf 'c' >&2; pwd; exit 3"
    code = run_child(
        ["sh", "-c", script], lines.append, time.monotonic() + 20, folder=tmp_path, environment={"PATH": os.defpath}
    )
    assert (code, lines) == (3, ["a", "b", f"c{tmp_path}"])


@pytest.mark.parametrize("script", ["sleep 60", "exec >&- 2>&-; sleep 60", "while :; do echo x; done"])
def test_one_that_does_not_end_is_ended(script: str) -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        run_child(["sh", "-c", script], lambda _: None, started + 0.2)
    assert time.monotonic() - started < 10


def test_a_descriptor_that_is_held_is_inherited(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("wb") as lock:
        number = lock.fileno()
        command = [sys.executable, "-c", f"import os; os.write({number}, b'x')"]
        assert run_child(command, lambda _: None, time.monotonic() + 20, held=[number]) == 0
    assert (tmp_path / "lock").read_text() == "x"
