from __future__ import annotations

import pytest

from orchestration.names import (
    FunctionId,
    InvalidName,
    check_function_name,
    check_namespace,
    check_secret_name,
    parse_function_id,
)


@pytest.mark.parametrize("name", ["a", "hello", "a-b", "9lives", "a" * 50])
def test_function_names(name: str) -> None:
    assert check_function_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a.b", "a_b", "a--b", "a" * 51, "ü", "a\n", "../x"])
def test_wrong_function_names(name: str) -> None:
    with pytest.raises(InvalidName):
        check_function_name(name)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a..b", ".a", "A", "a" * 254, "a\0"])
def test_wrong_secret_names(name: str) -> None:
    with pytest.raises(InvalidName):
        check_secret_name(name)


def test_namespaces() -> None:
    assert check_namespace("dev") == "dev"
    with pytest.raises(InvalidName):
        check_namespace("a.b")


@pytest.mark.parametrize(
    ("text", "function"),
    [("hello", ("openfaas-fn", "hello")), ("hello.dev", ("dev", "hello")), ("a.b.dev", ("dev", "a.b")), (".dev", ("dev", ""))],
)
def test_a_function_is_addressed_by_name_and_namespace_split_at_the_last_dot(text: str, function: tuple[str, str]) -> None:
    assert parse_function_id(text) == FunctionId(*function)
