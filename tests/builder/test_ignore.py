from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.ignore import IgnoreRules, always_ignored


@pytest.mark.parametrize(
    ("patterns", "path", "is_folder", "ignored"),
    [
        ("*.log", "a.log", False, True),
        ("*.log", "sub/a.log", False, True),
        ("*.log", "a.logs", False, False),
        ("/a", "a", False, True),
        ("/a", "sub/a", False, False),
        ("./a", "a", False, True),
        ("sub/a", "sub/a", False, True),
        ("sub/a", "x/sub/a", False, False),
        ("sub/*", "sub/a", False, True),
        ("sub/*", "sub/b/a", False, False),
        ("**/a", "x/y/a", False, True),
        ("sub/**", "sub/x/y", False, True),
        ("data/", "data", True, True),
        ("data/", "data", False, False),
        ("a?", "ab", False, True),
        ("a?", "a/", False, False),
        ("[a-c].py", "b.py", False, True),
        ("[!a-c].py", "b.py", False, False),
        ("[!a-c].py", "d.py", False, True),
        ("[z-a].py", "[z-a].py", False, True),
        ("[", "[", False, True),
        ("*\n!keep", "keep", False, False),
        ("!keep\n*", "keep", False, True),
        ("# a comment\n\n", "# a comment", False, False),
        ("a.b", "axb", False, False),
        ("(x)+", "(x)+", False, True),
    ],
)
def test_patterns(patterns: str, path: str, is_folder: bool, ignored: bool) -> None:
    assert IgnoreRules(patterns).ignores(path, is_folder=is_folder) is ignored


@given(patterns=st.text("ab*?[]!^-\\/.#\n", max_size=12), path=st.text("ab/.-", min_size=1, max_size=6))
def test_any_text_is_a_set_of_rules(patterns: str, path: str) -> None:
    assert IgnoreRules(patterns).ignores(path, is_folder=False) in (True, False)


@given(name=st.text("ab.-_", min_size=1, max_size=6))
def test_a_plain_name_ignores_itself_and_nothing_else(name: str) -> None:
    rules = IgnoreRules(name)
    if name.strip("./"):
        assert rules.ignores(name, is_folder=False)
        assert not rules.ignores(name + "x", is_folder=False)


def test_names_that_tools_make() -> None:
    assert all(always_ignored(name) for name in ("__pycache__", ".git", "x.pyc", ".venv", ".pinnaceignore"))
    assert not any(always_ignored(name) for name in ("handler.py", "git", "pyc", ".env.example"))
