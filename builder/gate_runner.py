"""Runs a Python function's tests inside its own environment: `python -I gate_runner.py CODE [FOLDER-WITH-PYTEST]`.

The interpreter is the function's, so this file imports nothing of ours. pytest is the function's own, else the
machine's, of which only pytest and what it needs become importable: a package that the requirements forgot stays missing,
as in a replica. Without any, unittest runs what it can.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

FOLDER = "function"
NO_TESTS = 5
"""pytest's exit code for that there was none."""
NEEDS_PYTEST = 64
BORROWED = frozenset(("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "pygments"))


class Borrowed:
    """Finds pytest and what it needs in another installation, when nothing else did."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = list(folders)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if path is None and name in BORROWED:
            return importlib.machinery.PathFinder.find_spec(name, self._folders, target)
        return None


def is_test_file(name: str) -> bool:
    """Whether a file of that name holds tests, by pytest's default names."""
    return name.endswith(".py") and (name.startswith("test_") or name.endswith("_test.py"))


def main(code: str, *with_pytest: str) -> int:
    """Run the tests in `code`/function; return 0, or another number when they failed."""
    installed = (i for i, path in enumerate(sys.path) if path.endswith(("site-packages", "dist-packages")))
    sys.path.insert(next(installed, len(sys.path)), str(Path(code, FOLDER)))
    sys.path.insert(0, code)
    if with_pytest:
        sys.meta_path.append(Borrowed(with_pytest))
    if importlib.util.find_spec("pytest") is None:
        return _unittest(code)
    import pytest

    return int(pytest.main(["-q", "-p", "no:cacheprovider", "--color=no", FOLDER]))


def _unittest(code: str) -> int:
    import unittest

    names = []
    for parent, _, files in os.walk(Path(code, FOLDER)):
        relative = ".".join(Path(parent).relative_to(code).parts)
        names += [f"{relative}.{file.removesuffix('.py')}" for file in files if is_test_file(file)]
    suite = unittest.TestLoader().loadTestsFromNames(sorted(names))
    result = unittest.TextTestRunner(stream=sys.stdout).run(suite)
    if not result.testsRun or any(_wants_pytest(text) for _, text in result.errors):
        return NEEDS_PYTEST
    return 0 if result.wasSuccessful() else 1


def _wants_pytest(error: str) -> bool:
    return "No module named 'pytest'" in error


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
