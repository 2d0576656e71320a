"""Alarms that ring on the running loop: one timer, for whoever is due first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Generic

from autoscaler.alarms import Alarms, Key


class AlarmClock(Generic[Key]):
    """`ring` is called when the first time has come, and asks who is due. `clock` gives the seconds that times are of."""

    def __init__(self, clock: Callable[[], float], ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._alarms: Alarms[Key] = Alarms()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def first(self) -> float:
        """When it rings next; inf: never."""
        return self._alarms.first

    def set(self, key: Key, at: float) -> None:
        """Have `key` due at `at`, unless that is set for earlier; inf is never."""
        first = self._alarms.first
        self._alarms.set(key, at)
        if self._alarms.first != first:
            self._wind()

    def due(self) -> list[Key]:
        """Return whose time has come, earliest first, and forget their times."""
        due = self._alarms.due(self._clock())
        self._wind()
        return due

    def forget(self, key: Key) -> None:
        """`key` is gone."""
        self._alarms.forget(key)

    def close(self) -> None:
        """Ring no more."""
        self._closed = True
        self._wind()

    def _wind(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        first = self._alarms.first
        if first < inf and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, first - self._clock()), self._ring)
