"""How many builds are let in, whatever becomes of their events."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from builder.admission import Admission, BuilderBusy
from builder.events import BuildEvent

EVENT = BuildEvent([], "", "in_progress")


async def events() -> AsyncGenerator[BuildEvent, None]:
    yield EVENT
    yield EVENT


async def failing() -> AsyncGenerator[BuildEvent, None]:
    yield EVENT
    raise ValueError("broken")


async def test_a_build_counts_before_its_first_event_is_asked_for() -> None:
    admission = Admission(2)
    first, second = admission.admit(events), admission.admit(events)
    with pytest.raises(BuilderBusy, match="2 builds are running or waiting"):
        admission.admit(events)
    await first.aclose()  # nobody asked it for anything
    third = admission.admit(events)
    await second.aclose()
    await second.aclose()
    await third.aclose()
    assert admission._admitted == 0


async def test_a_build_counts_until_its_events_end_fail_or_are_closed() -> None:
    admission = Admission(1)
    assert [event async for event in admission.admit(events)] == [EVENT, EVENT]
    broken = admission.admit(failing)
    with pytest.raises(ValueError, match="broken"):
        _ = [event async for event in broken]
    await broken.aclose()
    closed = admission.admit(events)
    assert await anext(closed) == EVENT
    with pytest.raises(BuilderBusy):
        admission.admit(events)
    await closed.aclose()
    assert [event async for event in closed] == []
    thrown = admission.admit(events)
    await anext(thrown)
    with pytest.raises(KeyError):
        await thrown.athrow(KeyError("x"))
    assert admission._admitted == 0
