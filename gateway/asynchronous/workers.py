"""Takes what is due from the store and has it carried out, many calls at a time.

Which calls: those of each queue in turn (the store's order), no more of one function than its settings say, and no more of
one than there are places left free. So the first slow function gets half of all places, a second one a third of them each,
and so on: one that comes later always finds some (Choudhury and Hahne, dynamic queue length thresholds, 1998, with alpha = 1).

A lease is prolonged three times as often as it would end. When it is not held any more the attempt is broken off.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from gateway.asynchronous.calls import Call, Lease
from gateway.asynchronous.carrier import Execution
from gateway.asynchronous.functions import Functions
from gateway.asynchronous.settings import AsyncSettings
from gateway.asynchronous.store import Store, StoreUnavailable

log = logging.getLogger("pinnace.async")

IDLE_S: Final = 5.0
"""How long nothing is taken, at most, without a look whether something is due."""
SWEEP_S: Final = 1.0
BEGUN_AT_ONCE: Final = 20
"""So many calls of those that were taken together begin before others have the loop: 2 ms. A burst takes hundreds."""
BROKEN_S: Final = 1.0
"""Pause after the store could not be used."""


class Workers:
    """Carries out calls of `store` while entered. `pause` takes no more; leaving gives back what still runs."""

    def __init__(
        self,
        store: Store,
        functions: Functions,
        execution: Execution,
        settings: AsyncSettings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._functions, self._execution = store, functions, execution
        self._settings = settings
        self._clock = clock
        self._running: dict[Lease, asyncio.Task[None]] = {}
        self._paused = False
        self._failing: set[str] = set()
        self._room = asyncio.Event()
        self._taking = asyncio.Lock()
        self._called_off: set[str] = set()
        self.tasks: list[asyncio.Task[None]] = []
        """Those that must go on as long as the workers are entered."""

    async def __aenter__(self) -> Self:
        self.tasks = [asyncio.create_task(loop()) for loop in (self._take, self._extend, self._sweep)]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.pause()
        async with self._taking:  # what is being taken is to be known, and given back
            await _end(self.tasks)
        leases = list(self._running)
        await _end(list(self._running.values()))
        if leases:
            with contextlib.suppress(StoreUnavailable):
                await self._store.release(leases, self._clock())

    @property
    def running(self) -> int:
        """How many calls are carried out now."""
        return len(self._running)

    def pause(self) -> None:
        """Take no more calls; those that run go on."""
        self._paused = True

    def cancelled(self, call_id: str) -> None:
        """Break off the call if it runs here; where it runs elsewhere, its lease tells."""
        if self._taking.locked():
            self._called_off.add(call_id)  # it may be among those that are still to begin
        for lease, task in self._running.items():
            if lease.id == call_id:
                task.cancel()

    def limit(self, queue: str) -> int:
        """Return how many calls of a queue may run at a time now."""
        free = self._settings.concurrency - len(self._running)
        return min(self._functions.of(queue).concurrency, max(1, free))

    async def _take(self) -> None:
        while True:
            self._room.clear()
            free = self._settings.concurrency - len(self._running)
            if self._paused or free <= 0:
                await self._room.wait()
                continue
            try:
                async with self._taking:
                    self._called_off.clear()
                    now = self._clock()
                    calls = await self._store.take(self.limit, -(-free // 2), now, self._settings.lease_s)
                    for number, call in enumerate(calls, 1):
                        if call.id not in self._called_off:
                            self._begin(call)
                        if number % BEGUN_AT_ONCE == 0:
                            await asyncio.sleep(0)
                self._went_well("take")
                if not calls:
                    await self._store.changed(await self._patience(now))
            except StoreUnavailable as error:
                self._failed("take", error)
                await asyncio.sleep(BROKEN_S)

    async def _patience(self, looked: float) -> float:
        """Return for how long nothing need be taken if nothing changes, when nothing was there at `looked`."""
        due = await self._store.next_due()
        if due is None or due <= looked:  # what was due then waits for a place, not for the clock
            return IDLE_S
        return min(IDLE_S, max(0.0, due - self._clock()))

    def _begin(self, call: Call) -> None:
        lease = call.lease
        task = self._running[lease] = asyncio.create_task(self._run(call))
        task.add_done_callback(lambda _: self._ended(lease))

    def _ended(self, lease: Lease) -> None:
        self._running.pop(lease, None)
        self._room.set()

    async def _run(self, call: Call) -> None:
        try:
            await self._execution.run(call)
        except StoreUnavailable as error:
            log.error("what came of the asynchronous call %s of %s could not be kept: %s", call.id, call.queue, error)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("the asynchronous call %s of %s could not be carried out", call.id, call.queue)

    async def _extend(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_s / 3)
            await self._prolong_all()

    async def _prolong_all(self) -> None:
        """Prolong the leases of all calls that run here."""
        # All at once: a store gathers them. One after the other 500 of them would outlast a lease at 60 ms each.
        failures = await asyncio.gather(*(self._prolong(lease, task) for lease, task in self._running.items()))
        if error := next(filter(None, failures), None):
            self._failed("extend", error)
        else:
            self._went_well("extend")

    async def _prolong(self, lease: Lease, task: asyncio.Task[None]) -> StoreUnavailable | None:
        """Prolong one lease, or break its call off where it is not held; return why neither could be."""
        try:
            if not await self._store.extend(lease, self._clock(), self._settings.lease_s):
                task.cancel()
        except StoreUnavailable as error:
            return error
        return None

    async def _sweep(self) -> None:
        looked = self._clock()
        while True:
            now = self._clock()
            if now - looked > self._settings.lease_s / 3:  # the clock has leapt, or the machine slept: leases seem over
                await self._prolong_all()
            looked = now
            more = False
            try:
                more = await self._store.sweep(now, self._settings.keep)
                self._went_well("sweep")
            except StoreUnavailable as error:
                self._failed("sweep", error)
            await asyncio.sleep(0.01 if more else SWEEP_S)

    def _failed(self, work: str, error: StoreUnavailable) -> None:
        """Some of the work cannot be done; said when it is the first."""
        if not self._failing:
            log.error("asynchronous calls wait: %s", error)
        self._failing.add(work)

    def _went_well(self, work: str) -> None:
        """Some of the work was done; said when none fails any more."""
        if work in self._failing:
            self._failing.remove(work)
            if not self._failing:
                log.info("asynchronous calls go on: the store can be used again")


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
