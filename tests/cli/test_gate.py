"""Tests of functions before their deploy, against a stub of a gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.gate import cache_folder
from tests.cli.conftest import Faas
from tests.cli.stub_gateway import Gateway

PASSES = "from handler import handle\n\ndef test_it():\n    print('seen')\n    assert handle(None, None)\n"
FAILS = "import os\n\ndef test_it():\n    assert os.environ.get('MODE') == 'good', 'the mode is wrong'\n"


@pytest.fixture
def hello(faas: Faas, project: Path) -> Path:
    """A project with one function, which has a test that fails unless MODE is good."""
    assert faas("new", "hello", "--lang", "python3-http").code == 0
    (project / "hello" / "test_handler.py").write_text(FAILS)
    return project


def test_failing_tests_stop_the_deploy(gateway: Gateway, faas: Faas, hello: Path) -> None:
    done = faas("deploy")
    assert done.code == 1
    assert done.err.endswith("Error: hello: its tests failed; nothing was deployed\n")
    shown = [line for line in done.err.splitlines() if line.startswith("hello | ")]
    assert any("the mode is wrong" in line for line in shown)
    assert [a.method for a in gateway.asked if a.path in ("/build", "/system/functions")] == []


def test_they_can_be_skipped(gateway: Gateway, faas: Faas, hello: Path) -> None:
    assert faas("deploy", "--skip-tests").code == 0
    assert ("openfaas-fn", "hello") in gateway.functions


def test_they_see_the_functions_environment(gateway: Gateway, faas: Faas, hello: Path) -> None:
    done = faas("deploy", "-e", "MODE=good")
    assert done.code == 0, done.err


def test_their_output_is_shown_when_asked_for(gateway: Gateway, faas: Faas, hello: Path) -> None:
    (hello / "hello" / "test_handler.py").write_text(PASSES)
    done = faas("deploy", "--verbose")
    assert done.code == 0
    assert "hello | 1 passed" in done.err


def test_one_function_that_fails_does_not_stop_another(gateway: Gateway, faas: Faas, hello: Path) -> None:
    faas("new", "other", "--lang", "python3-http")
    done = faas("deploy")
    assert done.code == 1
    assert done.err.endswith("1 of 2 functions deployed; failed: hello\n")
    assert set(gateway.functions) == {("openfaas-fn", "other")}


def test_tests_that_take_too_long_fail(gateway: Gateway, faas: Faas, hello: Path) -> None:
    (hello / "hello" / "test_handler.py").write_text("import time\ntime.sleep(60)\n")
    done = faas("deploy", "--test-timeout", "1s")
    assert done.code == 1
    assert "Error: hello: its tests took longer than 1 s; nothing was deployed" in done.err
    assert faas("deploy", "--test-timeout", "soon").code == 2


def test_packages_that_cannot_be_had_are_named(
    gateway: Gateway, faas: Faas, hello: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (hello / "hello" / "requirements.txt").write_text("pinnace-no-such-package\n")
    done = faas("deploy")
    assert done.code == 1
    assert "hello: its packages cannot be installed for its tests: " in done.err
    assert "pinnace-no-such-package" in done.err


def test_a_gateway_that_builds_nothing_needs_no_tests(gateway: Gateway, faas: Faas, project: Path) -> None:
    gateway.stock = True
    (project / "js").mkdir()
    (project / "js" / "test_it.py").write_text("assert False")
    (project / "stack.yaml").write_text(
        "provider: {name: openfaas}\nfunctions:\n  js: {lang: ruby, handler: ./js, image: 'me/js:1'}\n"
    )
    assert faas("deploy").code == 0


@pytest.mark.parametrize(
    ("home", "cache"), [("/x", "/x/pinnace"), ("", "/home/me/.cache/pinnace"), ("x", "/home/me/.cache/pinnace")]
)
def test_the_cache_is_where_caches_are(monkeypatch: pytest.MonkeyPatch, home: str, cache: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    monkeypatch.setenv("HOME", "/home/me")
    assert str(cache_folder()) == cache
