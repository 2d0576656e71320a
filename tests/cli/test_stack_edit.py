from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cli.errors import Misuse
from cli.stack_edit import added_function, new_stack

COMMENTED = """# my project
version: 1.0
provider:
    name: openfaas
functions:
    # the first
    one:
        image: one:1   # pinned

# what follows is not a function
configuration:
    copy: [./shared]
"""


def add(text: str, name: str = "two", **fields: str) -> str:
    return added_function(text, "stack.yaml", name, **(fields or {"lang": "python3-http", "handler": "./two"}))


def test_a_new_file_gets_its_first_function() -> None:
    text = add(new_stack())
    assert text == (
        "version: 1.0\nprovider:\n  name: openfaas\nfunctions:\n  two:\n    lang: python3-http\n    handler: ./two\n"
    )
    assert yaml.safe_load(add(new_stack("http://gw:1")))["provider"]["gateway"] == "http://gw:1"


def test_comments_order_and_indentation_stay() -> None:
    text = add(COMMENTED)
    before, after = COMMENTED.split("\n# what follows")
    assert text == before + "    two:\n      lang: python3-http\n      handler: ./two\n" + "\n# what follows" + after
    assert list(yaml.safe_load(text)["functions"]) == ["one", "two"]


@pytest.mark.parametrize("empty", ["functions:", "functions: {}", "functions: null", "functions: ~", "functions:   # none yet"])
@pytest.mark.parametrize("tail", ["", "\n", "\nconfiguration:\n  copy: []\n"])
def test_empty_functions_are_filled(empty: str, tail: str) -> None:
    text = add(f"provider: {{name: openfaas}}\n{empty}{tail}")
    assert yaml.safe_load(text)["functions"] == {"two": {"lang": "python3-http", "handler": "./two"}}
    assert ("configuration" in text) == ("configuration" in tail)


def test_a_file_without_functions_or_last_line_end_gets_them() -> None:
    assert yaml.safe_load(add("provider: {name: openfaas}"))["functions"]["two"]["handler"] == "./two"
    assert yaml.safe_load(add("provider: {name: openfaas}\nfunctions:\n  one: {image: x}"))["functions"].keys() == {
        "one",
        "two",
    }


def test_values_that_yaml_would_read_otherwise_are_quoted() -> None:
    text = add(new_stack(), "yes", image="1.0", handler="a: b", lang="true")
    assert yaml.safe_load(text)["functions"] == {"yes": {"image": "1.0", "handler": "a: b", "lang": "true"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("functions:\n  two: {image: x}\n", "has a function two already"),
        ("functions: {one: {image: x}}\n", "written with braces"),
        ("functions: [one]\n", "must be a mapping"),
        ("- a\n", "a mapping with"),
        ("a: [\n", "stack.yaml line"),
    ],
)
def test_what_cannot_be_added_to_is_refused(text: str, message: str) -> None:
    with pytest.raises(Misuse) as caught:
        add(text)
    assert message in str(caught.value)


@given(
    st.lists(st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True).filter(lambda name: name != "two"), unique=True, max_size=4),
    st.sampled_from([2, 4, 8]),
    st.text(alphabet="#ab \n", max_size=12).map(lambda text: "".join(f"# {line}\n" for line in text.splitlines())),
)
def test_what_is_there_stays_whatever_it_looks_like(names: list[str], indent: int, comment: str) -> None:
    stack = {"provider": {"name": "openfaas"}, "functions": {n: {"image": n, "labels": {"a": "1"}} for n in names}, "z": [1]}
    text = comment + yaml.safe_dump(stack, indent=indent, sort_keys=False) + comment
    after = yaml.safe_load(add(text))
    added = after["functions"].pop("two")
    assert added == {"lang": "python3-http", "handler": "./two"}
    assert after == stack
