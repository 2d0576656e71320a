"""The loop that makes timers' runs: each is an asynchronous call of its function, submitted when its time has come.

The call's idempotency key is made of the timer and the run's instant. So a run that was submitted, but not marked as done
because the platform died in between, is submitted again and is the same call; two platforms that take themselves for the one
that leads make one call. A run is marked as done only when its call is durable: what could not be submitted (a full queue, a
store that is away) is tried again.

The loop sleeps until the next run. Before a run it tells the autoscaler, so that a replica is there when the call comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from itertools import islice
from math import inf
from types import TracebackType
from typing import Final, Self

import msgspec

from gateway.asynchronous.calls import Receipt, Submission, queue_of
from gateway.asynchronous.store import QueueFull, StoreUnavailable
from gateway.timers.book import Book, BookUnavailable, Mark, TimerId
from orchestration.events import Event, FunctionChanged, FunctionRemoved
from orchestration.function import Function
from orchestration.names import FunctionId
from orchestration.settings import InvalidSetting
from orchestration.timers import CRON_TOPIC, MOST_MISSED, ON_TIME_S, Timer, TimerSettings, due_of, timer_settings
from telemetry.outage import Outage

log = logging.getLogger("pinnace.timers")

KEY: Final = "\x1ftimer:"
"""Idempotency keys that begin so are the platform's: no header can hold that character."""
CONNECTOR: Final = "cron-connector"
TELL_BEFORE_S: Final = 300.0
"""So long before a run the autoscaler is told of it: longer than any start takes, and not so long that a schedule which was
changed meanwhile matters."""
LOOK_EVERY_S: Final = 60.0
"""The wall clock may be set while the loop sleeps."""
UNSEEN_S: Final = 3600.0
"""Of a timer without a mark, runs are due from its function's deploy on, but not from further back than this."""
TIDY_AFTER_S: Final = 600.0
"""So long after the start marks of functions that nobody told of are forgotten."""
FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 60.0
READ_AGAIN_S: Final = 5.0
SUBMIT_WITHIN_S: Final = 30.0
AT_A_TIME: Final = 10
"""So many instants are reckoned before others have the loop: 1 ms at most."""
TOGETHER: Final = 50
"""So many calls are submitted in one go, unless a single timer has more: 1 ms."""
MARKS_TOGETHER: Final = 200
"""So many marks are written down in one go: 1 ms."""

Submit = Callable[[Sequence[Submission]], Awaitable[list[Receipt]]]
"""Keeps calls, all of them or none. Raises QueueFull, StoreUnavailable."""
IsOpen = Callable[[str], Awaitable[bool]]
"""Whether the call of this id has not ended. Raises StoreUnavailable."""
Expect = Callable[[FunctionId, float], None]
"""Told that a function is called at a time (Unix s)."""


class Counts(msgspec.Struct):
    """Runs that were made; left out because they were missed, or because the one before had not ended; tries that failed."""

    fired: int = 0
    missed: int = 0
    overlapping: int = 0
    failed: int = 0


class _Entry:
    """A timer that is followed. `done` is up to when all is done, `coming` its next run, `look_at` when to do something; its
    function was `born` then. What it holds is `guessed` until the book was read."""

    __slots__ = ("born", "call_id", "coming", "done", "guessed", "look_at", "ran", "retry_s", "settings", "told")

    def __init__(self, settings: TimerSettings, mark: Mark, born: float, *, guessed: bool) -> None:
        self.settings = settings
        self.born, self.guessed = born, guessed
        self.take(mark)
        self.look_at = self.told = -inf
        self.retry_s = FIRST_RETRY_S

    def take(self, mark: Mark) -> None:
        """Hold what a mark says, unless an earlier function of that name left it."""
        self.coming = -inf
        self.done, self.ran, self.call_id = (
            (self.born, 0.0, "") if mark.done < self.born else (mark.done, mark.ran, mark.call_id)
        )

    @property
    def mark(self) -> Mark:
        return Mark(self.done, self.ran, self.call_id)


class _Owed(msgspec.Struct):
    """What a timer is owed in one turn: the `runs` to make, `missed` others; `coming` is its next one. `overlapping` runs are
    left out."""

    name: TimerId
    entry: _Entry
    runs: tuple[float, ...]
    missed: int
    coming: float
    overlapping: int = 0


