"""Looks at the queues each second, and tells the autoscaler of those whose functions scale by what waits (`scale.type=queue`).

To the scaler the queue is one more edge, on which calls wait and none runs: a function at zero wakes for what is due, and one
with a backlog has as many replicas as that needs. Calls of all other functions are load when they are carried out, which is
when an edge tells of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from gateway.asynchronous.calls import Depth, queue_of
from gateway.asynchronous.store import Store, StoreUnavailable
from orchestration.events import Event, FunctionChanged, FunctionRemoved
from orchestration.function import Function
from orchestration.load import LoadSample
from orchestration.names import FunctionId
from orchestration.scaling import Metric
from orchestration.scaling_labels import scale_settings
from orchestration.settings import InvalidSetting
from telemetry.outage import Outage

log = logging.getLogger("pinnace.async")

LOOK_EVERY_S: Final = 1.0
EDGE: Final = "asynchronous"
"""What load samples call the queue."""


class Backlog:
    """Looks while entered. `depths` is the newest picture. `on_load` is called on the loop and must not block."""

    def __init__(
        self,
        store: Store,
        on_load: Callable[[LoadSample], None],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.depths: Mapping[str, Depth] = {}
        self.task: asyncio.Task[None]
        self._store = store
        self._on_load = on_load
        self._clock, self._wall = clock, wall
        self._scaled: dict[str, Function] = {}
        self._told: dict[str, tuple[Function, int]] = {}
        self._looked_at = clock()
        self._outage = Outage(log, "how full the queues are is known again")

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def apply(self, event: Event) -> None:
        """Follow a change that an orchestrator's `watch` yielded."""
        match event:
            case FunctionChanged(function):
                self._scaled.pop(queue_of(function.id), None)
                if _by_queue(function):
                    self._scaled[queue_of(function.id)] = function
            case FunctionRemoved(namespace, name):
                queue = queue_of(FunctionId(namespace, name))
                self._scaled.pop(queue, None)
                self._told.pop(queue, None)
            case _:
                pass

    async def look(self) -> None:
        """Look once. Raises StoreUnavailable."""
        wall = self._wall()
        self.depths = await self._store.depths(wall)
        now = self._clock()
        interval_s, self._looked_at = max(1e-3, now - self._looked_at), now
        for queue, function in self._scaled.items():
            depth = self.depths.get(queue, Depth())
            told = self._told.get(queue)
            if told is not None and told[0].serving.name != function.serving.name:
                self._tell(told[0], 0, 0.0, now, interval_s)  # traffic has moved: nothing waits for the revision before
            if depth.due or (told is not None and told[1]):
                self._tell(function, depth.due, wall - depth.oldest_due if depth.due else 0.0, now, interval_s)
            self._told[queue] = (function, depth.due)
        for queue in self._told.keys() - self._scaled.keys():  # it scales by something else: what waits is no load any more
            function, due = self._told.pop(queue)
            if due:
                self._tell(function, 0, 0.0, now, interval_s)

    def _tell(self, function: Function, due: int, oldest_s: float, now: float, interval_s: float) -> None:
        self._on_load(
            LoadSample(
                edge=EDGE,
                namespace=function.id.namespace,
                function=function.id.name,
                revision=function.serving.name,
                at=now,
                interval_s=interval_s,
                concurrency=0.0,
                arrivals=0,
                in_flight=0,
                queued=due,
                oldest_wait_s=max(0.0, oldest_s),
            )
        )

    async def _go_on(self) -> None:
        while True:
            try:
                await self.look()
                self._outage.went_well()
            except StoreUnavailable as error:
                self._outage.failed("how full the queues are is not known: %s", error)
            await asyncio.sleep(LOOK_EVERY_S)


def _by_queue(function: Function) -> bool:
    try:
        return scale_settings(function.spec).metric is Metric.QUEUE
    except InvalidSetting:
        return False
