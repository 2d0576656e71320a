from __future__ import annotations

from tests.orchestration import events_reference
from tests.orchestration.reference import PAGE, page


def test_the_page_lists_the_scaling_settings_as_they_are() -> None:
    assert PAGE.read_text() == page(), "python -m tests.orchestration.reference writes it anew"


def test_the_page_lists_the_annotations_of_timers_and_events_as_they_are() -> None:
    found = events_reference.PAGE.read_text()
    assert found == events_reference.page(), "python -m tests.orchestration.events_reference writes it anew"
