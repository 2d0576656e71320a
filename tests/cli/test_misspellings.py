from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.misspellings import FAMILIES, misspelt

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("labels", "annotations", "said"),
    [
        (
            {"com.pinnace.concurency": "1"},
            {},
            ["the label com.pinnace.concurency is none .* did you mean com.pinnace.concurrency"],
        ),
        ({}, {"com.pinnace.evnts": "*"}, ["the annotation com.pinnace.evnts is none .* did you mean com.pinnace.events"]),
        ({"com.openfaas.scale.typ": "rps"}, {}, ["com.openfaas.scale.typ is none .* did you mean com.openfaas.scale.type"]),
        ({"com.openfaas.retry.attempt": "3"}, {}, ["com.openfaas.retry.attempts[?]$"]),
        ({}, {"schedule": "* * * * *"}, ["topic=cron-function"]),
    ],
)
def test_what_does_nothing_is_said(labels: dict[str, str], annotations: dict[str, str], said: list[str]) -> None:
    lines = list(misspelt(labels, annotations))
    assert len(lines) == len(said)
    assert all(re.search(pattern, line) for pattern, line in zip(said, lines, strict=True))


@pytest.mark.parametrize(
    "annotations", [{"schedule": "* * * * *", "topic": "cron-function"}, {"schedule": "x", "topic": "mine"}]
)
def test_what_others_read_is_left_alone(annotations: dict[str, str]) -> None:
    assert not list(misspelt({"team": "blue", "com.openfaas.ui.ext": "x", "com.example.scale": "2"}, annotations))


def test_every_setting_that_the_documentation_names_is_known() -> None:
    pattern = "|".join(re.escape(family) + "[a-z._-]*[a-z]" for family in FAMILIES)
    named = {key for page in DOCS.glob("*.md") for key in re.findall(rf"\b(?:{pattern})\b", page.read_text())}
    assert len(named) > 20
    assert not list(misspelt(dict.fromkeys(named, ""), {}))
