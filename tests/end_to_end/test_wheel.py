"""The built wheel holds everything: installed elsewhere, without this checkout, it makes and serves a function."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_the_wheel_works_elsewhere(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT], check=True, timeout=110
    )
    (wheel,) = tmp_path.glob("pinnace-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(site)
    assert any(n.startswith("runtime-templates/python3-http/") for n in names)
    assert not any(n.startswith(("tests/", "docs/", "benchmarks/")) for n in names)
    (tmp_path / "work").mkdir()
    start = f"import sys; sys.path.insert(0, {str(site)!r}); from cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", start, "new", "made", "--lang", "python3-http"],
        cwd=tmp_path / "work",
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work" / "made" / "handler.py").exists()
