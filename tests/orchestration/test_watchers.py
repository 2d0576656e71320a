"""Everyone who watches sees the same changes in order; who falls far behind is ended."""

from __future__ import annotations

from orchestration.events import Event, FunctionRemoved
from orchestration.watchers import Watchers


def event(number: int) -> FunctionRemoved:
    return FunctionRemoved("space", f"f{number}")


async def test_a_watcher_sees_the_snapshot_then_each_change() -> None:
    watchers = Watchers(lambda: [event(0)])
    watch = watchers.watch()
    assert await anext(watch) == event(0)
    watchers.tell(event(1))
    watchers.tell(event(2))
    watchers.close()
    assert [seen async for seen in watch] == [event(1), event(2)]
    assert len(watchers) == 0


async def test_one_that_falls_behind_is_ended_and_others_go_on() -> None:
    watchers = Watchers(lambda: [event(0)], behind_at_most=3)
    slow, quick = watchers.watch(), watchers.watch()
    await anext(slow)
    await anext(quick)
    seen: list[Event] = []
    for number in range(1, 6):
        watchers.tell(event(number))
        seen.append(await anext(quick))
    assert seen == [event(n) for n in range(1, 6)]
    assert [left async for left in slow] == []
    assert len(watchers) == 1
    watchers.close()
    assert [left async for left in quick] == []
