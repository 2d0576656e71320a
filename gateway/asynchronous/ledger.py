"""What `queue.db` says, and the counts of each queue in memory: the jobs of `sqlite_store`, all run by its writer's thread.

Most jobs work on what is in memory, and what they change is written for all of a batch at once (`gathered`). Jobs that look for
rows (`lookups`) come before those of their batch.

Counts are kept beside the rows, one row a queue: so nothing is ever counted by reading calls, with a million of them waiting as
with none. Leases are only in memory: one process has the file open, and when it ended, nobody carries anything out any more.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import msgspec

from gateway.asynchronous.calls import Lease, Receipt, new_id
from gateway.asynchronous.gathered import Gathered, prepare
from gateway.asynchronous.groups import seqs_of
from gateway.asynchronous.known import Known
from gateway.asynchronous.memory import Held, Queue, Running, Taken
from gateway.asynchronous.rows import (
    DEAD,
    Kept,
    Stored,
    kept_bytes,
    microseconds,
)
from gateway.asynchronous.store import Bounds, QueueFull


class Submitted(msgspec.Struct, frozen=True):
    receipts: list[Receipt]
    unused: list[str]
    """Files of repeated submissions."""


class Submit(msgspec.Struct, frozen=True):
    """The job of `Store.submit`; without `bounds` nothing is refused."""

    ledger: Ledger
    entries: Sequence[Kept]
    now: float
    bounds: Callable[[str], Bounds] | None

    def __call__(self, connection: sqlite3.Connection) -> Submitted:
        return self.ledger.submit(connection, self.entries, self.now, self.bounds)


class Ledger:
    """`queues` by number, in the order in which they were served last, the longest ago first."""

    def __init__(self) -> None:
        self.queues: OrderedDict[int, Queue] = OrderedDict()
        self.names: dict[str, Queue] = {}
        self.leases: dict[str, Held] = {}
        self.running: dict[str, Running] = {}
        self.gathered = Gathered()
        self.known = Known()
        self._next = 1
        """The number of the next call; none is given twice while the file is open, since `takes` and `ends` name them."""
        self._queues = 0
        """The number of the last queue."""
        self.takes = 0
        """The number of the last record of what was taken."""

    # batches

    def open(self, connection: sqlite3.Connection) -> None:
        """Take up what the file says: what ran when the last process ended waits again."""
        prepare(connection)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM queues WHERE NOT EXISTS (SELECT 1 FROM calls WHERE queue = number)")
        self.load(connection)
        for running in self.running.values():
            self._back(running, running.due, running.attempts)
            if self.gathered.full:
                self.flush(connection)
        self.running.clear()
        self.write(connection)
        connection.execute("COMMIT")

    def load(self, connection: sqlite3.Connection) -> None:
        """Read the counts and what runs, forgetting those in memory."""
        self.gathered.drop()
        self.known.clear()
        known = list(self.queues)
        rows = {
            row[0]: row for row in connection.execute("SELECT number, name, waiting, running, dead, bytes, kept FROM queues")
        }
        order = [number for number in known if number in rows] + [number for number in rows if number not in self.queues]
        self.queues = OrderedDict((number, Queue(*rows[number])) for number in order)
        self.names = {queue.name: queue for queue in self.queues.values()}
        self._queues = max(self._queues, *rows, 0)
        (last,) = connection.execute("SELECT ifnull(max(seq), 0) FROM calls").fetchone()
        self._next = max(self._next, last + 1)
        self.running = {}
        for number, packed in connection.execute("SELECT number, calls FROM takes").fetchall():
            self.takes = max(self.takes, number)
            taken = Taken(number, 0)
            numbers = seqs_of(packed)
            for seq, take in zip(numbers[::2], numbers[1::2], strict=True):
                row = connection.execute(
                    "SELECT id, queue, due, attempts, length(head), body_size, body_file FROM calls"
                    " WHERE seq = ? AND state = 0 AND takes < ?",
                    (seq, take),
                ).fetchone()
                if row is not None:
                    call_id, queue, due, attempts, head_size, body_size, body_file = row
                    taken.running += 1
                    self.running[call_id] = Running(
                        seq, self.queues[queue], due, attempts + 1, take, head_size, body_size, body_file, taken
                    )
            if not taken.running:
                self.gathered.settled.append(number)

    def begin(self, connection: sqlite3.Connection, jobs: Sequence[object]) -> None:
        """Look for the ids and keys that jobs of a batch ask about: those that gather, before the first of them."""
        self.known.clear()
        ids: list[str] = []
        keys: list[tuple[int, str]] = []
        for job in jobs:
            if type(job) is Submit:
                for entry in job.entries:
                    wanted = entry.submission
                    if wanted.id:
                        ids.append(wanted.id)
                    if wanted.idempotency_key and (queue := self.names.get(wanted.queue)) is not None:
                        keys.append((queue.number, wanted.idempotency_key))
        if ids or keys:
            self.known.look(connection, ids, keys)

    def write(self, connection: sqlite3.Connection) -> None:
        """Write what was gathered, at the end of a batch."""
        self.gathered.write(connection)

    def flush(self, connection: sqlite3.Connection) -> None:
        """Write what was gathered before the batch ends."""
        if self.gathered.any:
            if not connection.in_transaction:
                connection.execute("BEGIN IMMEDIATE")
            self.gathered.write(connection)

    # jobs that work in memory

    def submit(
        self, connection: sqlite3.Connection, entries: Sequence[Kept], now: float, bounds: Callable[[str], Bounds] | None
    ) -> Submitted:
        """Add calls; see `Store.submit`. Without `bounds` nothing is refused."""
        if len(entries) == 1:
            return self._submit_one(connection, entries[0], now, bounds)
        receipts: list[Receipt] = []
        unused: list[str] = []
        fresh: list[tuple[Kept, str]] = []
        keys: dict[tuple[str, str], str] = {}
        ids: set[str] = set()
        for entry in entries:
            wanted = entry.submission
            call_id, key = wanted.id, wanted.idempotency_key
            if key:
                known = self._keyed(connection, wanted.queue, key) or keys.get((wanted.queue, key), "")
                if known:
                    receipts.append(Receipt(known, repeated=True))
                    if entry.file is not None:
                        unused.append(entry.file)
                    continue
            if not call_id or call_id in ids or self.known.has(connection, call_id):
                call_id = new_id(now)
            if key:
                keys[wanted.queue, key] = call_id
            ids.add(call_id)
            fresh.append((entry, call_id))
            receipts.append(Receipt(call_id))
        if bounds is not None:
            of_queues: dict[str, list[Kept]] = {}
            for entry, _ in fresh:
                of_queues.setdefault(entry.submission.queue, []).append(entry)
            for name, kept in of_queues.items():
                self._check_bounds(name, len(kept), sum(entry.size for entry in kept), bounds(name))
        for entry, call_id in fresh:
            self._add(connection, entry, call_id, now)
        return Submitted(receipts, unused)

    def _submit_one(
        self, connection: sqlite3.Connection, entry: Kept, now: float, bounds: Callable[[str], Bounds] | None
    ) -> Submitted:
        """Do what `submit` does, at half the cost of many."""
        wanted = entry.submission
        name, call_id, key = wanted.queue, wanted.id, wanted.idempotency_key
        if key and (known := self._keyed(connection, name, key)):
            return Submitted([Receipt(known, repeated=True)], [entry.file] if entry.file is not None else [])
        if bounds is not None:
            self._check_bounds(name, 1, entry.size, bounds(name))
        if not call_id or self.known.has(connection, call_id):
            call_id = new_id(now)
        self._add(connection, entry, call_id, now)
        return Submitted([Receipt(call_id)], [])

    def finish(
        self,
        connection: sqlite3.Connection,
        lease: Lease,
        state: int,
        outcome: bytes,
        result: Stored,
        now: float,
        then: Sequence[Kept],
    ) -> list[str] | None:
        """Return the files that are of no more use; None when the lease is not held. See `Store.finish`."""
        running = self._leased(lease)
        if running is None:
            return None
        queue, head_size, body_size, body_file = running.queue, running.head_size, running.body_size, running.body_file
        length, data, file = result
        self.gathered.ended(running, state, microseconds(now), outcome, length, data or b"", file)
        del self.running[lease.id]
        self.settle(running.taken)
        queue.running -= 1
        queue.bytes -= head_size + body_size
        queue.kept += kept_bytes(state, head_size, len(outcome), body_size, length)
        queue.dead += state == DEAD
        self.gathered.touched.add(queue)
        if then:
            self.submit(connection, then, now, None)
        return [body_file] if body_file is not None and state != DEAD else []

    def retry(self, lease: Lease, due: float, outcome: bytes) -> bool:
        """See `Store.retry`."""
        running = self._leased(lease)
        if running is None:
            return False
        del self.running[lease.id]
        self._back(running, microseconds(due), running.attempts, outcome)
        return True

    def release(self, connection: sqlite3.Connection, leases: Iterable[Lease], now: float) -> None:
        """See `Store.release`."""
        by = microseconds(now)
        for lease in leases:
            if (running := self._leased(lease)) is not None:
                del self.running[lease.id]
                self._back(running, min(running.due, by), running.attempts - 1)  # the clock may have been set back
                if self.gathered.full:
                    self.flush(connection)

    def end_leases(self, connection: sqlite3.Connection, overdue: Iterable[Lease], now: float) -> None:
        """Let calls whose leases are over wait again."""
        for lease in overdue:
            if (running := self._leased(lease)) is not None:
                del self.running[lease.id]
                self._back(running, microseconds(now), running.attempts)
                if self.gathered.full:
                    self.flush(connection)

    @staticmethod
    def files(connection: sqlite3.Connection) -> set[str]:
        """Return the files that rows name."""
        rows = connection.execute(
            "SELECT body_file, result_file FROM calls WHERE body_file IS NOT NULL OR result_file IS NOT NULL"
        )
        return {name for row in rows for name in row if name is not None}

    # inside

    def _begun(self, name: str) -> Queue:
        """Return a queue that is new."""
        self._queues += 1
        queue = self.names[name] = self.queues[self._queues] = Queue(self._queues, name, 0, 0, 0, 0, 0)
        return queue

    def _keyed(self, connection: sqlite3.Connection, name: str, key: str) -> str:
        """Return the id of the call of a queue that has this key, or nothing."""
        queue = self.names.get(name)
        return self.known.keyed(connection, queue.number, key) if queue is not None else ""

    def _check_bounds(self, name: str, calls: int, size: int, most: Bounds) -> None:
        """Raise QueueFull where so many more calls, of so many bytes, are too many for a queue."""
        queue = self.names.get(name)
        waiting, held = (queue.waiting, queue.bytes) if queue is not None else (0, 0)
        if waiting + calls > most.calls:
            raise QueueFull.of_calls(name, waiting, most)
        if held + size > most.bytes:
            raise QueueFull.of_bytes(name, held, most)

    def _add(self, connection: sqlite3.Connection, entry: Kept, call_id: str, now: float) -> None:
        wanted = entry.submission
        queue = self.names.get(wanted.queue) or self._begun(wanted.queue)
        due = microseconds(max(wanted.due, now))
        gathered = self.gathered
        gathered.new(self._next, call_id, queue.number, due, entry)
        gathered.touched.add(queue)
        self._next += 1
        if wanted.id or wanted.idempotency_key:
            self.known.add(call_id, queue.number, wanted.idempotency_key)
        queue.waiting += 1
        queue.bytes += entry.size
        if due < queue.first_due:
            queue.first_due = due
        if gathered.full:
            self.flush(connection)

    def _leased(self, lease: Lease) -> Running | None:
        """Return the call that runs under this lease."""
        running = self.running.get(lease.id)
        return running if running is not None and running.take == lease.take else None

    def settle(self, taken: Taken) -> None:
        """One of what was taken together runs no more; the row says so from now on."""
        taken.running -= 1
        if not taken.running:
            self.gathered.settled.append(taken.number)

    def _back(self, running: Running, due: int, attempts: int, outcome: bytes = b"") -> None:
        """A call that ran waits again."""
        queue = running.queue
        self.gathered.back(running, due, attempts, outcome)
        self.settle(running.taken)
        queue.running -= 1
        queue.waiting += 1
        if due < queue.first_due:
            queue.first_due = due
        self.gathered.touched.add(queue)
