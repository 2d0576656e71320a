from __future__ import annotations

import pytest

from cli.address import DEFAULT_GATEWAY, choose_gateway, normalise, same_gateways
from cli.errors import Misuse


@pytest.mark.parametrize(
    ("flag", "stack", "variable", "chosen"),
    [
        (None, None, None, DEFAULT_GATEWAY),
        ("http://flag", "http://stack", "http://variable", "http://flag"),
        (None, "http://stack", "http://variable", "http://stack"),
        (None, None, "http://variable", "http://variable"),
        (DEFAULT_GATEWAY, "http://stack", "http://variable", DEFAULT_GATEWAY),
        (None, DEFAULT_GATEWAY, "http://variable", "http://variable"),
        ("HTTP://127.0.0.1:8080/", "", "http://variable", DEFAULT_GATEWAY),
        ("", "", "", DEFAULT_GATEWAY),
    ],
)
def test_flag_then_stack_then_variable_and_a_stack_that_says_the_default_is_silent(
    flag: str | None, stack: str | None, variable: str | None, chosen: str
) -> None:
    environment = {"OPENFAAS_URL": variable} if variable is not None else {}
    assert choose_gateway(flag, stack, environment) == chosen


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://Example.COM:8080/", "http://example.com:8080"),
        ("example.com:31112", "http://example.com:31112"),
        ("https://host/openfaas/", "https://host/openfaas"),
        (" http://[::1]:80 ", "http://[::1]:80"),
    ],
)
def test_an_address_is_made_comparable(given: str, url: str) -> None:
    assert normalise(given) == url


@pytest.mark.parametrize("given", ["http://", "ftp://x", "http://h:99999", "http://u:p@h", "http://h:x", "http://[::1"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(Misuse):
        normalise(given)


def test_loopback_names_stand_for_each_other() -> None:
    assert same_gateways("http://localhost:8080") == ("http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080")
    assert same_gateways("https://127.0.0.1/x") == ("https://127.0.0.1/x", "https://localhost/x", "https://[::1]/x")
    assert same_gateways("http://example.com") == ("http://example.com",)
