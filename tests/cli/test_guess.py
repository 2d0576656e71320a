from __future__ import annotations

from pathlib import Path

import pytest

from cli.errors import Misuse
from cli.guess import guess_language


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


def test_a_folder_without_a_handler_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"has no handler\.py; say the language: --lang"):
        guess_language(tmp_path)
