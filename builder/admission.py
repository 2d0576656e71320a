"""How many builds may run or wait: counted from the moment that one is let in until its events end or are closed.

Between the two the caller answers its client, so that the first event may be asked for much later, or never: what counts
cannot begin with the first event.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Any

from builder.events import BuildEvent


class BuilderBusy(RuntimeError):
    """As many builds wait as may wait: try again later (429)."""


class Admission:
    """Lets in `most` at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._admitted = 0

    def admit(self, events: Callable[[], AsyncGenerator[BuildEvent, None]]) -> AsyncGenerator[BuildEvent, None]:
        """Return the `events` of a build that is let in; close them, also when none was asked for. Raises BuilderBusy."""
        if self._admitted >= self._most:
            raise BuilderBusy(f"{self._admitted} builds are running or waiting; try again in a few seconds")
        self._admitted += 1
        return _Admitted(events(), self._left)

    def _left(self) -> None:
        self._admitted -= 1


class _Admitted(AsyncGenerator[BuildEvent, None]):
    """Passes on events, and tells once when there will be no more."""

    def __init__(self, events: AsyncGenerator[BuildEvent, None], left: Callable[[], None]) -> None:
        self._events = events
        self._left: Callable[[], None] | None = left

    async def asend(self, value: None) -> BuildEvent:
        try:
            return await self._events.asend(value)
        except BaseException:
            self._over()
            raise

    async def athrow(
        self, kind: Any, value: BaseException | object = None, traceback: TracebackType | None = None, /
    ) -> BuildEvent:
        try:
            return await self._events.athrow(kind)
        except BaseException:
            self._over()
            raise

    async def aclose(self) -> None:
        try:
            await self._events.aclose()
        finally:
            self._over()

    def _over(self) -> None:
        left, self._left = self._left, None
        if left is not None:
            left()
