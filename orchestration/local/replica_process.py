"""One replica's life: process after process until it is stopped, in the order in which things happen.

    wait for a place among the starting ones → start → ready, or not → run → the process ends → wait (back-off) → again
                                                                      ↘ stop is asked for: drain → SIGTERM → SIGKILL

A replica keeps its id over restarts, as a pod does when its container restarts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import msgspec

from orchestration.local.backoff import restart_wait_s
from orchestration.local.keeper_link import Exit
from orchestration.local.launch import Launched, LaunchFailed
from orchestration.local.readiness import NotifyPipe, answers, silence_s
from orchestration.local.start_places import StartPlaces
from orchestration.replica import Replica, ReplicaState
from orchestration.revision import Revision
from orchestration.rollout import READY_WITHIN_S
from orchestration.starts import Start, Stopwatch

log = logging.getLogger("pinnace.replica")

STOP_GRACE_S = 10.0
KILLED_WITHIN_S = 5.0
OUTPUT_WITHIN_S = 0.3
SAID_WITHIN_S = 0.05
DRAIN_MARGIN_S = 2.0


class Starter(Protocol):
    """Makes a replica's processes: `launch.Launcher`, and whatever makes them faster.

    `prepare` may take as long as the function's own code does and may be cancelled; where `prepared`, it would return at
    once. `start` is quick.
    """

    def prepared(self, revision: Revision) -> bool: ...

    async def prepare(self, revision: Revision) -> None: ...

    async def start(self, revision: Revision, replica: str) -> Launched: ...

    def ended(self, launched: Launched) -> None: ...

    async def gone(self, replica: str) -> None: ...

    async def output(self, replica: str, within_s: float) -> str: ...


class _End(msgspec.Struct, frozen=True):
    """Why a process is no more, and how long it ran. `own`: by itself, which counts as a restart. `draining`: by itself too,
    though it was about to be stopped."""

    reason: str
    ran_s: float
    own: bool = True
    draining: bool = False


class ReplicaProcess:
    """Owns one replica. `changed` is called with each new state, `started` with each start that succeeded or failed.

    `clock` gives Unix seconds.
    """

    def __init__(
        self,
        identity: str,
        revision: Revision,
        starter: Starter,
        places: StartPlaces,
        changed: Callable[[ReplicaProcess], None],
        clock: Callable[[], float],
        started: Callable[[Start], None] = lambda start: None,
    ) -> None:
        self.revision = revision
        self.outdated = False
        self.replica = Replica(
            id=identity,
            namespace=revision.namespace,
            function=revision.function,
            revision=revision.name,
            state=ReplicaState.PENDING,
        )
        self._starter = starter
        self._places = places
        self._changed = changed
        self._clock = clock
        self._tell_started = started
        self._stopwatch = self._new_stopwatch()
        # Futures, not events: to wait for one of several costs no task then.
        self._stop_asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._drain_s = 0.0
        self._grace_s = STOP_GRACE_S
        self._task: asyncio.Task[None] | None = None
        self.launched: Launched | None = None

    @property
    def running(self) -> bool:
        return self.replica.state is ReplicaState.RUNNING

    @property
    def stopping(self) -> bool:
        return self._stop_asked.done()

    def begin(self) -> None:
        """Start its life; Pending is told at once."""
        self._changed(self)
        self._task = asyncio.create_task(self._live(), name=f"replica {self.replica.id}")

    def stop(self, *, drain_s: float | None = None, grace_s: float = STOP_GRACE_S) -> None:
        """Ask it to stop: `drain_s` bounds the wait for its calls, `grace_s` the time between SIGTERM and SIGKILL."""
        self._drain_s = self.revision.settings.timeout_s + DRAIN_MARGIN_S if drain_s is None else drain_s
        self._grace_s = grace_s
        if not self._stop_asked.done():
            self._stop_asked.set_result(None)
        if self._drain_s <= 0:
            self.released()

    def released(self) -> None:
        """No call is in flight on it, and none will come."""
        if not self._released.done():
            self._released.set_result(None)

    async def stopped(self) -> None:
        """Return when nothing is left of it."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _live(self) -> None:
        wait_s: float | None = None
        try:
            while True:
                end = await self._next_end()
                if self.stopping:
                    if end.draining:
                        self._note(reason=end.reason)  # it may have had calls
                    return
                if not end.own:
                    self._enter(ReplicaState.PENDING, reason=end.reason, endpoint=None, pid=None, ready_at=None, start=None)
                    continue
                wait_s = restart_wait_s(wait_s, end.ran_s)
                self._enter(
                    ReplicaState.CRASH_LOOP if wait_s else ReplicaState.PENDING,
                    reason=end.reason,
                    restarts=self.replica.restarts + 1,
                    last_end=end.reason,
                    endpoint=None,
                    pid=None,
                    ready_at=None,
                    started_at=None,
                    start=None,
                )
                if wait_s and await self._stop_within(wait_s):
                    return
        finally:
            try:
                await self._starter.gone(self.replica.id)
            except Exception:
                log.exception("%s: not everything of it could be taken away", self.replica.id)
            self._enter(ReplicaState.STOPPED, endpoint=None, pid=None)

    async def _next_end(self) -> _End:
        """Run one process; what nobody foresaw is an end like any other, so that it is waited for before the next one."""
        try:
            return await self._one_process()
        except Exception as error:
            reason = f"cannot start: {error or type(error).__name__}"
            if reason != self.replica.last_end:  # the same one again and again is said once
                log.exception("%s: %s", self.replica.id, reason)
            return _End(reason, 0.0)

    async def _one_process(self) -> _End:
        """Run one process from its start to its end."""
        self._stopwatch = stopwatch = self._new_stopwatch()
        async with self._place() as granted:
            if not granted:
                return _End("", 0.0)
            stopwatch.over("placed")
            began = self._clock()
            try:
                if not await self._prepared():
                    return _End("", 0.0)
                stopwatch.over("prepared")
                self.launched = launched = await self._starter.start(self.revision, self.replica.id)
            except LaunchFailed as failure:
                self._tell_started(stopwatch.start(failed=str(failure)))
                return _End(str(failure), 0.0)
            stopwatch.kind = launched.kind
            stopwatch.over("made")
            try:
                self._note(started_at=began, pid=launched.process.pid)
                reason = await self._become_ready(launched)
            except BaseException:
                try:
                    await self._kill(launched)
                finally:
                    self.launched = None
                    self._starter.ended(launched)
                raise
        if reason is not None:
            stopwatch.over("ready")
            self._tell_started(stopwatch.start(failed=reason or "ended before it was ready"))
        try:
            if reason is None:
                await self._first(launched.process.exited)
            draining = False
            if self.stopping:
                draining = await self._end(launched)
            elif not launched.process.exited.done():
                await self._kill(launched)
            last_line = await self._starter.output(self.replica.id, OUTPUT_WITHIN_S)
            ended = launched.process.exited.result()
            if ended.lost:
                return _End(str(ended), self._clock() - began, own=False)
            if reason is None or not reason.strip():
                reason = self._reason(ended, last_line)
            return _End(reason, self._clock() - began, draining=draining and ended.status != 0)
        finally:
            if not launched.process.exited.done():
                launched.process.signal(signal.SIGKILL)
            self.launched = None
            self._starter.ended(launched)

    async def _prepared(self) -> bool:
        """Return when a process can be started, or False when the replica is to stop. Raises LaunchFailed."""
        if self._starter.prepared(self.revision):
            return not self.stopping
        preparing = asyncio.ensure_future(self._starter.prepare(self.revision))
        try:
            await self._first(preparing)
        finally:
            preparing.cancel()
            await asyncio.wait([preparing])
        if not preparing.cancelled():
            preparing.result()
        return not self.stopping

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[bool]:
        """Wait for a place among the starting ones; False when the replica is to stop first."""
        place = self._places.place(self.revision)
        if self._places.free(self.revision):
            async with place:
                yield not self.stopping
            return
        entering = asyncio.ensure_future(place.__aenter__())
        try:
            await self._first(entering)
        except asyncio.CancelledError:
            entering.cancel()
            raise
        if not entering.done():
            entering.cancel()
            await asyncio.wait([entering])
        if entering.cancelled():
            yield False
            return
        entering.result()
        try:
            yield True
        finally:
            await place.__aexit__(None, None, None)

    async def _become_ready(self, launched: Launched) -> str | None:
        """Return None when it is Running or is to stop, else why it never was; empty when its end says more."""
        exited = launched.process.exited
        try:
            with NotifyPipe(launched.notify) as pipe:
                async with asyncio.timeout(READY_WITHIN_S):
                    await self._first(pipe.said, exited, within_s=silence_s(launched.endpoint))
                    if not (exited.done() or self.stopping or (pipe.said.done() and pipe.said.result())):
                        await self._answers(launched, pipe)
                    if exited.done():
                        pipe.read()
                said = pipe.said.result() if pipe.said.done() else None
                if said is not None and said.failed:
                    await asyncio.wait([exited], timeout=SAID_WITHIN_S)
                    return said.failed
                if self.stopping:
                    return None
                if exited.done():
                    return ""
        except TimeoutError:
            return f"not ready within {READY_WITHIN_S:.0f} s"
        self._stopwatch.over("ready")
        start = self._stopwatch.start()
        self._tell_started(start)
        self._enter(ReplicaState.RUNNING, start=start, reason="", endpoint=launched.endpoint, ready_at=self._clock())
        return None

    async def _answers(self, launched: Launched, pipe: NotifyPipe) -> None:
        """It is silent, or closed the pipe: return when it answers HTTP, says something, ends, or is to stop."""
        exited = launched.process.exited
        asking = asyncio.create_task(answers(launched.endpoint, launched.user))
        try:
            if not pipe.said.done():
                await self._first(pipe.said, exited, asking)
            if pipe.said.done() and pipe.said.result() is None:
                await self._first(exited, asking)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _end(self, launched: Launched) -> bool:
        """Stop in two phases: no call is in flight any more, or the limit is over; then the process ends.

        Returns whether it ended by itself while calls were in flight.
        """
        exited = launched.process.exited
        if self.running and not exited.done():
            self._enter(ReplicaState.DRAINING)
            ends: list[asyncio.Future[Any]] = [self._released, exited]
            await asyncio.wait(ends, timeout=self._drain_s, return_when=asyncio.FIRST_COMPLETED)
            if exited.done() and not self._released.done():
                return True
        launched.process.signal(signal.SIGTERM)
        await asyncio.wait([exited], timeout=self._grace_s)
        await self._kill(launched)
        return False

    async def _kill(self, launched: Launched) -> None:
        launched.process.signal(signal.SIGKILL)
        await asyncio.wait([launched.process.exited], timeout=KILLED_WITHIN_S)
        if not launched.process.exited.done():  # in an uninterruptible wait of the kernel's; the keeper reaps it later
            launched.process.exited.set_result(Exit(signal=signal.SIGKILL))

    def _reason(self, ended: Exit, last_line: str) -> str:
        cgroup = self.launched.cgroup if self.launched else None
        if cgroup is not None and ended.status != 0 and cgroup.oom_kills():
            limit = self.revision.limits.memory if self.revision.limits else None
            return f"killed: out of memory (limit {limit})" if limit else "killed: out of memory"
        if last_line and ended.signal not in (None, signal.SIGABRT):  # what it wrote last is seldom why it was killed
            return f"{ended}; its last line: {last_line}"
        return f"{ended}: {last_line}" if last_line else str(ended)

    async def _first(self, *futures: asyncio.Future[Any], within_s: float | None = None) -> None:
        """Wait until one of `futures` is done, or the replica is to stop, or so many seconds have passed."""
        waiting: list[asyncio.Future[Any]] = [self._stop_asked, *futures]
        await asyncio.wait(waiting, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)

    async def _stop_within(self, seconds: float) -> bool:
        await asyncio.wait([self._stop_asked], timeout=seconds)
        return self.stopping

    def _new_stopwatch(self) -> Stopwatch:
        return Stopwatch(self.replica.id, self.revision.name, self._clock(), time.monotonic)

    def _note(self, **fields: object) -> None:
        self.replica = msgspec.structs.replace(self.replica, **fields)

    def _enter(self, state: ReplicaState, **fields: object) -> None:
        self._note(state=state, **fields)
        self._changed(self)
