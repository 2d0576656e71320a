from __future__ import annotations

from tests.cli.reference import PAGE, page


def test_the_page_shows_the_commands_as_they_are() -> None:
    assert PAGE.read_text() == page(), "docs/cli.md is out of date: python -m tests.cli.reference"
