from __future__ import annotations

from pathlib import Path

import pytest

from cli.errors import Misuse
from cli.guess import check_entry, guess_language


@pytest.mark.parametrize(
    ("handler", "language"),
    [
        ("def handle(event, context):\n    return 1\n", "python3-http"),
        ("async def handle(event, context):\n    return 1\n", "python3-http"),
        ("def handle(req):\n    return req\n", "python3"),
        ("async def handle(scope, receive, send): ...\n", "python3-asgi"),
        ("app = object()\n", "python3-asgi"),
        ("app: object = object()\n", "python3-asgi"),
        ("def new():\n    return Function()\n", "python3-asgi"),
        ("def handle(event, context)\n", "python3-http"),
        ("", "python3-http"),
    ],
)
def test_the_handler_tells_its_language(tmp_path: Path, handler: str, language: str) -> None:
    (tmp_path / "handler.py").write_text(handler)
    assert guess_language(tmp_path) == language


@pytest.mark.parametrize(
    ("files", "language"),
    [
        (("handler.js", "package.json"), "node"),
        (("handler.mjs",), "node"),
        (("handler.sh",), "bash"),
        (("Dockerfile", "main.go"), "dockerfile"),
        (("Dockerfile", "handler.js"), "node"),
        (("handler.py", "handler.js"), "python3-http"),
    ],
)
def test_other_handlers_tell_theirs(tmp_path: Path, files: tuple[str, ...], language: str) -> None:
    for file in files:
        (tmp_path / file).touch()
    assert guess_language(tmp_path) == language


def test_a_folder_without_a_handler_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"has no handler\.py, handler\.js or handler\.sh; say the language: --lang"):
        guess_language(tmp_path)


@pytest.mark.parametrize("language", ["python3", "node", "bash"])
def test_a_function_without_its_handler_is_found_before_it_is_sent(tmp_path: Path, language: str) -> None:
    with pytest.raises(Misuse, match=rf"f: there is no .*handler\..* where {language} expects the function"):
        check_entry("f", language, tmp_path)


def test_a_command_of_its_own_needs_no_handler(tmp_path: Path) -> None:
    check_entry("f", "bash", tmp_path, fprocess="cat")
    check_entry("f", "bash", tmp_path, copies=("./handler.sh",))
    with pytest.raises(Misuse):
        check_entry("f", "python3", tmp_path, fprocess="cat")
