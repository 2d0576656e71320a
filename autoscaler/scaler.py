"""The loop around the decider: takes load as edges push it, writes replica counts through the orchestrator.

The unit of work is one revision that something happened to: a sample came, its function changed, or it has been idle
long enough. Idle revisions cost nothing but one entry in a heap of deadlines; nothing is polled. For each revision at
most one write is under way; what happens meanwhile is looked at when it returns, and a write that the orchestrator
refuses is tried again with growing pauses (0.1 s doubling to 10 s).
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Callable
from math import inf
from types import TracebackType
from typing import Self

from autoscaler.decider import decide
from orchestration.events import Event, FunctionChanged, FunctionRemoved
from orchestration.load import LoadSample
from orchestration.names import FunctionId
from orchestration.orchestrator import NotFound, Orchestrator
from orchestration.settings import scale_settings

log = logging.getLogger("pinnace.autoscaler")

FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 10.0


class _Watched:
    """What is known of the revision that serves one function. `calls` maps an edge to its calls in flight and waiting."""

    __slots__ = ("alarm_at", "calls", "checking", "function", "last_active", "retry_s", "revision", "touched")

    def __init__(self, function: FunctionId, revision: str, now: float) -> None:
        self.function = function
        self.revision = revision
        self.calls: dict[str, tuple[int, int]] = {}
        self.last_active = now
        self.checking: asyncio.Task[None] | None = None
        self.touched = False
        self.alarm_at = inf
        self.retry_s = FIRST_RETRY_S


class Scaler:
    """Owns every decision about replica counts. Leaving the context ends its tasks; counts stay as they are."""

    def __init__(self, orchestrator: Orchestrator, clock: Callable[[], float] = time.monotonic) -> None:
        self._orchestrator = orchestrator
        self._clock = clock
        self._watched: dict[FunctionId, _Watched] = {}
        self._deadlines: list[tuple[float, FunctionId]] = []
        self._alarm: asyncio.TimerHandle | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        tasks = [w.checking for w in self._watched.values() if w.checking is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def apply(self, event: Event) -> None:
        """Take what `Orchestrator.watch` yields."""
        if isinstance(event, FunctionChanged):
            function, revision = event.function.id, event.function.serving.name
            watched = self._watched.get(function)
            if watched is None:
                watched = self._watched[function] = _Watched(function, revision, self._clock())
            elif watched.revision != revision:
                watched.revision, watched.last_active = revision, self._clock()
                watched.calls.clear()
            self._check(watched)
        elif isinstance(event, FunctionRemoved):
            watched = self._watched.pop(FunctionId(event.namespace, event.name), None)
            if watched is not None and watched.checking is not None:
                watched.checking.cancel()

    def sample(self, sample: LoadSample) -> None:
        """Take an edge's sample; a call that waits at zero is acted on in the next turn of the loop."""
        watched = self._watched.get(FunctionId(sample.namespace, sample.function))
        if watched is None or watched.revision != sample.revision:
            return
        before = watched.calls.get(sample.edge, (0, 0))
        watched.calls[sample.edge] = (sample.in_flight, sample.queued)
        if sample.arrivals or sample.concurrency or any(before) or sample.in_flight or sample.queued:
            watched.last_active = self._clock()
        self._check(watched)

    def forget_edge(self, edge: str) -> None:
        """Drop what an edge that is gone had reported; its calls ended with it."""
        for watched in self._watched.values():
            if watched.calls.pop(edge, None) is not None:
                self._check(watched)

    def _check(self, watched: _Watched) -> None:
        watched.touched = True
        if watched.checking is None and not self._closed:
            watched.checking = asyncio.ensure_future(self._settle(watched))

    async def _settle(self, watched: _Watched) -> None:
        try:
            while watched.touched and self._watched.get(watched.function) is watched:
                watched.touched = False
                await self._decide(watched)
        finally:
            watched.checking = None

    async def _decide(self, watched: _Watched) -> None:
        try:
            status = self._orchestrator.status(watched.function)
        except NotFound:
            return
        settings = scale_settings(status.function.spec.labels)
        in_flight = sum(n for n, _ in watched.calls.values())
        queued = sum(n for _, n in watched.calls.values())
        now = self._clock()
        idle_s = 0.0 if in_flight or queued else now - watched.last_active
        decision = decide(settings, wanted=status.replicas, in_flight=in_flight, queued=queued, idle_s=idle_s)
        if decision.replicas != status.replicas:
            key = (watched.function.namespace, status.function.serving.name)
            log.info("%s: %s", watched.function, decision.reason)
            try:
                await self._orchestrator.scale(key, decision.replicas)
            except NotFound:
                return
            except Exception:
                log.exception("%s: cannot scale to %d, again in %.1f s", watched.function, decision.replicas, watched.retry_s)
                await asyncio.sleep(watched.retry_s)
                watched.retry_s = min(watched.retry_s * 2, LONGEST_RETRY_S)
                watched.touched = True
                return
            watched.retry_s = FIRST_RETRY_S
        elif settings.zero and decision.replicas and not (in_flight or queued):
            self._wake_at(watched.last_active + settings.zero_after_s, watched)

    def _wake_at(self, deadline: float, watched: _Watched) -> None:
        """Look at the revision again at `deadline`. One that is set for earlier is enough: that look sets the next."""
        if watched.alarm_at <= deadline:
            return
        watched.alarm_at = deadline
        heapq.heappush(self._deadlines, (deadline, watched.function))
        if self._deadlines[0][0] == deadline:
            self._set_alarm()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._deadlines and not self._closed:
            delay_s = max(0.0, self._deadlines[0][0] - self._clock())
            self._alarm = asyncio.get_running_loop().call_later(delay_s, self.ring)

    def ring(self) -> None:
        """Look at every revision whose deadline has passed."""
        now = self._clock()
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, function = heapq.heappop(self._deadlines)
            if watched := self._watched.get(function):
                if deadline >= watched.alarm_at:
                    watched.alarm_at = inf
                self._check(watched)
        self._set_alarm()
