"""Looks once a second at what is counted anyway, keeps it over time, and has a picture of all functions for who watches.

The picture has a number that grows with each look. A row remembers at which number it last changed, so whoever saw the
picture at number N is told the rows with a higher one: a slow reader needs no queue, and one that comes back goes on where
it was. Without a reader no row is made; functions where nothing happens are not looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Final, NamedTuple, Self

from gateway.edge.figures import FunctionLoad
from gateway.edge.tally import Tally
from gateway.monitor.rows import FunctionRow, milliseconds, states
from gateway.monitor.series import History, Level, Rows, Series, Tier, empty, errors, percentile_s
from gateway.monitor.series_file import KEPT, News
from gateway.monitor.waterfall import CallDetails, Starts
from orchestration.events import Event, FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.names import FunctionId
from orchestration.orchestrator import NotFound, Orchestrator
from orchestration.replica import ReplicaState
from orchestration.rollout import Phase

log = logging.getLogger("pinnace.monitor")

LOOK_EVERY_S: Final = 1.0
SLICE: Final = 50
"""Functions looked at in one turn of the loop: 20 µs each while they are called."""

AFTERGLOW_S: Final = 75.0
"""For how long after the last call figures about the last minute still change."""

TRIM_EVERY_S: Final = 60.0
SERIES_BYTES: Final = 64 << 20
REMOVED_KEPT: Final = 1000

Tallies = Callable[[], Mapping[FunctionId, Tally]]
Loads = Callable[[], Mapping[FunctionId, FunctionLoad]]
"""The calls of each function that has any now."""

NO_LOAD: Final = FunctionLoad()


class Update(NamedTuple):
    """What changed until the picture's `number`. `whole`: `rows` are all there are."""

    number: int
    at: float
    whole: bool
    rows: list[FunctionRow]
    removed: list[FunctionId]


class _Function:
    """What is kept of one function."""

    __slots__ = ("called_at", "changed", "ready", "row", "seen", "series", "writing")

    def __init__(self) -> None:
        self.series: Series | None = None
        self.writing = False
        self.seen = self.ready = 0
        self.called_at = float("-inf")
        self.row: FunctionRow | None = None
        self.changed = 0


