"""docs/invocation.md says what the edge does."""

from __future__ import annotations

import re

from gateway.edge import backend, call, dispatcher, timeouts
from gateway.edge.settings import EdgeSettings
from tests.gateway.edge.reference import PAGE, page

TEXT = PAGE.read_text()


def test_headers_and_limits_are_those_of_the_code() -> None:
    assert page(TEXT) == TEXT, "docs/invocation.md is out of date: python -m tests.gateway.edge.reference"


def test_every_status_of_the_edge_is_told() -> None:
    refusals = re.compile(r"Refusal\((\d{3})")
    made = {status for source in PAGE.parents[1].glob("gateway/edge/*.py") for status in refusals.findall(source.read_text())}
    rows = re.findall(r"^\| ([45]\d\d(?:, \d{3})*) \|", TEXT, re.MULTILINE)
    assert {status for row in rows for status in row.split(", ")} == made


def test_settings_named_in_the_text_exist() -> None:
    named = set(re.findall(r"`(\w+_(?:s|bytes|calls|fields|connections|proxies))`", TEXT))
    assert named <= set(EdgeSettings.__struct_fields__)


def test_figures_in_the_text_are_those_of_the_code() -> None:
    assert (call.ATTEMPTS, timeouts.SWEEP_S) == (3, 0.25)
    assert (backend.FIRST_REST_S, backend.LONGEST_REST_S, dispatcher.RETRY_AFTER_BROKEN_S) == (0.1, 1.0, 10)
    for words in ("at most three attempts", "0.25 s late", "0.1 s, doubling to 1 s", "Retry-After: 10"):
        assert words in TEXT
