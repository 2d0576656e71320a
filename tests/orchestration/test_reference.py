from __future__ import annotations

from tests.orchestration.reference import PAGE, page


def test_the_page_lists_the_scaling_settings_as_they_are() -> None:
    assert PAGE.read_text() == page(), "python -m tests.orchestration.reference writes it anew"
