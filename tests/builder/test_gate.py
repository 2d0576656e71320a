from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from builder import gate
from builder.gate import Gate, TestsFailed
from builder.store import BundleStore
from builder.templates import Templates, read_template
from tests.builder.npm_registry import serving

MakeFunction = Callable[..., Path]
MakeWheel = Callable[..., Path]
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not on this machine")

HANDLER = "def handle(event, context):\n    return 'hi'\n"
PASSES = "from handler import handle\n\ndef test_it():\n    assert handle(None, None) == 'hi'\n"
FAILS = "from .handler import handle\n\ndef test_it():\n    assert handle(None, None) == 'other'\n"
UNITTEST = (
    "import unittest\nfrom function.handler import handle\n\nclass Handling(unittest.TestCase):\n"
    "    def test_it(self):\n        self.assertEqual(handle(None, None), '{}')\n"
)


def run(store: BundleStore, function: Path, language: str = "python3-http", **settings: float) -> str:
    return Gate(store, lambda _: None, time_limit_s=settings.get("time_limit_s", 60)).run(function, Templates().find(language))


@pytest.fixture
def without_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_folders_with_pytest", list)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("#!/bin/sh\nexec sleep 60\n", "does not say within 0.1 s whether it has pytest"),
        (None, "cannot say whether it has pytest (No such file or directory)"),
    ],
)
def test_a_python_that_does_not_say_whether_it_has_pytest_is_named(
    store: BundleStore,
    make_function: MakeFunction,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str | None,
    said: str,
) -> None:
    python = tmp_path / "python"
    if program is not None:
        python.write_text(program)
        python.chmod(0o755)
    monkeypatch.setattr(gate, "FOUND_WITHIN_S", 0.1)
    monkeypatch.setattr(gate, "base_interpreter", lambda: python)
    monkeypatch.setattr("builder.gate.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("builder.gate.sys.base_prefix", "/elsewhere")
    with pytest.raises(TestsFailed) as failure:
        run(store, make_function({"handler.py": HANDLER, "test_handler.py": PASSES}))
    assert str(failure.value) == f"{python} {said}: add pytest to the function's requirements, or --skip-tests"


def test_who_brings_pytest_needs_none_of_the_machine(
    store: BundleStore, make_function: MakeFunction, wheels: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def searched() -> list[str]:
        raise AssertionError("searched for pytest")

    wheels("pytest")
    monkeypatch.setattr(gate, "_folders_with_pytest", searched)
    function = make_function({"handler.py": HANDLER, "requirements.txt": "pytest\n", "test_handler.py": PASSES})
    with pytest.raises(TestsFailed, match="its tests failed"):  # this pytest is only a name
        run(store, function)


def test_tests_that_pass_leave_nothing_in_the_folder(store: BundleStore, make_function: MakeFunction) -> None:
    function = make_function({"handler.py": HANDLER, "test_handler.py": PASSES})
    assert "1 passed" in run(store, function)
    assert sorted(path.name for path in function.iterdir()) == ["handler.py", "test_handler.py"]


def test_a_failing_test_is_shown(store: BundleStore, make_function: MakeFunction) -> None:
    with pytest.raises(TestsFailed, match=r"^its tests failed$") as caught:
        run(store, make_function({"handler.py": HANDLER, "handler_test.py": FAILS}))
    assert "assert 'hi' == 'other'" in caught.value.output
    assert "1 failed" in caught.value.output


def test_packages_of_the_requirements_can_be_imported_and_only_those(
    store: BundleStore, make_function: MakeFunction, wheels: MakeWheel
) -> None:
    wheels("shout")
    test = "import shout\n\ndef test_it():\n    assert shout.VERSION == '1.0'\n"
    function = make_function({"handler.py": HANDLER, "requirements.txt": "shout\n", "test_it.py": test})
    assert "1 passed" in run(store, function)
    forgotten = make_function({"handler.py": "import msgspec\n" + HANDLER, "test_handler.py": PASSES}, "forgotten")
    with pytest.raises(TestsFailed) as caught:
        run(store, forgotten)
    assert "No module named 'msgspec'" in caught.value.output, "it is installed on this machine, but not for the function"


@pytest.mark.usefixtures("without_pytest")
def test_without_pytest_unittest_runs_them(store: BundleStore, make_function: MakeFunction) -> None:
    assert "OK" in run(store, make_function({"handler.py": HANDLER, "tests/test_it.py": UNITTEST.format("hi")}, "good"))
    with pytest.raises(TestsFailed, match=r"^its tests failed$") as caught:
        run(store, make_function({"handler.py": HANDLER, "handler_test.py": UNITTEST.format("other")}, "bad"))
    assert "AssertionError: 'hi' != 'other'" in caught.value.output


@pytest.mark.usefixtures("without_pytest")
@pytest.mark.parametrize("test", [PASSES, "import pytest\n" + UNITTEST.format("hi")])
def test_tests_for_pytest_do_not_pass_for_want_of_it(store: BundleStore, make_function: MakeFunction, test: str) -> None:
    with pytest.raises(
        TestsFailed, match=r"its tests are written for pytest, which is neither .* pip install pytest, or --skip"
    ):
        run(store, make_function({"handler.py": HANDLER, "test_handler.py": test}))


def test_tests_that_hang_are_ended_with_all_they_started(
    store: BundleStore, make_function: MakeFunction, tmp_path: Path
) -> None:
    test = (
        "import pathlib, subprocess, time\n\ndef test_it():\n    child = subprocess.Popen(['sleep', '60'])\n"
        f"    pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n    time.sleep(60)\n"
    )
    function = make_function({"handler.py": HANDLER, "test_handler.py": test})
    run(store, make_function({"handler.py": HANDLER, "test_handler.py": PASSES}, "warm"))
    with pytest.raises(TestsFailed, match=r"its tests took longer than 1\.5 s"):
        run(store, function, time_limit_s=1.5)
    stat = Path(f"/proc/{(tmp_path / 'child').read_text()}/stat")
    deadline = time.monotonic() + 10
    while not _ended(stat):
        assert time.monotonic() < deadline, "what the tests started runs on"
        time.sleep(0.01)


def _ended(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_template_of_the_projects_own_is_there_too(store: BundleStore, tmp_path: Path, make_function: MakeFunction) -> None:
    own = tmp_path / "own"
    (own / "function").mkdir(parents=True)
    (own / "template.yml").write_text("language: own\ncommand: [x]\ndependencies: python\n")
    (own / "shim.py").write_text("WORD = 'hi'\n")
    test = "import shim\n\ndef test_it():\n    assert shim.WORD == 'hi'\n"
    function = make_function({"handler.py": HANDLER, "test_handler.py": test})
    assert "1 passed" in Gate(store, lambda _: None).run(function, read_template(own, built_in=False))


@needs_npm
def test_npm_test_runs_with_development_packages(
    store: BundleStore, make_function: MakeFunction, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "npmrc").touch()
    monkeypatch.setenv("NPM_CONFIG_USERCONFIG", str(tmp_path / "npmrc"))
    manifest = {"scripts": {"test": "node check.js"}, "devDependencies": {"checker": "1.0.0"}}
    files = {
        "handler.js": "module.exports = async () => 'hi'",
        "check.js": "require('checker')(require('./handler'))",
        "package.json": json.dumps(manifest),
    }
    with serving() as registry:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", registry.url)
        check = "if (await f() !== 'hi') { console.log('it said', await f()); process.exit(1) }"
        registry.add("checker", f"module.exports = async f => {{ {check} }}")
        function = make_function(files)
        run(store, function, "node")
        (function / "handler.js").write_text("module.exports = async () => 'other'")
        with pytest.raises(TestsFailed) as caught:
            run(store, function, "node")
    assert "it said other" in caught.value.output
    assert not (function / "node_modules").exists()
