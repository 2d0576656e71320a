"""Handlers that cannot be loaded: what the platform is told, in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime_templates.replica import ENTRY, Replica, StartReplica

BROKEN = [
    ("python3-http", "\n\nimport foo\n", "handler.py line 3: ModuleNotFoundError: No module named 'foo'"),
    ("python3-http", "x = 1\ndef handle(:\n", "handler.py line 2: SyntaxError: invalid syntax"),
    (
        "python3-http",
        "def handle(e, c):\n  pass\n pass\n",
        "handler.py line 3: IndentationError: unindent does not match any outer",
    ),
    ("python3-http", "def f():\n    raise ValueError('two\\nlines')\nf()\n", "handler.py line 2: ValueError: two lines"),
    ("python3-http", "import sys\nsys.exit(3)\n", "handler.py line 2: SystemExit: 3"),
    ("python3-http", "import json\njson.loads('{')\n", "handler.py line 2: JSONDecodeError: Expecting property name"),
    ("python3-http", "Handle = 1\n", "function/handler.py has no function handle(event, context)"),
    ("python3-http", "handle = 1\n", "function/handler.py has no function handle(event, context)"),
    ("python3", "", "function/handler.py has no function handle(req)"),
    ("python3", "async def handle(req): return req", "function/handler.py: handle(req) cannot be async in python3"),
    ("python3-asgi", "x = 1", "function/handler.py has no app, application, new() or async handle(scope, receive, send)"),
    ("python3-asgi", "def new():\n    return 5", "what new() in function/handler.py returns has no async handle"),
    ("python3-asgi", "def new():\n    return 1 / 0", "handler.py line 2: ZeroDivisionError: division by zero"),
    ("cobol", "", "there is no template 'cobol'; there are python3-http, python3, python3-asgi, classic"),
]


@pytest.mark.parametrize(("template", "handler", "line"), BROKEN)
def test_a_broken_handler_is_explained_in_one_line(start_replica: StartReplica, template: str, handler: str, line: str) -> None:
    replica = start_replica(handler, template)
    assert replica.notified["failed"].startswith(line)
    assert replica.wait() == 1
    assert "\n".join(replica.log) == replica.notified["detail"].rstrip("\n"), "the platform writes the line into the log"


def test_where_nobody_is_told_the_log_has_the_line(tmp_path: Path) -> None:
    (tmp_path / "function").mkdir()
    (tmp_path / "function" / "handler.py").write_text("import foo\n")
    command = [sys.executable, "-I", str(ENTRY), "python3-http"]
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("\nhandler.py line 1: ModuleNotFoundError: No module named 'foo'\n")


def test_the_traceback_is_the_users(start_replica: StartReplica) -> None:
    detail = start_replica("import foo\n").notified["detail"]
    assert detail.startswith("Traceback") and "handler.py" in detail and "import foo" in detail
    assert "importlib" not in detail and "pinnace_runtime" not in detail


@pytest.mark.parametrize(
    "statement",
    [
        "import util",
        "from . import util",
        "from .util import NAME",
        "from function import util",
        "import function.util as util",
    ],
)
@pytest.mark.parametrize("package", [True, False])
def test_files_beside_the_handler_can_be_imported(tmp_path: Path, statement: str, package: bool) -> None:
    function = tmp_path / "function"
    function.mkdir()
    (function / "util.py").write_text("NAME = 'util'\n")
    if package:
        (function / "__init__.py").touch()
    replica = Replica(tmp_path, f"{statement}\ndef handle(event, context): pass\n", "python3-http", tcp=False, environment={})
    replica.end()
    assert replica.notified == {"ready": True}


def test_an_error_in_another_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "function" / "lib").mkdir(parents=True)
    (tmp_path / "function" / "lib" / "deep.py").write_text("x = 1\nraise RuntimeError('deep')\n")
    replica = Replica(tmp_path, "from .lib import deep\n", "python3-http", tcp=False, environment={})
    replica.end()
    assert replica.notified["failed"] == "lib/deep.py line 2: RuntimeError: deep"


def test_a_file_named_as_a_standard_module_does_not_replace_it(tmp_path: Path) -> None:
    (tmp_path / "function").mkdir()
    (tmp_path / "function" / "queue.py").write_text("MINE = True\n")
    handler = """
import queue
from . import queue as mine
def handle(event, context):
    return [hasattr(queue, "Queue"), mine.MINE]
"""
    replica = Replica(tmp_path, handler, "python3-http", tcp=False, environment={})
    assert replica.call().body == b"[true, true]"
    replica.end()


def test_the_runtime_is_last_on_the_path(start_replica: StartReplica) -> None:
    replica = start_replica("import sys\ndef handle(event, context): return sys.path")
    path = replica.call().body.decode()
    assert path.endswith(f'"{ENTRY.parent.parent}"]')
    assert path.startswith(f'["{replica.folder}"')


def test_a_missing_handler_is_said(tmp_path: Path) -> None:
    from pinnace_runtime.loading import LoadFailed, import_handler

    with pytest.raises(LoadFailed, match=r"function/handler\.py is missing"):
        import_handler(str(tmp_path))


def test_a_bad_setting_is_said(start_replica: StartReplica) -> None:
    replica = start_replica("def handle(event, context): pass", exec_timeout="soon")
    assert replica.wait() == 1
    assert replica.log == ["exec_timeout='soon': a duration such as 60s, 1m30s or 500ms"]
