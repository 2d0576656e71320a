from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder import pip as module
from builder.pip import PipFailed, run_pip, why_it_failed

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            [
                "ERROR: Could not find a version that satisfies the requirement x (from versions: none)",
                "ERROR: No matching distribution found for x",
            ],
            f"No matching distribution found for x (wheels for Python {VERSION} on ",
        ),
        (
            [
                "ERROR: Could not find a version that satisfies the requirement x==9 (from versions: 1.0, 1.1, 2.0.dev1, 2.0)",
                "ERROR: No matching distribution found for x==9",
            ],
            f"No matching distribution found for x==9; the newest is 2.0 (wheels for Python {VERSION} on ",
        ),
        (
            [
                "WARNING: Retrying (Retry(total=1)) after connection broken by 'NewConnectionError(...)': /simple/x/",
                "ERROR: No matching distribution found for x",
            ],
            "the package index cannot be reached, so pip says: No matching distribution found for x",
        ),
        (
            [
                "ERROR: Cannot install a==1 and b because these package versions have conflicting dependencies.",
                "ERROR: ResolutionImpossible: for help visit https://example.com",
            ],
            "Cannot install a==1 and b because these package versions have conflicting dependencies.",
        ),
        (["ERROR: Invalid requirement: 'x y'"], "Invalid requirement: 'x y'"),
        (["Traceback (most recent call last):", "MemoryError"], "pip ended with code 2: MemoryError"),
        ([], "pip ended with code 2: it said nothing"),
    ],
)
def test_the_line_that_says_what_is_wrong(output: list[str], reason: str) -> None:
    assert why_it_failed(output, 2).startswith(reason)


def test_of_a_hundred_versions_the_last_ones_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = ", ".join(f"1.{n}" for n in range(100))

    def pip(command: object, said: Callable[[str], None], *_: object, **__: object) -> int:
        said(f"ERROR: Could not find a version that satisfies the requirement x==9 (from versions: {versions})")
        said("ERROR: No matching distribution found for x==9")
        return 1

    monkeypatch.setattr(module, "run_child", pip)
    lines: list[str] = []
    with pytest.raises(PipFailed, match=r"the newest is 1\.99 "):
        run_pip(["install"], tmp_path, lines.append)
    assert lines[0].endswith("(from versions: …, 1.95, 1.96, 1.97, 1.98, 1.99)")


def test_output_comes_line_by_line(tmp_path: Path) -> None:
    lines: list[str] = []
    run_pip(["--version"], tmp_path, lines.append)
    assert len(lines) == 1
    assert lines[0].startswith("pip ")


def test_an_unknown_option_fails_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(PipFailed) as caught:
        run_pip(["--nonsense"], tmp_path, lambda _: None)
    assert "\n" not in str(caught.value)
    assert "--nonsense" in str(caught.value)


def test_only_what_an_operator_may_set_reaches_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    monkeypatch.setenv("SOME_TOKEN", "secret")
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example.com")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    lines: list[str] = []
    run_pip(["config", "list"], tmp_path, lines.append)
    said = "\n".join(lines)
    assert "index-url='https://index.example.com'" in said
    assert "target" not in said
    assert "SOME_TOKEN" not in module._PASSED_ON


def test_the_time_limit_ends_pip(tmp_path: Path) -> None:
    with pytest.raises(PipFailed, match=r"pip took longer than 0\.02 s"):
        run_pip(["--version"], tmp_path, lambda _: None, time_limit_s=0.02)
