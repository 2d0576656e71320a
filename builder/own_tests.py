"""Whether a function has tests of its own: every deploy asks, so nothing is imported here that only running them needs."""

from __future__ import annotations

import json
import os
from pathlib import Path

from builder.gate_runner import is_test_file
from builder.ignore import always_ignored
from builder.templates import Template

_MANIFEST = "package.json"
_NPM_PLACEHOLDER = "no test specified"


def has_tests(function: Path, template: Template) -> bool:
    """Whether the function in that folder has tests of its own."""
    if template.dependencies == "node":
        return _npm_test(function)
    return template.dependencies == "python" and any(_python_tests(function))


def _python_tests(function: Path) -> list[Path]:
    found = []
    for parent, folders, files in os.walk(function):
        folders[:] = [name for name in folders if not always_ignored(name)]
        found += [Path(parent, name) for name in files if is_test_file(name)]
    return found


def _npm_test(function: Path) -> bool:
    try:
        scripts = json.loads((function / _MANIFEST).read_bytes()).get("scripts") or {}
        script = scripts.get("test")
    except (OSError, ValueError, AttributeError):
        return False  # the build says what is wrong with it
    return isinstance(script, str) and bool(script.strip()) and _NPM_PLACEHOLDER not in script
