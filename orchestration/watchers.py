"""Tells everyone who watches what changed: each watcher has a bounded queue, and one that falls behind is ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable

from orchestration.events import Event

BEHIND_AT_MOST = 10_000


class Watchers:
    """`snapshot` returns events that describe everything as it is now; a watcher starts with them."""

    def __init__(self, snapshot: Callable[[], Iterable[Event]], behind_at_most: int = BEHIND_AT_MOST) -> None:
        self._snapshot = snapshot
        self._behind_at_most = behind_at_most
        self._queues: set[asyncio.Queue[Event | None]] = set()

    def __len__(self) -> int:
        return len(self._queues)

    def tell(self, event: Event) -> None:
        """Pass an event to every watcher."""
        for queue in list(self._queues):
            if queue.qsize() >= self._behind_at_most:
                self._end(queue)
            else:
                queue.put_nowait(event)

    def close(self) -> None:
        """End every watcher, after what it has yet to see."""
        for queue in list(self._queues):
            self._queues.discard(queue)
            queue.put_nowait(None)

    async def watch(self) -> AsyncIterator[Event]:
        """Yield the snapshot, then each change."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()  # bounded by `tell`
        snapshot = list(self._snapshot())
        self._queues.add(queue)
        try:
            for event in snapshot:
                yield event
            while (news := await queue.get()) is not None:
                yield news
        finally:
            self._queues.discard(queue)

    def _end(self, queue: asyncio.Queue[Event | None]) -> None:
        """Drop what the watcher has not seen: it must start anew, with a snapshot."""
        self._queues.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)
