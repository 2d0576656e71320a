"""Those who wait in this process until a call has ended; whichever store keeps it tells them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator


class Waiters:
    """Is true while somebody waits."""

    def __init__(self) -> None:
        self._events: dict[str, set[asyncio.Event]] = {}

    def __bool__(self) -> bool:
        return bool(self._events)

    @contextlib.contextmanager
    def waiting(self, call_id: str) -> Iterator[asyncio.Event]:
        """Give what is set when the call ends while this is entered."""
        event = asyncio.Event()
        self._events.setdefault(call_id, set()).add(event)
        try:
            yield event
        finally:
            events = self._events[call_id]
            events.discard(event)
            if not events:
                del self._events[call_id]

    def over(self, call_ids: Iterable[str]) -> None:
        """These calls have ended."""
        if not self:  # as mostly, and every call that ends is told of
            return
        for call_id in call_ids:
            for event in self._events.get(call_id, ()):
                event.set()

    def alarm(self) -> None:
        """Any call may have ended: all are to look."""
        self.over(self._events)
