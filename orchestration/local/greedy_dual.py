"""What to keep when not everything fits: Greedy-Dual-Size-Frequency.

Each entry has the priority `clock + frequency * cost / size`. What has the lowest goes first, and the clock becomes its
priority, so that what was dear once and is not used any more falls behind. 100 MB that take 1 s to make and were used 5
times (0.05 a MB) stay longer than 100 MB that take 0.2 s and were used 10 times (0.02).

Sources: Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy", HP Labs 1998;
Fuerst and Sharma, "FaasCache: Keeping Serverless Computing Alive with Greedy-Dual Caching", ASPLOS 2021, section 4.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

import msgspec

Key = TypeVar("Key", bound=Hashable)


class _Entry(msgspec.Struct):
    cost_s: float
    size_bytes: int
    uses: int
    priority: float = 0.0


class GreedyDual(Generic[Key]):
    """What is kept within `budget_bytes`."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._clock = 0.0
        self._entries: dict[Key, _Entry] = {}

    @property
    def used_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self._entries.values())

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def put(self, key: Key, *, cost_s: float, size_bytes: int) -> list[Key]:
        """Keep `key`, which took `cost_s` to make; return what has to go, which may be `key` itself."""
        self._entries[key] = _Entry(max(0.0, cost_s), max(1, size_bytes), 0)
        self.use(key)
        gone = []
        while self.used_bytes > self.budget_bytes:
            last = min(self._entries, key=lambda other: self._entries[other].priority)
            self._clock = self._entries.pop(last).priority
            gone.append(last)
        return gone

    def use(self, key: Key) -> None:
        """`key` was used; what is not kept is passed over."""
        if entry := self._entries.get(key):
            entry.uses += 1
            entry.priority = self._clock + entry.uses * entry.cost_s / entry.size_bytes

    def forget(self, key: Key) -> None:
        """`key` is gone for another reason."""
        self._entries.pop(key, None)