class Monitor:
    """`tallies` and `loads` are an edge's, `clock` gives Unix seconds. An async context manager: while entered it looks."""

    def __init__(
        self, orchestrator: Orchestrator, tallies: Tallies, loads: Loads, clock: Callable[[], float] = time.time
    ) -> None:
        self._orchestrator = orchestrator
        self._tallies = tallies
        self._loads = loads
        self._clock = clock
        self._functions: dict[FunctionId, _Function] = {}
        self._earlier: dict[FunctionId, Rows] = {}
        self._gone: set[FunctionId] = set()
        self._replicas: dict[str, FunctionId] = {}
        self._starts = Starts()
        self._stirred: set[FunctionId] = set()
        self._stale: set[FunctionId] = set()
        self._removed: deque[tuple[int, FunctionId]] = deque()
        self._forgotten = 0
        self._number = 0
        self._looked_at = clock()
        self._looked = asyncio.Event()
        self._readers = 0
        self.dismissed = asyncio.Event()
        """The platform stops: whoever follows something is to end."""
        self._trim_at = clock() + TRIM_EVERY_S
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    def apply(self, event: Event) -> None:
        """Follow what an orchestrator's `watch` yielded."""
        match event:
            case FunctionChanged(function):
                entry = self._functions.setdefault(function.id, _Function())
                if entry.series is None and (earlier := self._earlier.pop(function.id, None)) is not None:
                    entry.series = Series(self._looked_at, Tally(), earlier)
                self._stale.add(function.id)
            case FunctionRemoved(namespace, name):
                self._forget(FunctionId(namespace, name))
            case ReplicaChanged(replica):
                function_id = FunctionId(replica.namespace, replica.function)
                kept = self._functions.get(function_id)
                self._starts.follow(replica)
                known = self._replicas.pop(replica.id, None) is not None
                if replica.state is ReplicaState.RUNNING:
                    self._replicas[replica.id] = function_id
                if kept is None:
                    return
                self._stale.add(function_id)
                self._stirred.add(function_id)
                kept.ready += (replica.state is ReplicaState.RUNNING) - known

    async def look(self) -> None:
        """Take notice of what is true now, and tell who watches."""
        now = self._looked_at = self._clock()
        loads = self._loads()
        tallies = self._tallies()
        due = {function for function, tally in tallies.items() if tally.completed != self._seen(function)}
        due |= self._stirred | loads.keys()
        due |= {function for function, kept in self._functions.items() if kept.writing}
        self._stirred = set()
        async for function in _slices(due):
            kept, tally = self._functions.get(function), tallies.get(function)
            if kept is not None and tally is not None:
                load = loads.get(function, NO_LOAD)
                self._note(now, kept, tally, Level(load.in_flight, load.queued, kept.ready))
        self._stale |= due
        self._stale |= {
            function
            for function, kept in self._functions.items()
            if now - kept.called_at < AFTERGLOW_S or (kept.row is not None and kept.row.phase is Phase.PROGRESSING)
        }
        if self._readers:
            await self._refresh(now)
        else:
            self._number += 1
        self._looked.set()
        self._looked = asyncio.Event()
        if now >= self._trim_at:
            self._trim_at = now + TRIM_EVERY_S
            self._trim(now)

    async def updates(self, since: int = 0) -> AsyncIterator[Update | None]:
        """Yield the whole picture (or what changed after number `since`), then each change; None when nothing did."""
        self._readers += 1
        try:
            await self._refresh(self._looked_at)
            seen = since if self._forgotten <= since <= self._number and since else 0
            whole = not seen
            while True:
                number, looked = self._number, self._looked
                rows = [kept.row for kept in self._functions.values() if kept.row is not None and kept.changed > seen]
                removed = [] if whole else [f for at, f in self._removed if at > seen and f not in self._functions]
                changed = whole or rows or removed
                yield Update(number, self._looked_at, whole, rows, removed) if changed else None
                seen, whole = number, False
                await looked.wait()
                if self.dismissed.is_set():
                    return
                if seen < self._forgotten:
                    seen, whole = 0, True
        finally:
            self._readers -= 1

    def dismiss(self) -> None:
        """End what readers read, for the platform stops."""
        self.dismissed.set()
        self._looked.set()

    @property
    def number(self) -> int:
        """How often it has looked."""
        return self._number

    @property
    def readers(self) -> int:
        """How many watch."""
        return self._readers

    def recent(self, function: FunctionId) -> list[int]:
        """Return how many calls ended in each of the last 60 seconds; empty when none did."""
        kept = self._functions.get(function)
        return [] if kept is None or kept.series is None else kept.series.recent(self._looked_at)

    def history(self, function: FunctionId, tier: Tier) -> History:
        """Return a function's figures over time."""
        kept, now = self._functions.get(function), self._looked_at
        return empty(now, tier) if kept is None or kept.series is None else kept.series.history(now, tier)

    def calls(self, function: FunctionId) -> list[CallDetails]:
        """Return the last calls, and the last notable ones, newest first."""
        tally = self._tallies().get(function)
        records = tally.records.all() if tally is not None and tally.records is not None else []
        return [self._starts.details(record) for record in records]

    def call(self, call_id: str) -> tuple[FunctionId, CallDetails] | None:
        """Return the call of that id and whose it was, while it is among the last ones."""
        for function, tally in self._tallies().items():
            for record in tally.records.all() if tally.records is not None else ():
                if record.id == call_id:
                    return function, self._starts.details(record)
        return None

    # what is written down (`series_file`)

    def restore(self, rows: Mapping[FunctionId, Rows]) -> None:
        """Take figures of an earlier life; to be called before functions are heard of."""
        self._earlier.update(rows)

    def news(self) -> News:
        """Return what is not written down yet."""
        fresh = {function: kept.series.fresh() for function, kept in self._functions.items() if kept.series is not None}
        wanted = {function: {tier: rows[tier] for tier in KEPT if tier in rows} for function, rows in fresh.items()}
        return News({function: rows for function, rows in wanted.items() if rows}, frozenset(self._gone))

    def written(self, news: News) -> None:
        """This is written down now."""
        self._gone -= news.gone
        for function, rows in news.rows.items():
            kept = self._functions.get(function)
            if kept is not None and kept.series is not None:
                kept.series.written(rows)

    # inside

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except Exception:  # people see less; what serves calls goes on
                log.exception("a look at the functions failed")

    def _seen(self, function: FunctionId) -> int:
        kept = self._functions.get(function)
        return kept.seen if kept is not None else 0

    def _note(self, now: float, kept: _Function, tally: Tally, level: Level) -> None:
        if kept.series is None:
            kept.series = Series(now - LOOK_EVERY_S, Tally())
        if tally.completed != kept.seen:
            kept.called_at = now
        kept.seen = tally.completed
        kept.writing = kept.series.look(now, tally, level)

    def _forget(self, function: FunctionId) -> None:
        if self._functions.pop(function, None) is None:
            return
        self._gone.add(function)
        self._stale.discard(function)
        self._replicas = {replica: of for replica, of in self._replicas.items() if of != function}
        self._removed.append((self._number + 1, function))
        if len(self._removed) > REMOVED_KEPT:
            self._forgotten = self._removed.popleft()[0]

    async def _refresh(self, now: float) -> None:
        """Make the rows anew that may have changed; the picture has another number then."""
        stale, self._stale = self._stale, set()
        loads, tallies = self._loads(), self._tallies()
        async for function in _slices(stale):
            kept = self._functions.get(function)
            if kept is None:
                continue
            with contextlib.suppress(NotFound):  # its removal is told in a moment
                row = self._row(now, function, kept, tallies.get(function) or Tally(), loads.get(function, NO_LOAD))
                if row != kept.row:
                    kept.row, kept.changed = row, self._number + 1
        self._number += 1

    def _row(self, now: float, function: FunctionId, kept: _Function, tally: Tally, load: FunctionLoad) -> FunctionRow:
        status = self._orchestrator.status(function)
        minute = kept.series.minute(now, tally) if kept.series is not None else Tally()
        found = states(status)
        return FunctionRow(
            name=function.name,
            namespace=function.namespace,
            image=status.function.spec.image,
            phase=status.condition.phase,
            message=status.condition.message,
            desired=status.replicas,
            ready=status.available,
            starting=found.starting,
            failing=found.failing,
            draining=found.draining,
            calls=kept.seen,
            cold_starts=tally.cold,
            in_flight=load.in_flight,
            waiting=load.queued,
            rate=kept.series.rate(now) if kept.series is not None else 0.0,
            minute_calls=minute.completed,
            minute_errors=errors(minute),
            p50_ms=milliseconds(percentile_s(minute, 0.5)),
            p99_ms=milliseconds(percentile_s(minute, 0.99)),
        )

    def _trim(self, now: float) -> None:
        series = [kept.series for kept in self._functions.values() if kept.series is not None]
        for one in series:
            one.trim(now)
        if sum(one.size_bytes for one in series) > SERIES_BYTES:
            for one in series:
                one.trim(now, halve=True)


async def _slices(functions: Iterable[FunctionId]) -> AsyncIterator[FunctionId]:
    """Yield them all, and let others have the loop in between."""
    for place, function in enumerate(functions):
        if place and place % SLICE == 0:
            await asyncio.sleep(0)
        yield function
