from __future__ import annotations

from pathlib import Path

import pytest

from builder.templates import PROJECT_FOLDER, TEMPLATES_FOLDER, Templates
from cli.errors import Misuse
from cli.handler_code import WANTED, check_code, check_handler
from cli.stack import StackFunction


def check(language: str, folder: Path, copies: tuple[str, ...] = ()) -> None:
    template = Templates(project=PROJECT_FOLDER).find(language)
    check_handler(StackFunction("f", lang=language, handler=folder), template, copies)


@pytest.mark.parametrize(
    "code",
    [
        "def handle(event, context): ...",
        "async def handle(event, context): ...",
        "handle = make()",
        "handle: object = make()",
        "first, (handle, *rest) = make()",
        "from app import handle",
        "from app import run as handle",
        "from app import *",
        "import handle",
        "if True:\n    def handle(event, context): ...\nelse:\n    handle = None",
        "try:\n    from fast import handle\nexcept ImportError:\n    from slow import handle",
        "with open('x') as handle: ...",
        "for handle in (1,): ...",
        "print(handle := make())",
        "match x:\n    case [handle]: ...",
        "class handle: ...",
        "def make():\n    global handle\n    handle = 1\nmake()",
        "globals()['handle'] = make()",
        "exec('def handle(e, c): pass')",
        "import sys\nsetattr(sys.modules[__name__], 'handle', make())",
        "def __getattr__(name): ...",
        "raise RuntimeError('no database')",
    ],
)
def test_a_handler_that_has_its_function_or_may_have_it_is_sent(tmp_path: Path, code: str) -> None:
    (tmp_path / "handler.py").write_text(code)
    check("python3-http", tmp_path)


@pytest.mark.parametrize(
    ("language", "parameters"),
    [
        ("python3-http", "event, context, more=1"),
        ("python3-http", "*args"),
        ("python3-http", "event, *rest, **more"),
        ("python3-http", "event, /, context=None, *, logger=print"),
        ("python3", "req"),
        ("python3", "req, more=None"),
    ],
)
def test_a_handler_that_can_be_called_as_its_template_does_is_sent(tmp_path: Path, language: str, parameters: str) -> None:
    (tmp_path / "handler.py").write_text(f"async def handle({parameters}): ...")
    check(language, tmp_path)


@pytest.mark.parametrize(
    ("language", "parameters", "wants"),
    [
        ("python3-http", "event", "handle(event, context)"),
        ("python3-http", "", "handle(event, context)"),
        ("python3-http", "event, context, more", "handle(event, context)"),
        ("python3-http", "event, context, *, more", "handle(event, context)"),
        ("python3", "event, context", "handle(req)"),
    ],
)
def test_a_handler_that_every_call_would_break_on_is_refused(
    tmp_path: Path, language: str, parameters: str, wants: str
) -> None:
    (tmp_path / "handler.py").write_text(f"X = 1\ndef handle({parameters}): ...")
    with pytest.raises(Misuse, match=r"handler\.py line 2: ") as raised:
        check(language, tmp_path)
    assert str(raised.value).endswith(f"{language} calls {wants}, and this one takes ({parameters})")


@pytest.mark.parametrize("code", ["@wrapped\ndef handle(): ...", "def handle(): ...\nhandle = other(handle)"])
def test_parameters_that_a_look_cannot_tell_are_left_to_the_calls(tmp_path: Path, code: str) -> None:
    (tmp_path / "handler.py").write_text(code)
    check("python3-http", tmp_path)


@pytest.mark.parametrize(
    ("language", "code", "said"),
    [
        ("python3-http", "", "has no function handle(event, context), which python3-http calls"),
        (
            "python3-http-debian",
            "def handel(event, context): ...",
            "has no function handle(event, context), which python3-http calls; did you mean handel?",
        ),
        ("python3", "class Handler:\n    def handle(self, req): ...", "has no function handle(req), which python3 calls"),
        ("python3", "def outer():\n    def handle(req): ...", "has no function handle(req), which python3 calls"),
        ("python3", "handle()", "has no function handle(req), which python3 calls"),
        (
            "python3-asgi",
            "application_ = 1",
            "has no app, application, new() or async handle(scope, receive, send), which python3-asgi calls",
        ),
    ],
)
def test_a_handler_without_its_function_is_found_before_it_is_sent(tmp_path: Path, language: str, code: str, said: str) -> None:
    file = tmp_path / "handler.py"
    file.write_text(code)
    with pytest.raises(Misuse) as failure:
        check(language, tmp_path)
    assert str(failure.value) == f"f: {file} {said}"


def test_a_syntax_error_is_found_before_it_is_sent(tmp_path: Path) -> None:
    file = tmp_path / "handler.py"
    file.write_text("x = 1\ndef handle(event, context)\n    return 1\n")
    with pytest.raises(Misuse, match=r"f: .*handler\.py line 2: SyntaxError: expected ':' \(for Python 3"):
        check("python3-http", tmp_path)


@pytest.mark.parametrize("name", ["app", "application", "new", "handle"])
def test_an_asgi_function_needs_one_of_several_names(tmp_path: Path, name: str) -> None:
    (tmp_path / "handler.py").write_text(f"{name} = 1")
    check_code("f", "python3-asgi", tmp_path / "handler.py")


def test_what_is_wanted_is_what_our_templates_start_with() -> None:
    for template in WANTED:
        check_code(template, template, TEMPLATES_FOLDER / template / "function" / "handler.py")


def test_a_template_of_the_projects_own_calls_what_it_likes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "template" / "python3-http"
    own.mkdir(parents=True)
    (own / "template.yml").write_text("command: [python3, main.py]\nhandler: [handler.py]\n")
    (tmp_path / "handler.py").write_text("def main(): ...")
    check("python3-http", tmp_path)
    (tmp_path / "handler.py").write_text("def main(: ...")
    with pytest.raises(Misuse, match="SyntaxError"):
        check("python3-http", tmp_path)


def test_what_is_not_there_or_takes_the_handlers_place_is_not_looked_at(tmp_path: Path) -> None:
    check("python3-http", tmp_path)
    check("node", tmp_path)
    (tmp_path / "handler.py").write_text("def main(: ...")
    check("python3-http", tmp_path, ("./handler.py",))
    check("node", tmp_path)
