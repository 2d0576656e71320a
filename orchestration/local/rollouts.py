"""Carries out what was deployed: wants replicas, moves traffic when the newest revision is ready, gives up when it is not.

The unit of work is one function that something happened to: it was deployed, scaled, or one of its replicas changed. It is
then *settled* in the next turn of the loop: replicas are wanted as the record says, and if the newest revision has enough
ready ones, traffic moves. What must survive is written before it is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any

import msgspec

from orchestration import rollout
from orchestration.events import Event, FunctionChanged
from orchestration.function import Function
from orchestration.local.failures import StorageError
from orchestration.local.store import Record, Store
from orchestration.local.supervisor import Supervisor
from orchestration.names import FunctionId
from orchestration.orchestrator import NotFound
from orchestration.replica import Replica, ReplicaState, troubles
from orchestration.revision import Revision
from orchestration.rollout import READY_WITHIN_S, Condition, Phase

log = logging.getLogger("pinnace.rollout")

WRITE_AGAIN_S = 5.0


class Rollouts:
    """Owns the records in memory. `locks` gives the lock under which a function is written.

    `clock` gives Unix seconds, `ready_within_s` bounds how long a revision may take to become ready. `keep` is told which
    revisions of a function may still start replicas.
    """

    def __init__(
        self,
        records: dict[FunctionId, Record],
        store: Store,
        supervisor: Supervisor,
        tell: Callable[[Event], None],
        locks: Callable[[FunctionId], asyncio.Lock],
        clock: Callable[[], float],
        ready_within_s: float = READY_WITHIN_S,
        keep: Callable[[FunctionId, Collection[str]], None] = lambda function, revisions: None,
    ) -> None:
        self.records = records
        self._store = store
        self._supervisor = supervisor
        self._tell = tell
        self._locks = locks
        self._clock = clock
        self._ready_within_s = ready_within_s
        self._keep = keep
        self._touched: set[FunctionId] = set()
        self._deadlines: dict[tuple[str, str], float] = {}
        self._timers: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._tasks: dict[tuple[FunctionId, str], asyncio.Task[None]] = {}
        self._put_off: set[tuple[FunctionId, str]] = set()
        self._closed = False

    def start(self) -> None:
        """Want what the records say, as after a start of the platform."""
        for record in self.records.values():
            self.deployed(record)

    async def close(self) -> None:
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def deployed(self, record: Record) -> None:
        """Take a record that was written: its newest revision has a new deadline."""
        self.records[record.function.id] = record
        newest = record.function.newest
        if newest.name not in record.failures:
            self._expect(newest)
        self.touch(record.function.id)

    def scaled(self, function: FunctionId, revision: Revision, count: int, victims: Sequence[str]) -> None:
        """Want `count` replicas of a revision at once; one that comes from zero has a new deadline."""
        record = self.records[function]
        if count and not record.wanted.get(revision.name, 0):
            self._expect(revision)
        record.wanted[revision.name] = count
        self._supervisor.want(revision, count, victims)
        self.touch(function)

    def forget(self, record: Record) -> None:
        """Stop all replicas of a function that was removed."""
        self.records.pop(record.function.id, None)
        self._keep(record.function.id, ())
        for revision in record.function.revisions:
            self._unexpect(revision)
            self._supervisor.want(revision, 0)

    def replica_changed(self, replica: Replica) -> None:
        if replica.state in (ReplicaState.RUNNING, ReplicaState.STOPPED):
            self.touch(FunctionId(replica.namespace, replica.function))

    def touch(self, function: FunctionId) -> None:
        """Settle the function in the next turn of the loop."""
        if function not in self._touched and not self._closed:
            self._touched.add(function)
            asyncio.get_running_loop().call_soon(self._settle, function)

    def condition(self, record: Record) -> Condition:
        """Say where the function's newest revision is, and why it is not further."""
        function, newest = record.function, record.function.newest
        wanted, ready = record.wanted.get(newest.name, 0), self._supervisor.ready(newest)
        trouble = self.trouble(newest)
        if failure := record.failures.get(newest.name):
            return Condition(Phase.FAILED, failure)
        if function.rolling:
            return Condition(Phase.PROGRESSING, trouble or f"{newest.name}: {ready} of {max(1, wanted)} replicas are ready")
        if function.gradual is not None:
            return Condition(Phase.PROGRESSING, rollout.told(function))
        if ready >= wanted:
            return Condition(Phase.READY, rollout.told(function))
        if not ready and self._clock() >= self._deadlines.get(newest.key, float("inf")):
            return Condition(Phase.FAILED, trouble or self._late())
        return Condition(Phase.PROGRESSING, trouble or f"{ready} of {wanted} replicas are ready")

    def trouble(self, revision: Revision) -> str:
        """Return why a replica of the revision is not ready; empty where none says so."""
        replicas = self._supervisor.replicas(FunctionId(revision.namespace, revision.function))
        return troubles(replicas).get(revision.name, "")

    def functions(self) -> dict[FunctionId, Function]:
        """Return all that are deployed."""
        return {identity: record.function for identity, record in self.records.items()}

    def _settle(self, identity: FunctionId) -> None:
        self._touched.discard(identity)
        record = self.records.get(identity)
        if record is None and not self._closed:
            self._keep(identity, ())  # a replica has stopped that may have been starting when its function was removed
        if record is None or self._closed:
            return
        function, newest = record.function, record.function.newest
        serving = record.wanted.get(function.serving.name, 0)
        rolling = function.rolling and newest.name not in record.failures
        needed = rollout.needed(function, serving) if rolling else 0
        if rolling:  # the serving revision may be scaled up meanwhile; the newest one has to take over its share of it
            record.wanted[newest.name] = max(needed, record.wanted.get(newest.name, 0))
        for revision in function.revisions:
            self._supervisor.want(revision, record.wanted.get(revision.name, 0))
        self._keep(identity, {target.revision for target in function.traffic} | ({newest.name} if rolling else set()))
        for process in self._supervisor.processes(identity):
            if process.replica.revision not in record.wanted and not process.stopping:
                process.stop()  # of a revision that is no longer kept
        if self._supervisor.ready(newest):
            self._unexpect(newest)
        if rolling and rollout.may_promote(ready=self._supervisor.ready(newest), wanted=needed):
            self._do(identity, newest, self._promote(identity, newest))

    async def move(
        self, identity: FunctionId, change: Callable[[Record], Function], failure: tuple[str, str] | None = None
    ) -> Function:
        """Move calls as `change` says, under the function's lock; `failure` is a revision that is given up, and why.

        Raises NotFound, StorageError, what `change` raises.
        """
        async with self._locks(identity):
            record = self.records.get(identity)
            if record is None:
                raise no_function(identity)
            function = change(record)
            if function is record.function:
                return function
            failures = record.failures | ({failure[0]: failure[1]} if failure is not None else {})
            await self._put_moved(record, function, failures)
        log.info("%s: %s", identity, ", ".join(f"{t.percent} % to {t.revision}" for t in function.traffic if t.percent))
        self.touch(identity)
        return function

    async def _put_moved(self, record: Record, function: Function, failures: dict[str, str]) -> None:
        """Write, then tell, that calls go elsewhere. Raises StorageError."""
        counts = rollout.counts(record.function, function, record.wanted, failures)
        moved = msgspec.structs.replace(record, function=function, wanted=record.wanted | counts, failures=failures)
        self.records[function.id] = await self._store.put(moved)
        self._tell(FunctionChanged(function))

    async def _promote(self, identity: FunctionId, newest: Revision) -> None:
        async with self._locks(identity):
            record = self.records.get(identity)
            if record is None or record.function.newest.name != newest.name or not record.function.rolling:
                return
            function = rollout.promote(record.function, self._clock())
            try:
                await self._put_moved(record, function, record.failures)
            except StorageError as error:  # the disk may be full for a while; what runs goes on meanwhile
                log.error("%s: traffic stays: %s", identity, error)
                asyncio.get_running_loop().call_later(WRITE_AGAIN_S, self.touch, identity)
                return
        log.info("%s: %s is ready; %s", identity, newest.name, rollout.told(function) or "it gets the calls")
        self.touch(identity)

    async def _give_up(self, identity: FunctionId, revision: Revision) -> None:
        async with self._locks(identity):
            record = self.records.get(identity)
            if record is None or record.function.newest.name != revision.name or self._supervisor.ready(revision):
                return
            if not record.function.rolling:  # there is nothing better: it is tried for ever
                return
            failure = self.trouble(revision) or self._late()
            record = msgspec.structs.replace(
                record,
                wanted=record.wanted | {revision.name: 0},
                failures=record.failures | {revision.name: f"{revision.name}: {failure}"},
            )
            try:
                self.records[identity] = await self._store.put(record)
            except StorageError as error:
                log.error("%s: %s", identity, error)
                asyncio.get_running_loop().call_later(WRITE_AGAIN_S, self._expired, revision)
                return
            self._tell(FunctionChanged(record.function))
        log.warning("%s: %s never became ready: %s", identity, revision.name, failure)
        self.touch(identity)

    def _do(self, identity: FunctionId, revision: Revision, work: Coroutine[Any, Any, None]) -> None:
        """Run one piece of work at a time for a revision; after it the function is looked at again for what was put off."""
        key = (identity, revision.name)
        if key in self._tasks or self._closed:
            self._put_off.add(key)
            work.close()
            return
        task = self._tasks[key] = asyncio.create_task(work)
        task.add_done_callback(lambda done: self._done(key, done))

    def _done(self, key: tuple[FunctionId, str], task: asyncio.Task[None]) -> None:
        del self._tasks[key]
        if key in self._put_off:
            self._put_off.discard(key)
            self.touch(key[0])
        if not task.cancelled() and (error := task.exception()):
            log.error("%s: %s", key[0], error, exc_info=error)

    def _expect(self, revision: Revision) -> None:
        self._unexpect(revision)
        self._deadlines[revision.key] = self._clock() + self._ready_within_s
        self._timers[revision.key] = asyncio.get_running_loop().call_later(self._ready_within_s, self._expired, revision)

    def _unexpect(self, revision: Revision) -> None:
        self._deadlines.pop(revision.key, None)
        if timer := self._timers.pop(revision.key, None):
            timer.cancel()

    def _expired(self, revision: Revision) -> None:
        self._timers.pop(revision.key, None)
        identity = FunctionId(revision.namespace, revision.function)
        if identity in self.records:
            self._do(identity, revision, self._give_up(identity, revision))

    def _late(self) -> str:
        return f"not ready within {self._ready_within_s:.0f} s: its import, or its start, takes longer"


def no_function(function: FunctionId) -> NotFound:
    """Return the error that says that there is no such function."""
    return NotFound(f"there is no function {function.name!r} in namespace {function.namespace!r}")
