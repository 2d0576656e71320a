from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.envsubst import BadExpansion, expand

WORDS = {
    "V": "abcdEFGH28ij",
    "UP": "ABC",
    "EMPTY": "",
    "PATH_": "/home/bozo/ideas/thoughts.for.today",
    "FILE": "bash.string.txt",
    "Z": "abcABC123ABCabc",
    "SLASHES": "foo/bar/baz",
}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain $V text", "plain $V text"),
        ("${V}", "abcdEFGH28ij"),
        ("a${UNSET}b", "ab"),
        ("${UNSET:-text}", "text"),
        ("${EMPTY:-text}", "text"),
        ("${UP:-text}", "ABC"),
        ("${UNSET:-}", ""),
        ("${UNSET=text}", "text"),
        ("${UNSET:=text}", "text"),
        ("${UNSET:-http://127.0.0.1:8080}", "http://127.0.0.1:8080"),
        ("${UNSET:-${UP}}", "ABC"),
        ("${UNSET:-a${UP}-z}", "aABC-z"),
        ("${UNSET:-${UNSET:-${UP,,}}}", "abc"),
        ("${#V}", "12"),
        ("${#UNSET}", "0"),
        ("${V^}", "AbcdEFGH28ij"),
        ("${V^^}", "ABCDEFGH28IJ"),
        ("${UP,}", "aBC"),
        ("${UP,,}", "abc"),
        ("${PATH_:11}", "ideas/thoughts.for.today"),
        ("${PATH_:11:5}", "ideas"),
        ("${PATH_:999}", ""),
        ("${FILE#*.}", "string.txt"),
        ("${FILE##*.}", "txt"),
        ("${FILE%.*}", "bash.string"),
        ("${FILE%%.*}", "bash"),
        ("${FILE#none}", "bash.string.txt"),
        ("${PATH_##*/}", "thoughts.for.today"),
        ("${Z/abc/xyz}", "xyzABC123ABCabc"),
        ("${Z//abc/xyz}", "xyzABC123ABCxyz"),
        ("${Z/#abc/XYZ}", "XYZABC123ABCabc"),
        ("${Z/%abc/XYZ}", "abcABC123ABCXYZ"),
        ("${Z/#ABC/x}", "abcABC123ABCabc"),
        ("${Z//abc/}", "ABC123ABC"),
        ("${Z//abc}", "ABC123ABC"),
        (r"${SLASHES/\//-}", "foo-bar/baz"),
        (r"${SLASHES//\//-}", "foo-bar-baz"),
        ("${Z//abc/${UP}}", "ABCABC123ABCABC"),
        ("$${V}", "${V}"),
        ("$${V:-${UP}}", "${V:-ABC}"),
        ("}${UP}{", "}ABC{"),
        ("$", "$"),
        ("$$", "$$"),
    ],
)
def test_expansions(text: str, expanded: str) -> None:
    assert expand(text, WORDS) == expanded


@pytest.mark.parametrize(
    ("text", "line"),
    [("${V", 1), ("a\nb: ${", 2), ("x\n\n${}", 3), ("${V:-x", 1), ("${V:a}", 1), ("${V:1:2:3}", 1), ("${V?x}", 1), ("${1}", 1)],
)
def test_a_bad_expansion_is_named_with_its_line(text: str, line: int) -> None:
    with pytest.raises(BadExpansion) as caught:
        expand(text, WORDS)
    assert caught.value.line == line


def test_nesting_has_a_limit() -> None:
    with pytest.raises(BadExpansion, match="in each other"):
        expand("${U:-" * 500 + "}" * 500, {})


@given(st.text())
def test_text_without_the_opening_is_left_alone(text: str) -> None:
    text = text.replace("${", "")
    assert expand(text, WORDS) == text


@given(st.text(alphabet="${}:-=#%/^,\\ V1a\n", max_size=40))
def test_any_text_expands_or_is_refused(text: str) -> None:
    try:
        assert isinstance(expand(text, {"V": "value", "a": ""}), str)
    except BadExpansion as error:
        assert 1 <= error.line <= text.count("\n") + 1
