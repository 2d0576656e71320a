"""When to look at whom though nothing happens: one time for each function, the earliest that was asked for."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from math import inf
from typing import Any, Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

MOST_STALE: Final = 64
"""Entries of the heap that count no more, beside as many as there are keys."""


class Alarms(Generic[Key]):
    """Times (seconds of one clock) at which to look at keys. A look sets the next time, so that the earliest one is enough."""

    __slots__ = ("_at", "_heap")

    def __init__(self) -> None:
        self._at: dict[Key, float] = {}
        self._heap: list[tuple[float, Any]] = []  # keys that sort; an entry counts while `_at` says the same

    def __len__(self) -> int:
        """How many entries are kept."""
        return len(self._heap)

    @property
    def first(self) -> float:
        """When the next look is due; inf: never."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    def set(self, key: Key, at: float) -> None:
        """Look at `key` at `at`, unless that is set for earlier; inf is never."""
        if at >= self._at.get(key, inf):
            return
        self._at[key] = at
        heapq.heappush(self._heap, (at, key))
        if len(self._heap) > 2 * len(self._at) + MOST_STALE:
            self._heap = [(when, who) for who, when in self._at.items()]
            heapq.heapify(self._heap)

    def due(self, now: float) -> list[Key]:
        """Return whose time has come, earliest first, and forget their times."""
        found = []
        while self.first <= now:
            _, key = heapq.heappop(self._heap)
            del self._at[key]
            found.append(key)
        return found

    def forget(self, key: Key) -> None:
        """`key` is gone."""
        self._at.pop(key, None)
