"""How many replicas may be starting at the same time: of one function, and of all together.

Starting costs what running functions need: CPU here, the API server and the nodes on a cluster. Who finds no room in the total
waits in the order in which it asked and is told when some replica has started. Who is at its own bound waits for nobody else
and holds nobody up: the start of one of its own replicas makes room.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

import msgspec

Key = TypeVar("Key", bound=Hashable)


class StartLimits(msgspec.Struct, frozen=True):
    """The most replicas that may be starting: of one function, and in all."""

    per_function: int = 100
    total: int = 200


class Starts(Generic[Key]):
    """Who is starting how many. Keys are functions."""

    def __init__(self, limits: StartLimits) -> None:
        self.limits = limits
        self.total = 0
        self._starting: dict[Key, int] = {}
        self._waiting: dict[Key, None] = {}

    def set(self, key: Key, starting: int) -> None:
        """`key` has so many replicas starting now."""
        before = self._starting.pop(key, 0)
        if starting:
            self._starting[key] = starting
        self.total += starting - before

    def room(self, key: Key) -> int:
        """Return how many more may start for `key` now; those who asked before it go first."""
        mine = self.limits.per_function - self._starting.get(key, 0)
        all_ = self.limits.total - self.total
        if self._waiting and next(iter(self._waiting)) != key:
            all_ = 0
        return max(0, min(mine, all_))

    def wait(self, key: Key) -> None:
        """`key` wants more than fits: it is among those that `next` returns, unless its own bound is what binds it."""
        if self._starting.get(key, 0) + self.room(key) < self.limits.per_function:
            self._waiting.setdefault(key)
        else:
            self.served(key)

    def served(self, key: Key) -> None:
        """`key` waits no more."""
        self._waiting.pop(key, None)

    def next(self) -> Key | None:
        """Return who has waited longest, if it would find room."""
        key = next(iter(self._waiting), None)
        return key if key is not None and self.room(key) else None

    def forget(self, key: Key) -> None:
        """`key` is gone."""
        self.set(key, 0)
        self.served(key)
