"""What a revision at zero keeps ready: where starts are quick because something waits in memory (a zygote), it is there when
replicas will be asked for, and goes when nobody is expected any more.

What waits in memory may have been let go of meanwhile, for want of memory or because the platform was started again; then a
start takes as long as the handler's import, and how early to ask for a replica was learnt from starts that did not. So it is
asked for `AHEAD_S` before a replica is due: by what was learnt of idle times, by a schedule, for a timer's call. Each time that
is due is asked for once, and no more than `AT_A_TIME` imports run for it at the same time.

A revision that no call came to for `COOL_AFTER_S`, and that nothing is due for, has it let go of, once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from math import inf
from typing import Any, Final

from autoscaler.idle_times import LONGEST_S
from autoscaler.watched import Watched
from orchestration.orchestrator import NotFound, Orchestrator

log = logging.getLogger("pinnace.autoscaler")

AHEAD_S: Final = 30.0
"""Longer than the import of nearly any handler takes."""
COOL_AFTER_S: Final = LONGEST_S
"""A day: of longer idle times nothing is learnt."""
WITHIN_S: Final = 180.0
"""The longest to wait for one: longer than the orchestrator lets an import take."""
AT_A_TIME: Final = 2
SAME_S: Final = 1.0
"""Times that are closer are the same one: a schedule's are told by another clock."""


class Warmth:
    """Asks the orchestrator; leaving nothing under way is `close`'s."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._turns = asyncio.Semaphore(AT_A_TIME)
        self._tasks: set[asyncio.Task[None]] = set()

    def at_zero(self, watched: Watched, now: float, due_at: float, idle_s: float) -> float:
        """A revision is at zero, idle for so long, and a replica is due at `due_at` (inf: none). Return when to look again."""
        if due_at < inf:
            ahead_at = due_at - AHEAD_S
            if now < ahead_at:
                return ahead_at
            if abs(watched.warm_for - due_at) > SAME_S:
                watched.warm_for = due_at
                self._do(self._prewarm(watched))
            return due_at
        if watched.warm_for == inf:
            return inf
        if idle_s < COOL_AFTER_S:
            return now + COOL_AFTER_S - idle_s
        watched.warm_for = inf
        self._do(self._cool(watched))
        return inf

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _prewarm(self, watched: Watched) -> None:
        key = watched.key
        try:
            async with self._turns, asyncio.timeout(WITHIN_S):
                await self._orchestrator.prewarm(key)
        except NotFound:
            return
        except Exception:
            log.exception("%s: nothing could be made ready ahead; its next start may take longer", watched.function)
        else:
            log.debug("%s: a start of %s is due: it is prepared", watched.function, key[1])

    async def _cool(self, watched: Watched) -> None:
        try:
            await self._orchestrator.cool(watched.key)
        except NotFound:
            return
        except Exception:
            log.exception("%s: what it keeps ready could not be let go of", watched.function)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
