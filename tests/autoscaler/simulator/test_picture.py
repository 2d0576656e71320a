from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from autoscaler.simulator.picture import NoMatplotlib, write
from tests.autoscaler.simulator.test_comparison import small


def test_a_picture_is_written(tmp_path: Path) -> None:
    path = tmp_path / "chart.png"
    write(small(tmp_path / "trace"), path)
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", head[16:]) == (1320, 990)


def test_without_matplotlib_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(NoMatplotlib, match=r"pip install 'pinnace\[charts\]'.*--html"):
        write(small(tmp_path / "trace"), tmp_path / "chart.png")
