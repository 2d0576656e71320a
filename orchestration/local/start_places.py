"""How many replicas start at the same time: the others wait in line.

A start that takes long gives its place back, so that functions which hang do not keep others from starting.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator

from orchestration.revision import Revision

PLACE_HELD_S = 5.0


class StartPlaces:
    """`total` of them, and `per_function` for the replicas of one function."""

    def __init__(self, total: int = 8, per_function: int = 4) -> None:
        self._total = asyncio.Semaphore(total)
        self._per_function = per_function
        self._functions: weakref.WeakValueDictionary[tuple[str, str], asyncio.Semaphore] = weakref.WeakValueDictionary()

    def free(self, revision: Revision) -> bool:
        """Whether there is a place now."""
        own = self._functions.get((revision.namespace, revision.function))
        return not self._total.locked() and (own is None or not own.locked())

    @contextlib.asynccontextmanager
    async def place(self, revision: Revision) -> AsyncIterator[None]:
        """Wait for a place; it is given back after `PLACE_HELD_S` or at the end of the block."""
        function = (revision.namespace, revision.function)
        own = self._functions.setdefault(function, asyncio.Semaphore(self._per_function))
        await own.acquire()
        try:
            await self._total.acquire()
        except BaseException:
            own.release()
            raise
        held = [own, self._total]

        def give_back() -> None:
            while held:
                held.pop().release()

        timer = asyncio.get_running_loop().call_later(PLACE_HELD_S, give_back)
        try:
            yield
        finally:
            timer.cancel()
            give_back()
