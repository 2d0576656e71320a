from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.own_tests import has_tests
from builder.templates import Templates

MakeFunction = Callable[..., Path]

HANDLER = "def handle(event, context):\n    return 'hi'\n"
PYTHON = Templates().find("python3-http")
NODE = Templates().find("node")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"handler.py": HANDLER}, False),
        ({"handler.py": HANDLER, "test_handler.py": ""}, True),
        ({"handler.py": HANDLER, "handler_test.py": ""}, True),
        ({"handler.py": HANDLER, "tests/test_it.py": ""}, True),
        ({"handler.py": HANDLER, "testing.py": "", "test_notes.txt": ""}, False),
        ({"handler.py": HANDLER, ".venv/lib/test_other.py": "", "node_modules/x/test_y.py": ""}, False),
    ],
)
def test_python_tests_are_found_by_their_names(make_function: MakeFunction, files: dict[str, str], found: bool) -> None:
    assert has_tests(make_function(files), PYTHON) is found


@pytest.mark.parametrize(
    ("scripts", "found"),
    [
        ({"test": "node --test"}, True),
        ({}, False),
        ({"test": " "}, False),
        ({"test": 'echo "Error: no test specified" && exit 1'}, False),
        ({"test": 5}, False),
    ],
)
def test_npm_tests_are_those_of_package_json(make_function: MakeFunction, scripts: dict[str, object], found: bool) -> None:
    function = make_function({"handler.js": "", "package.json": json.dumps({"scripts": scripts})})
    assert has_tests(function, NODE) is found
    assert not has_tests(make_function({"package.json": "{", "test_x.py": ""}, "broken"), NODE)
