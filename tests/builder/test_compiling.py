from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.compiling import BrokenCode, compile_folder

MakeFunction = Callable[..., Path]


def test_every_file_is_compiled_the_same_way_each_time(make_function: MakeFunction) -> None:
    folder = make_function({"handler.py": "x = 1", "lib/deep.py": "y = 2", "data.txt": "not python ("})
    compiled = Path(importlib.util.cache_from_source(str(folder / "handler.py")))
    compile_folder(folder, print, lambda _: True)
    first = compiled.read_bytes()
    (folder / "handler.py").touch()
    compile_folder(folder, print, lambda _: True)
    assert compiled.read_bytes() == first
    assert Path(importlib.util.cache_from_source(str(folder / "lib/deep.py"))).exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = 1\n\ndef f(:\n", "handler.py line 3: SyntaxError: "),
        ("if True:\nx = 1\n", "handler.py line 2: IndentationError: expected an indented block after 'if' statement on line 1"),
        ("x = 1\n\tif x:\n", "handler.py line 2: IndentationError: unexpected indent"),
        ("x = '\0'", "handler.py: "),
    ],
)
def test_broken_code_is_named_with_its_line(make_function: MakeFunction, text: str, reason: str) -> None:
    with pytest.raises(BrokenCode) as caught:
        compile_folder(make_function({"handler.py": text}), print, lambda name: name == "handler.py")
    assert str(caught.value).startswith(reason)


def test_broken_code_that_need_not_compile_is_only_logged(make_function: MakeFunction) -> None:
    lines: list[str] = []
    compile_folder(make_function({"handler.py": "", "vendor/old.py": "print 'x'"}), lines.append, lambda name: "/" not in name)
    assert len(lines) == 1
    assert lines[0].startswith("warning: vendor/old.py line 1: SyntaxError: Missing parentheses")


def test_warnings_of_the_compiler_are_logged(make_function: MakeFunction) -> None:
    lines: list[str] = []
    compile_folder(make_function({"handler.py": "x = 1\ny = '\\d'\n"}), lines.append, lambda _: True)
    assert len(lines) == 1
    assert "handler.py line 2:" in lines[0]
    assert "invalid escape sequence" in lines[0]


def test_files_that_are_not_utf8_are_explained(make_function: MakeFunction) -> None:
    folder = make_function()
    (folder / "handler.py").write_bytes(b"x = '\xff'\n")
    with pytest.raises(BrokenCode, match=r"^handler.py"):
        compile_folder(folder, print, lambda _: True)