class Timers:
    """Follows functions' timers and, while it `leads`, makes their runs. Entering reads the book and starts the loop.

    `wall` gives Unix seconds. A book that cannot be read yet is read later; until then no run is made.
    """

    def __init__(
        self,
        submit: Submit,
        is_open: IsOpen,
        book: Book,
        *,
        expect: Expect = lambda function, at: None,
        wall: Callable[[], float] = time.time,
        leads: bool = True,
    ) -> None:
        self.counts = Counts()
        self._submit = submit
        self._is_open = is_open
        self._book = book
        self._expect = expect
        self._wall = wall
        self._leads = leads
        self._entries: dict[TimerId, _Entry] = {}
        self._settings: dict[FunctionId, TimerSettings] = {}
        self._marks: dict[TimerId, Mark] = {}
        self._unwritten: set[TimerId] = set()
        self._gone: set[TimerId] = set()
        self._stale = True
        self._in_one_go = 0
        self._tidy_at = wall() + TIDY_AFTER_S
        self._bell = asyncio.Event()
        self._outage = Outage(log, "timers have their book again")
        self._write_outage = Outage(log, "what is done of timers is written down again")
        self._loop: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        with contextlib.suppress(BookUnavailable):  # the loop says so, and tries again
            await self.read()
        self._loop = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._loop is not None
        self._loop.cancel()
        await asyncio.wait([self._loop])

    # what it is told

    def apply(self, change: Event) -> None:
        """Take what an orchestrator's `watch` yields."""
        match change:
            case FunctionChanged(function):
                self._follow(function)
            case FunctionRemoved(namespace, name):
                self._keep(FunctionId(namespace, name), TimerSettings())
            case _:
                return
        self._bell.set()

    def lead(self, leads: bool) -> None:
        """Begin or cease to make runs; what others did meanwhile is read in the book."""
        self._leads = leads
        self._stale = True
        self._bell.set()

    def mark(self, function: FunctionId, timer: Timer) -> Mark | None:
        """Return what was done of a timer; None for one that is not followed."""
        entry = self._entries.get(TimerId(function, timer))
        return None if entry is None else entry.mark

    def _follow(self, function: Function) -> None:
        try:
            settings = timer_settings(function.spec)
        except InvalidSetting as error:  # deployed by other means than the API, which refuses it
            log.warning("%s: %s; it has no timers", function.id, error)
            settings = TimerSettings()
        self._keep(function.id, settings)
        for timer in settings.timers:
            name = TimerId(function.id, timer)
            if (entry := self._entries.get(name)) is not None:
                entry.settings = settings
                continue
            mark = self._marks.get(name) or Mark(max(function.updated_at, self._wall() - UNSEEN_S))
            self._entries[name] = _Entry(settings, mark, function.created_at, guessed=self._stale)
            self._unwritten.add(name)
            self._gone.discard(name)

    def _keep(self, function: FunctionId, settings: TimerSettings) -> None:
        """Let go of a function's timers that are not in `settings`."""
        before = self._settings.pop(function, TimerSettings())
        if settings.timers:
            self._settings[function] = settings
        gone = [TimerId(function, timer) for timer in before.timers if timer not in settings.timers]
        for name in gone:
            del self._entries[name]
            self._marks.pop(name, None)
        self._gone.update(gone)

    # the loop

    async def _run(self) -> None:
        while True:
            self._bell.clear()
            try:
                at = await self.turn()
                self._outage.went_well()
            except BookUnavailable as error:
                self._outage.failed("timers wait for their book: %s", error)
                at = self._wall() + READ_AGAIN_S
            except Exception:
                log.exception("timers could not be looked at, again in %.0f s", LONGEST_RETRY_S)
                at = self._wall() + LONGEST_RETRY_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(max(at - self._wall(), 0.0), LOOK_EVERY_S)):
                    await self._bell.wait()

    async def turn(self) -> float:
        """Do all that is due now; return when to look again (Unix s). Who does not lead reads what was done by who does."""
        if self._stale or not self._leads:
            await self.read()
        now = self._wall()
        if not self._leads:
            return now + LOOK_EVERY_S
        group: list[_Owed] = []
        for name, entry in [item for item in self._entries.items() if item[1].look_at <= now]:
            owed = await self._owed(name, entry, now)
            if sum(len(one.runs) for one in (*group, owed)) > TOGETHER or len(group) == TOGETHER:
                await self._make(group, now)
                group = []
            group.append(owed)
        await self._make(group, now)
        if now >= self._tidy_at:  # all functions have been told of long ago
            self._tidy_at = inf
            self._gone.update(self._marks.keys() - self._entries.keys())
        await self._write()
        return min((entry.look_at for entry in self._entries.values()), default=inf)

    async def _owed(self, name: TimerId, entry: _Entry, now: float) -> _Owed:
        """Return what is due. Mostly that is the run that was waited for."""
        await self._breathe()
        timer = name.timer
        if entry.done > now + UNSEEN_S:  # the clock was far ahead when that was written
            entry.done = now
        if entry.done < entry.coming <= now < entry.coming + ON_TIME_S:
            coming = timer.next_after(entry.coming)
            if coming > now:
                return _Owed(name, entry, (entry.coming,), 0, coming)
        instants = []
        for at in islice(timer.between(entry.done, now), MOST_MISSED):
            instants.append(at)
            await self._breathe()
        found = due_of(instants[::-1], now, entry.settings.missed)
        return _Owed(name, entry, found.runs, found.missed, timer.next_after(max(now, entry.done)))

    async def _breathe(self) -> None:
        """Let others have the loop after each AT_A_TIME of what is reckoned."""
        self._in_one_go += 1
        if self._in_one_go >= AT_A_TIME:
            self._in_one_go = 0
            await asyncio.sleep(0)

    async def _make(self, group: Sequence[_Owed], now: float) -> None:
        """Make the runs that timers are owed, in one step; by halves where that fails, so that none suffers for another."""
        try:
            await asyncio.gather(*(self._leave_out(one) for one in group if one.runs and not one.entry.settings.overlap))
            await self._submit_runs(group, now)
        except Exception as error:
            everybodys = isinstance(error, StoreUnavailable | TimeoutError)
            if len(group) == 1 or everybodys:
                self._failed(group, error, now)
                return
            half = len(group) // 2
            await self._make(group[:half], now)
            await self._make(group[half:], now)
            return
        for one in group:
            self._made(one, now)

    async def _leave_out(self, owed: _Owed) -> None:
        """Leave out the runs that would overlap."""
        busy = bool(owed.entry.call_id) and await self._is_open(owed.entry.call_id)
        kept = () if busy else owed.runs[-1:]
        owed.overlapping += len(owed.runs) - len(kept)
        owed.runs = kept

    async def _submit_runs(self, group: Sequence[_Owed], now: float) -> None:
        wanted = [_submission(one.name, at, now) for one in group for at in one.runs]
        if not wanted:
            return
        async with asyncio.timeout(SUBMIT_WITHIN_S):
            receipts = await self._submit(wanted)
        self.counts.fired += sum(not receipt.repeated for receipt in receipts)
        last = 0
        for one in group:
            if one.runs:
                last += len(one.runs)
                one.entry.ran, one.entry.call_id = one.runs[-1], receipts[last - 1].id

    def _made(self, owed: _Owed, now: float) -> None:
        name, entry = owed.name, owed.entry
        if owed.runs or owed.missed or owed.overlapping:
            self.counts.missed += owed.missed
            self.counts.overlapping += owed.overlapping
            entry.done, entry.retry_s = now, FIRST_RETRY_S
            self._unwritten.add(name)
        entry.coming = owed.coming
        if entry.coming - now <= TELL_BEFORE_S and entry.told != entry.coming:
            entry.told = entry.coming
            self._expect(name.function, entry.coming)
        entry.look_at = entry.coming if entry.told == entry.coming else entry.coming - TELL_BEFORE_S

    def _failed(self, group: Sequence[_Owed], error: Exception, now: float) -> None:
        expected = isinstance(error, QueueFull | StoreUnavailable | TimeoutError)
        why = error if str(error) else type(error).__name__
        (name, entry), others = (group[0].name, group[0].entry), len(group) - 1
        besides = f", and those of {others} other timers," if others else ""
        told = "the run of %r of %s%s cannot be submitted, again in %.0f s: %s"
        log.warning(
            told, name.timer.expression, name.function, besides, entry.retry_s, why, exc_info=None if expected else error
        )
        self.counts.failed += len(group)
        for one in group:
            one.entry.look_at = now + one.entry.retry_s
            one.entry.retry_s = min(one.entry.retry_s * 2, LONGEST_RETRY_S)

    # the book

    async def _write(self) -> None:
        while self._unwritten or self._gone:
            written = set(islice(self._unwritten, MARKS_TOGETHER))
            gone = set(islice(self._gone, MARKS_TOGETHER))
            marks = {name: self._entries[name].mark for name in written if name in self._entries}
            try:
                await self._book.write(marks, gone - marks.keys())
                self._write_outage.went_well()
            except BookUnavailable as error:
                self._write_outage.failed("what was done of timers is not written down, and is tried again: %s", error)
                return
            self._marks |= marks
            for name in gone - marks.keys():
                self._marks.pop(name, None)
            self._unwritten -= written
            self._gone -= gone

    async def read(self) -> None:
        """Take what the book says where it is further than what is known. Raises BookUnavailable."""
        self._marks = await self._book.read()
        self._stale = not self._leads
        for name, entry in self._entries.items():
            mark = self._marks.get(name)
            if mark is not None and (entry.guessed or mark.done > entry.done):
                entry.take(mark)
            entry.guessed = False
            entry.look_at = entry.told = -inf


def _submission(name: TimerId, at: float, now: float) -> Submission:
    timer = name.timer
    return Submission(
        queue=queue_of(name.function),
        function=name.function,
        headers=(
            ("X-Connector", CONNECTOR),
            ("X-Topic", CRON_TOPIC),
            ("X-Schedule", timer.expression),
            ("X-Schedule-Time", datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")),
        ),
        due=now,
        idempotency_key=f"{KEY}{timer.expression}|{timer.zone}|{at:.0f}",
    )
