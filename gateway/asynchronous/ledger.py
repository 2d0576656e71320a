"""What `queue.db` says, and the counts of each queue in memory: the jobs of `sqlite_store`, all run by its writer's thread.

Most jobs work on what is in memory, and what they change is written for all of a batch at once (`gathered`). Jobs that look for
rows (`take`, `cancel`, `replay`, `forget`) come after those and find everything written.

Counts are kept beside the rows, one row a queue: so nothing is ever counted by reading calls, with a million of them waiting as
with none. Leases are only in memory: one process has the file open, and when it ended, nobody carries anything out any more.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import msgspec

from gateway.asynchronous.calls import Call, Lease, Receipt, State, new_id
from gateway.asynchronous.forgetting import forget
from gateway.asynchronous.gathered import Back, Ended, Gathered, New, log_ends
from gateway.asynchronous.groups import seqs, seqs_of
from gateway.asynchronous.known import Known
from gateway.asynchronous.memory import NEVER, Held, Queue, Running, Taken
from gateway.asynchronous.rows import (
    CANCELLED,
    DEAD,
    DUE_CALLS,
    KEPT_BYTES,
    STATES,
    WAITING,
    Kept,
    Stored,
    kept_bytes,
    microseconds,
    taken_call,
    unexpiring,
)
from gateway.asynchronous.store import Bounds, Keep, QueueFull
from gateway.asynchronous.turns import deal, interleaved


class Submitted(msgspec.Struct, frozen=True):
    receipts: list[Receipt]
    unused: list[str]
    """Files of repeated submissions."""


class Submit:
    """The job of `Store.submit`; without `bounds` nothing is refused."""

    __slots__ = ("bounds", "entries", "ledger", "now")

    def __init__(self, ledger: Ledger, entries: Sequence[Kept], now: float, bounds: Callable[[str], Bounds] | None) -> None:
        self.ledger, self.entries, self.now, self.bounds = ledger, entries, now, bounds

    def __call__(self, connection: sqlite3.Connection) -> Submitted:
        return self.ledger.submit(connection, self.entries, self.now, self.bounds)


class Ledger:
    """`queues` by number, in the order in which they were served last, the longest ago first."""

    def __init__(self) -> None:
        self.queues: OrderedDict[int, Queue] = OrderedDict()
        self.names: dict[str, Queue] = {}
        self.leases: dict[str, Held] = {}
        self._running: dict[str, Running] = {}
        self._gathered = Gathered()
        self._known = Known()
        self._next = 1
        """The number of the next call; none is given twice while the file is open, since `takes` and `ends` name them."""
        self._takes = 0

    # batches

    def open(self, connection: sqlite3.Connection) -> None:
        """Take up what the file says: what ran when the last process ended waits again."""
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM queues WHERE NOT EXISTS (SELECT 1 FROM calls WHERE queue = number)")
        self.load(connection)
        for running in self._running.values():
            self._back(running, running.due, running.attempts)
        self._running.clear()
        self.write(connection)
        connection.execute("COMMIT")

    def load(self, connection: sqlite3.Connection) -> None:
        """Read the counts and what runs, forgetting those in memory."""
        self._gathered.drop()
        known = list(self.queues)
        rows = {
            row[0]: row for row in connection.execute("SELECT number, name, waiting, running, dead, bytes, kept FROM queues")
        }
        order = [number for number in known if number in rows] + [number for number in rows if number not in self.queues]
        self.queues = OrderedDict((number, Queue(*rows[number])) for number in order)
        self.names = {queue.name: queue for queue in self.queues.values()}
        (last,) = connection.execute("SELECT ifnull(max(seq), 0) FROM calls").fetchone()
        self._next = max(self._next, last + 1)
        self._running = {}
        for number, packed in connection.execute("SELECT number, calls FROM takes").fetchall():
            self._takes = max(self._takes, number)
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
                    self._running[call_id] = Running(
                        seq, self.queues[queue], due, attempts + 1, take, head_size, body_size, body_file, taken
                    )
            if not taken.running:
                self._gathered.settled.append(number)

    def begin(self, connection: sqlite3.Connection, jobs: Sequence[object]) -> None:
        """Look for the ids and keys that the jobs of a batch ask about."""
        self._known.clear()
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
            self._known.look(connection, ids, keys)

    def write(self, connection: sqlite3.Connection) -> None:
        """Write what was gathered."""
        self._gathered.write(connection)

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
            if not call_id or call_id in ids or self._known.has(connection, call_id):
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
        if not call_id or self._known.has(connection, call_id):
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
        self._gathered.ended.append(
            Ended(
                running.seq,
                state,
                microseconds(now),
                running.attempts,
                running.take,
                outcome,
                length,
                data or b"",
                file,
                body_file is not None,
            )
        )
        del self._running[lease.id]
        self._settle(running.taken)
        queue.running -= 1
        queue.bytes -= head_size + body_size
        queue.kept += kept_bytes(state, head_size, len(outcome), body_size, length)
        queue.dead += state == DEAD
        self._gathered.touched.add(queue)
        if then:
            self.submit(connection, then, now, None)
        return [body_file] if body_file is not None and state != DEAD else []

    def retry(self, lease: Lease, due: float, outcome: bytes) -> bool:
        """See `Store.retry`."""
        running = self._leased(lease)
        if running is None:
            return False
        del self._running[lease.id]
        self._back(running, microseconds(due), running.attempts, outcome)
        return True

    def release(self, leases: Iterable[Lease]) -> None:
        """See `Store.release`."""
        for lease in leases:
            if (running := self._leased(lease)) is not None:
                del self._running[lease.id]
                self._back(running, running.due, running.attempts - 1)

    def end_leases(self, overdue: Iterable[Lease], now: float) -> None:
        """Let calls whose leases are over wait again."""
        for lease in overdue:
            if (running := self._leased(lease)) is not None:
                del self._running[lease.id]
                self._back(running, microseconds(now), running.attempts)

    # jobs that look for rows

    def take(self, connection: sqlite3.Connection, limit: Callable[[str], int], at_most: int, now: float) -> list[Call]:
        """See `Store.take`."""
        self.write(connection)
        by = microseconds(now)
        room = {
            queue: free
            for queue in self.queues.values()
            if queue.waiting and queue.first_due <= by and (free := limit(queue.name) - queue.running) > 0
        }
        taken: dict[Queue, list[Call]] = {}
        left = at_most
        while room and left > 0:
            for queue, wanted in deal(room, left):
                calls = self._take_of(connection, queue, wanted, by)
                taken.setdefault(queue, []).extend(calls)
                left -= len(calls)
                free = room.pop(queue) - len(calls)
                if free and queue.first_due <= by:
                    room[queue] = free  # behind the others: one of them may have had nothing to give after all
        return interleaved(list(taken.values()))

    def cancel(
        self, connection: sqlite3.Connection, call_id: str, now: float, then: Sequence[Kept]
    ) -> tuple[State, list[str]] | None:
        """Return the state before and the files that are of no more use. See `Store.cancel`."""
        self.write(connection)
        row = connection.execute(
            "SELECT seq, queue, state, due, attempts, takes, length(head), ifnull(length(outcome), 0), body_size, body_file"
            " FROM calls WHERE id = ?",
            (call_id,),
        ).fetchone()
        if row is None:
            return None
        seq, number, state, due, attempts, takes, head_size, outcome_size, body_size, body_file = row
        if state != WAITING:
            return STATES[state], []
        queue = self.queues[number]
        running = self._running.pop(call_id, None)
        if running is not None:
            attempts, takes = running.attempts, running.take
            queue.running -= 1
            self._settle(running.taken)
        else:
            connection.execute("DELETE FROM waiting WHERE queue = ? AND due = ? AND seq = ?", (number, due, seq))
            queue.waiting -= 1
        at = microseconds(now)
        connection.execute(
            "UPDATE calls SET state = ?, ended = ?, attempts = ?, takes = ?, body = NULL, body_file = NULL WHERE seq = ?",
            (CANCELLED, at, attempts, takes, seq),
        )
        log_ends(connection, CANCELLED, at, [seq])
        queue.bytes -= head_size + body_size
        queue.kept += kept_bytes(CANCELLED, head_size, outcome_size, body_size, 0)
        self._gathered.touched.add(queue)
        if then:
            self.submit(connection, then, now, None)
        return State.RUNNING if running is not None else State.WAITING, [body_file] if body_file is not None else []

    def replay(self, connection: sqlite3.Connection, call_id: str, now: float) -> tuple[State, list[str]] | None:
        """Return the state before and the files that are of no more use. See `Store.replay`."""
        self.write(connection)
        row = connection.execute("SELECT seq, state FROM calls WHERE id = ?", (call_id,)).fetchone()
        if row is None:
            return None
        seq, state = row
        if state == DEAD:
            return State.DEAD, self._replay(connection, [seq], now)
        return State.RUNNING if call_id in self._running else STATES[state], []

    def replay_all(self, connection: sqlite3.Connection, name: str, now: float, at_most: int) -> tuple[int, list[str]]:
        """Return how many, and the files that are of no more use. See `Store.replay_all`."""
        self.write(connection)
        queue = self.names.get(name)
        if queue is None or not queue.dead:
            return 0, []
        rows = connection.execute(
            "SELECT seq FROM calls WHERE queue = ? AND state = 3 ORDER BY seq LIMIT ?", (queue.number, at_most)
        ).fetchall()
        return len(rows), self._replay(connection, [seq for (seq,) in rows], now)

    def forget(self, connection: sqlite3.Connection, now: float, keep: Keep) -> tuple[bool, list[str]]:
        """Delete ended calls whose time is over, and the oldest ones where they take too much space, a bounded number of them.
        Returns whether there may be more, and the files that are of no more use."""
        self.write(connection)
        kept = sum(queue.kept for queue in self.queues.values())
        gone = forget(connection, now, keep, kept)
        for number, size, dead in gone.counts:
            queue = self.queues[number]
            queue.kept -= size
            queue.dead -= dead
            self._gathered.touched.add(queue)
        self._known.clear()
        return gone.more, gone.files

    @staticmethod
    def files(connection: sqlite3.Connection) -> set[str]:
        """Return the files that rows name."""
        rows = connection.execute(
            "SELECT body_file, result_file FROM calls WHERE body_file IS NOT NULL OR result_file IS NOT NULL"
        )
        return {name for row in rows for name in row if name is not None}

    # inside

    def _queue(self, connection: sqlite3.Connection, name: str) -> Queue:
        queue = self.names.get(name)
        if queue is None:
            number = connection.execute("INSERT INTO queues (name) VALUES (?)", (name,)).lastrowid
            assert number is not None
            queue = self.names[name] = self.queues[number] = Queue(number, name, 0, 0, 0, 0, 0)
        return queue

    def _keyed(self, connection: sqlite3.Connection, name: str, key: str) -> str:
        """Return the id of the call of a queue that has this key, or nothing."""
        queue = self.names.get(name)
        return self._known.keyed(connection, queue.number, key) if queue is not None else ""

    def _check_bounds(self, name: str, calls: int, size: int, most: Bounds) -> None:
        """Raise QueueFull where so many more calls, of so many bytes, are too many for a queue."""
        queue = self.names.get(name)
        waiting, held = (queue.waiting, queue.bytes) if queue is not None else (0, 0)
        if waiting + calls > most.calls:
            raise QueueFull(f"{waiting} calls of {name} wait already; at most {most.calls} may")
        if held + size > most.bytes:
            raise QueueFull(f"calls of {name} hold {held} bytes already; at most {most.bytes} may wait")

    def _add(self, connection: sqlite3.Connection, entry: Kept, call_id: str, now: float) -> None:
        wanted, head, size = entry.submission, entry.head, entry.size
        queue = self._queue(connection, wanted.queue)
        due = microseconds(max(wanted.due, now))
        key = wanted.idempotency_key
        self._gathered.new.append(
            New(self._next, call_id, queue.number, due, key, head, size - len(head), entry.data or b"", entry.file)
        )
        self._next += 1
        if key or wanted.id:
            self._known.add(call_id, queue.number, key)
        queue.waiting += 1
        queue.bytes += size
        if due < queue.first_due:
            queue.first_due = due
        self._gathered.touched.add(queue)

    def _take_of(self, connection: sqlite3.Connection, queue: Queue, at_most: int, by: int) -> list[Call]:
        rows = connection.execute(DUE_CALLS, (queue.number, by, at_most)).fetchall()
        self.queues.move_to_end(queue.number)
        if not rows:
            queue.first_due = self.first_due(connection, queue.number)
            return []
        last, due = rows[-1][:2]
        connection.execute("DELETE FROM waiting WHERE queue = ? AND (due, seq) <= (?, ?)", (queue.number, due, last))
        self._takes += 1
        taken = Taken(self._takes, len(rows))
        connection.execute(
            "INSERT INTO takes (number, calls) VALUES (?, ?)",
            (taken.number, seqs([number for row in rows for number in (row[0], row[4] + 1)])),
        )
        calls = []
        for row in rows:
            seq, due, call_id, attempts, takes, _, head, _, body_size, _, body_file = row
            self._running[call_id] = Running(seq, queue, due, attempts + 1, takes + 1, len(head), body_size, body_file, taken)
            calls.append(taken_call(row, queue.name))
        queue.waiting -= len(calls)
        queue.running += len(calls)
        # Where fewer came than were asked for, the next one is due later; else what was taken last is near enough.
        queue.first_due = due if len(rows) == at_most else self.first_due(connection, queue.number)
        self._gathered.touched.add(queue)
        return calls

    @staticmethod
    def first_due(connection: sqlite3.Connection, number: int) -> int:
        """Return when the first waiting call of a queue is due; NEVER when none waits."""
        (first,) = connection.execute("SELECT min(due) FROM waiting WHERE queue = ?", (number,)).fetchone()
        return NEVER if first is None else int(first)

    def _leased(self, lease: Lease) -> Running | None:
        """Return the call that runs under this lease."""
        running = self._running.get(lease.id)
        return running if running is not None and running.take == lease.take else None

    def _settle(self, taken: Taken) -> None:
        """One of what was taken together runs no more; the row says so from now on."""
        taken.running -= 1
        if not taken.running:
            self._gathered.settled.append(taken.number)

    def _back(self, running: Running, due: int, attempts: int, outcome: bytes = b"") -> None:
        """A call that ran waits again."""
        queue = running.queue
        self._gathered.back.append(Back(running.seq, queue.number, due, attempts, running.take, outcome))
        self._settle(running.taken)
        queue.running -= 1
        queue.waiting += 1
        if due < queue.first_due:
            queue.first_due = due
        self._gathered.touched.add(queue)

    def _replay(self, connection: sqlite3.Connection, numbers: Sequence[int], now: float) -> list[str]:
        files = []
        due = microseconds(now)
        for seq in numbers:
            number, head, kept, body_size, result_file = connection.execute(
                f"SELECT queue, head, {KEPT_BYTES}, body_size, result_file FROM calls WHERE seq = ?", (seq,)
            ).fetchone()
            connection.execute(
                "UPDATE calls SET state = 0, due = ?, head = ?, ended = NULL, attempts = 0, result_size = 0, result = NULL,"
                " result_file = NULL WHERE seq = ?",
                (due, unexpiring(head), seq),
            )
            connection.execute("INSERT INTO waiting (queue, due, seq) VALUES (?, ?, ?)", (number, due, seq))
            queue = self.queues[number]
            queue.dead -= 1
            queue.kept -= kept
            queue.waiting += 1
            queue.bytes += len(head) + body_size
            queue.first_due = min(queue.first_due, due)
            self._gathered.touched.add(queue)
            if result_file is not None:
                files.append(result_file)
        return files
