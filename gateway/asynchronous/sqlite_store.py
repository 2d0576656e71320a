"""The store of one machine: `queue.db`, and long bodies as files beside it. Fulfils `store.Store`.

Durable means synced to the disk (WAL, synchronous FULL), whatever happens to the process or to the power. A body of more than
INLINE_BYTES is a file that is synced before the row that names it; a file that no row names is removed when the store opens.

One process at a time has it open, which the lock on the data folder sees to. Writes go through one thread with group commit
(`writer`), reads through others on connections of their own: nothing here waits for the disk on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import msgspec

from gateway.asynchronous import lists, lookups
from gateway.asynchronous.bodies import Bodies
from gateway.asynchronous.calls import INLINE_BYTES, Body, Call, Depth, Lease, Outcome, Receipt, State, Submission
from gateway.asynchronous.ledger import Ledger, Submit, Submitted
from gateway.asynchronous.memory import NEVER, Held
from gateway.asynchronous.reader import Reader
from gateway.asynchronous.rows import NUMBERS, Kept, Stored, encoded_head, encoded_outcome, microseconds
from gateway.asynchronous.schema import MIGRATIONS
from gateway.asynchronous.setback import Setback, look
from gateway.asynchronous.store import Bounds, Keep, StoreUnavailable, unbounded
from gateway.asynchronous.waiters import Waiters
from gateway.asynchronous.writer import Writer

Given = ParamSpec("Given")
Result = TypeVar("Result")

FILE: Final = "queue.db"
FOLDER: Final = "queue-bodies"
NEEDED: Final = (3, 33)
"""The first SQLite with `UPDATE … FROM` (August 2020)."""


def _carried_through(
    change: Callable[Concatenate[SqliteStore, Given], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[SqliteStore, Given], Coroutine[Any, Any, Result]]:
    """Let a change go on to its end when whoever waits for it leaves: it may be kept all the same, and what follows from it
    (who is to be told, files of no more use) is the store's own matter."""

    @functools.wraps(change)
    async def begun(store: SqliteStore, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        return await asyncio.shield(store.begin(change(store, *args, **kwargs)))

    return begun


class _End(msgspec.Struct, frozen=True):
    """The job of `Store.finish`."""

    store: SqliteStore
    lease: Lease
    state: int
    outcome: bytes
    result: Stored
    now: float
    then: Sequence[Kept]

    def __call__(self, connection: sqlite3.Connection) -> list[str] | None:
        return self.store.ledger.finish(connection, self.lease, self.state, self.outcome, self.result, self.now, self.then)

    def told(self, unused: list[str] | None) -> None:
        if unused is not None:
            self.store.ended_call(self.lease, unused)


class SqliteStore:
    """Opens the store in `folder`, which exists. Blocks: make it in a thread. Raises StoreUnavailable.

    To be used from one event loop.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        if sqlite3.sqlite_version_info < NEEDED:
            raise StoreUnavailable(
                f"{self._path} needs SQLite {'.'.join(map(str, NEEDED))} or newer, and this Python has"
                f" {sqlite3.sqlite_version}: use a newer one, or keep calls in Redis (--queue redis://HOST)"
            )
        self._bodies = Bodies(folder / FOLDER)
        self.spool = self._bodies.folder
        self.ledger = ledger = Ledger()
        self._writer = Writer(
            self._path,
            MIGRATIONS,
            begun=ledger.begin,
            before_commit=ledger.write,
            rolled_back=ledger.load,
        )
        self._writer.now(ledger.open)
        self._bodies.keep_only(self._writer.now(ledger.files))
        self._writer.start()
        self._reader = Reader(self._path)
        self._setback = Setback()
        self._bell = asyncio.Event()
        self._waiters = Waiters()
        self.changes: set[asyncio.Task[Any]] = set()
        """What is being changed, whether anybody still waits for it or not."""

    # the contract

    async def submit(
        self, submissions: Sequence[Submission], now: float, bounds: Callable[[str], Bounds] = unbounded
    ) -> list[Receipt]:
        entries = []
        for wanted in submissions:
            if not _short(wanted.body):
                return await self._submit_long(submissions, now, bounds)
            entries.append(_row_of(wanted, now))
        done = await self._writer.run(Submit(self.ledger, entries, now, bounds), gathers=True, then=self._submitted)
        return done.receipts

    @_carried_through
    async def _submit_long(
        self, submissions: Sequence[Submission], now: float, bounds: Callable[[str], Bounds]
    ) -> list[Receipt]:
        entries = await self._kept(submissions, now)
        try:
            done = await self._writer.run(Submit(self.ledger, entries, now, bounds), gathers=True, then=self._submitted)
        except Exception:
            await self._bodies.removed([entry.file for entry in entries if entry.file is not None])
            raise
        await self._bodies.removed(done.unused)
        return done.receipts

    def _submitted(self, done: Submitted) -> None:
        self._bell.set()

    async def take(self, limit: Callable[[str], int], at_most: int, now: float, lease_s: float) -> list[Call]:
        self._bell.clear()
        if at_most <= 0 or not self._any_due(now):
            return []

        def taken(calls: list[Call]) -> None:
            self.ledger.leases.update((call.id, Held(call.takes, now + lease_s)) for call in calls)

        return await self._writer.run(
            lambda connection: lookups.take(self.ledger, connection, limit, at_most, now), durable=False, then=taken
        )

    async def extend(self, lease: Lease, now: float, lease_s: float) -> bool:
        held = self.ledger.leases.get(lease.id)
        if held is None or held.take != lease.take:
            return False
        self.ledger.leases[lease.id] = Held(lease.take, now + lease_s)
        return True

    async def finish(
        self,
        lease: Lease,
        state: State,
        outcome: Outcome,
        now: float,
        *,
        body: bytes | Path = b"",
        then: Sequence[Submission] = (),
    ) -> bool:
        if not _short(body) or (then and not all(_short(wanted.body) for wanted in then)):
            return await self._finish_long(lease, state, outcome, now, body, then)
        assert isinstance(body, bytes)
        entries = [_row_of(wanted, now) for wanted in then] if then else ()  # mostly nothing follows: half a microsecond
        unused = await self._end(lease, state, outcome, (len(body), body, None), now, entries)
        return unused is not None

    @_carried_through
    async def _finish_long(
        self,
        lease: Lease,
        state: State,
        outcome: Outcome,
        now: float,
        body: bytes | Path,
        then: Sequence[Submission],
    ) -> bool:
        own = [given.name for given in (body, *(wanted.body for wanted in then)) if isinstance(given, Path)]
        try:
            result = await self._bodies.stored(body)
            own += [result[2]] if result[2] is not None else []
            entries = await self._kept(then, now)
            own += [entry.file for entry in entries if entry.file is not None]
            unused = await self._end(lease, state, outcome, result, now, entries)
        except Exception:
            await self._bodies.removed(own)
            raise
        if unused is None:
            await self._bodies.removed(own)
        return unused is not None

    def _end(
        self, lease: Lease, state: State, outcome: Outcome, result: Stored, now: float, then: Sequence[Kept]
    ) -> asyncio.Future[list[str] | None]:
        """End a call whose files are where they belong; None when the lease is not held."""
        end = _End(self, lease, NUMBERS[state], encoded_outcome(outcome), result, now, then)
        return self._writer.run(end, gathers=True, then=end.told)

    def begin(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Let something go on that the store's end waits for."""
        task = asyncio.create_task(work)
        self.changes.add(task)
        task.add_done_callback(self.changes.discard)
        return task

    def ended_call(self, lease: Lease, unused: Sequence[str]) -> None:
        """A call has ended: those who wait for that are told, and files that are of no more use are removed."""
        self._let_go(lease)
        self._waiters.over((lease.id,))
        if unused:
            self.begin(self._bodies.removed(unused))

    async def retry(self, lease: Lease, due: float, outcome: Outcome, now: float) -> bool:
        told = encoded_outcome(outcome)

        def waits(held: bool) -> None:
            if held:
                self._let_go(lease)

        return await self._writer.run(lambda _: self.ledger.retry(lease, due, told), gathers=True, then=waits)

    async def release(self, leases: Sequence[Lease], now: float) -> None:
        def wait(_: None) -> None:
            for lease in leases:
                self._let_go(lease)

        await self._writer.run(
            lambda connection: self.ledger.release(connection, leases, now), gathers=True, durable=False, then=wait
        )

    @_carried_through
    async def cancel(self, call_id: str, now: float, *, then: Sequence[Submission] = ()) -> State | None:
        entries = [_row_of(wanted, now) for wanted in then]
        found = await self._writer.run(lambda connection: lookups.cancel(self.ledger, connection, call_id, now, entries))
        if found is None:
            return None
        state, unused = found
        if not state.ended:
            self.ledger.leases.pop(call_id, None)
            self._bell.set()
            self._waiters.over((call_id,))
        await self._bodies.removed(unused)
        return state

    @_carried_through
    async def replay(self, call_id: str, now: float) -> State | None:
        found = await self._writer.run(lambda connection: lookups.replay(self.ledger, connection, call_id, now))
        if found is None:
            return None
        self._bell.set()
        await self._bodies.removed(found[1])
        return found[0]

    @_carried_through
    async def replay_all(self, queue: str, now: float, at_most: int = 1000) -> int:
        count, unused = await self._writer.run(
            lambda connection: lookups.replay_all(self.ledger, connection, queue, now, at_most)
        )
        self._bell.set()
        await self._bodies.removed(unused)
        return count

    async def get(self, call_id: str) -> Call | None:
        return await self._reader.run(lambda connection: lists.one(connection, self.ledger.queues, call_id))

    async def ended(self, call_id: str, timeout_s: float) -> Call | None:
        with self._waiters.waiting(call_id) as event:
            call = await self.get(call_id)
            if call is None or call.state.ended or timeout_s <= 0:
                return call
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await event.wait()
            return await self.get(call_id)

    async def page(
        self, queue: str | None = None, states: Sequence[State] = (), limit: int = 100, before: str = ""
    ) -> list[Call]:
        numbers = [NUMBERS[state] for state in states]
        ledger = self.ledger
        chosen = None if queue is None else [ledger.names[queue].number] if queue in ledger.names else []
        return await self._reader.run(lambda connection: lists.page(connection, ledger.queues, chosen, numbers, limit, before))

    async def depths(self, now: float) -> Mapping[str, Depth]:
        queues = [q for q in list(self.ledger.queues.values()) if q.waiting or q.running or q.dead]
        by = microseconds(now)
        late = [q.number for q in queues if q.waiting and q.first_due <= by]
        found = await self._reader.run(lambda c: {number: lists.lateness(c, number, by) for number in late}) if late else {}
        return {q.name: Depth(q.waiting, q.running, q.dead, q.bytes, *found.get(q.number, (0.0, 0))) for q in queues}

    @_carried_through
    async def sweep(self, now: float, keep: Keep) -> bool:
        overdue = [Lease(call_id, held.take) for call_id, held in self.ledger.leases.items() if held.until <= now]
        if overdue:
            await self._writer.run(
                lambda connection: self.ledger.end_leases(connection, overdue, now), gathers=True, durable=False
            )
            for lease in overdue:
                self._let_go(lease)
        more, unused = await self._writer.run(
            lambda connection: lookups.forget(self.ledger, connection, now, keep), durable=False
        )
        await self._bodies.removed(unused)
        return await self._look_ahead(now) or more

    async def _look_ahead(self, now: float) -> bool:
        """Look for what a clock that was set back would delay; True when there is more to look at."""
        setback = self._setback
        setback.saw(now)
        if (place := setback.place) is None:
            return False
        setback.place = await self._writer.run(lambda connection: look(self.ledger, connection, place, now), durable=False)
        self._bell.set()
        return setback.place is not None

    async def changed(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._bell.wait()

    async def next_due(self) -> float | None:
        first = min((q.first_due for q in list(self.ledger.queues.values()) if q.waiting), default=NEVER)
        return None if first == NEVER else first / 1e6

    def chunks(self, body: Body) -> AsyncIterator[bytes]:
        return self._bodies.chunks(body)

    async def close(self) -> None:
        while self.changes:
            await asyncio.wait(self.changes)
        await asyncio.to_thread(self.shut)

    def shut(self) -> None:
        """Close; blocks."""
        self._writer.close()
        self._reader.close()

    # inside

    def _any_due(self, now: float) -> bool:
        by = microseconds(now)
        return any(q.waiting and q.first_due <= by for q in self.ledger.queues.copy().values())

    def _let_go(self, lease: Lease) -> None:
        """The lease is over: there is room in the call's queue, or the call itself waits there."""
        held = self.ledger.leases.get(lease.id)
        if held is not None and held.take == lease.take:
            del self.ledger.leases[lease.id]
        self._bell.set()

    async def _kept(self, submissions: Sequence[Submission], now: float) -> list[Kept]:
        """Make rows of submissions, their files synced."""
        entries: list[Kept] = []
        try:
            for wanted in submissions:
                length, data, file = await self._bodies.stored(wanted.body)
                head = encoded_head(wanted, now)
                entries.append(Kept(wanted, head, length + len(head), data, file))
        except Exception:
            files = [entry.file for entry in entries if entry.file is not None]
            files += [wanted.body.name for wanted in submissions[len(entries) :] if isinstance(wanted.body, Path)]
            await self._bodies.removed(files)
            raise
        return entries


def _short(body: bytes | Path) -> bool:
    """Whether a body is part of its call's row, so that no file is waited for."""
    return isinstance(body, bytes) and len(body) <= INLINE_BYTES


def _row_of(wanted: Submission, now: float) -> Kept:
    """Return a submission whose body is short as its row has it."""
    assert isinstance(wanted.body, bytes)
    head = encoded_head(wanted, now)
    return Kept(wanted, head, len(wanted.body) + len(head), wanted.body, None)
