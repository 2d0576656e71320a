"""What a call is told that the platform itself answers."""

from __future__ import annotations

from gateway.edge.refusal import not_found
from orchestration.names import parse_function_id


def test_a_path_that_names_no_function_is_told_what_it_should_be() -> None:
    assert not_found(str(parse_function_id("nobody"))).text == "function nobody.openfaas-fn not found"
    assert (
        not_found(str(parse_function_id(""))).text == "no function is named: the path is /function/NAME or /async-function/NAME"
    )
