"""How much an object holds: for tests that see whether something is kept for ever."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

OURS = ("autoscaler", "builder", "cli", "gateway", "orchestration", "telemetry")


def entries(*roots: object) -> dict[str, int]:
    """Return how many entries each container holds that is reached from `roots` by attributes of objects of the platform's, by
    the class and the attribute that hold it; of several objects of a class the sum. Empty ones are left out."""
    found: dict[str, int] = {}
    seen: set[int] = set()
    todo: list[tuple[str, Any]] = [("", root) for root in roots]
    while todo:
        place, thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, Mapping | weakref.WeakValueDictionary):
            todo += [(f"{place}[]", value) for value in list(thing.values())]
            todo += [(f"{place}[]", key) for key in list(thing.keys())]
        elif isinstance(thing, list | tuple | set | frozenset | deque):
            todo += [(f"{place}[]", value) for value in list(thing)]
        elif isinstance(thing, asyncio.Queue):
            todo.append((place, thing._queue))  # type: ignore[attr-defined]
            continue
        else:
            todo += [(f"{type(thing).__name__}.{name}", value) for name, value in _attributes(thing)]
            continue
        if len(thing):
            found[place] = found.get(place, 0) + len(thing)
    return found


def _attributes(thing: object) -> Iterable[tuple[str, Any]]:
    if type(thing).__module__.partition(".")[0] not in OURS:
        return
    yield from getattr(thing, "__dict__", {}).items()
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(thing, name):
                yield name, getattr(thing, name)
