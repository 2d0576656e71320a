"""What `queue.db` says, and the counts of each queue in memory: the jobs of `sqlite_store`, all run by its writer's thread.

A row is a call. Counts are kept beside the rows, one row a queue, written with every batch that changed them: so nothing is
ever counted by reading calls, with a million of them waiting as with none. Leases are only in memory: one process has the file
open, and when it ended, nobody carries anything out any more.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from gateway.asynchronous.calls import DUE_COUNTED, Call, Lease, Receipt, State, Submission, new_id
from gateway.asynchronous.memory import Held, Queue, Running
from gateway.asynchronous.rows import CALL, CANCELLED, DEAD, NEVER, RUNNING, STATES, SUCCEEDED, Kept, call_of
from gateway.asynchronous.store import Bounds, Keep, QueueFull
from gateway.asynchronous.turns import deal, interleaved

SWEPT_AT_ONCE: Final = 500
ROW_BYTES: Final = 256
"""What a call takes in the file and its indexes besides its request, bodies and outcome."""
_ENDED: Final = "UPDATE calls SET state = ?, ended = ?, outcome = ?, result_size = ?, result = ?, result_file = ?, size = ?"
_DIED: Final = f"{_ENDED} WHERE seq = ?"
_SUCCEEDED: Final = f"{_ENDED}, body = NULL, body_file = NULL WHERE seq = ?"  # only a dead call is ever carried out again


class Submitted(NamedTuple):
    receipts: list[Receipt]
    unused: list[str]
    """Files of repeated submissions."""


class Ledger:
    """`queues` by number, in the order in which they were served last, the longest ago first."""

    def __init__(self) -> None:
        self.queues: OrderedDict[int, Queue] = OrderedDict()
        self.names: dict[str, Queue] = {}
        self.leases: dict[str, Held] = {}
        self._running: dict[str, Running] = {}
        self._touched: set[Queue] = set()

    # batches

    def open(self, connection: sqlite3.Connection) -> None:
        """Take up what the file says: what ran when the last process ended waits again."""
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM queues WHERE NOT EXISTS (SELECT 1 FROM calls WHERE queue = number)")
        self.load(connection)
        for queue in self.queues.values():
            if queue.running:
                connection.execute("UPDATE calls SET state = 0 WHERE queue = ? AND state = 1", (queue.number,))
                queue.waiting += queue.running
                queue.running = 0
                queue.first_due = 0.0
                self._touched.add(queue)
        self._running.clear()
        self.write(connection)
        connection.execute("COMMIT")

    def load(self, connection: sqlite3.Connection) -> None:
        """Read the counts and what runs, forgetting those in memory."""
        self._touched.clear()
        known = list(self.queues)
        rows = {
            row[0]: row for row in connection.execute("SELECT number, name, waiting, running, dead, bytes, kept FROM queues")
        }
        order = [number for number in known if number in rows] + [number for number in rows if number not in self.queues]
        self.queues = OrderedDict((number, Queue(*rows[number])) for number in order)
        self.names = {queue.name: queue for queue in self.queues.values()}
        self._running = {
            row[0]: Running(*row[1:])
            for queue in self.queues.values()
            if queue.running
            for row in connection.execute(
                "SELECT id, takes, seq, queue, size, body_size, body_file FROM calls WHERE queue = ? AND state = 1",
                (queue.number,),
            )
        }

    def write(self, connection: sqlite3.Connection) -> None:
        """Write the counts that have changed since they were last written."""
        for q in self._touched:
            connection.execute(
                "UPDATE queues SET waiting = ?, running = ?, dead = ?, bytes = ?, kept = ? WHERE number = ?",
                (q.waiting, q.running, q.dead, q.bytes, q.kept, q.number),
            )
        self._touched.clear()

    # jobs

    def submit(
        self, connection: sqlite3.Connection, entries: Sequence[Kept], now: float, bounds: Callable[[str], Bounds] | None
    ) -> Submitted:
        """Insert calls; see `Store.submit`. Without `bounds` nothing is refused."""
        receipts: list[Receipt] = []
        unused: list[str] = []
        fresh: list[tuple[Kept, str]] = []
        keys: dict[tuple[str, str], str] = {}
        ids: set[str] = set()
        for entry in entries:
            wanted = entry.submission
            known = self._known(connection, wanted) or keys.get((wanted.queue, wanted.idempotency_key), "")
            if known:
                receipts.append(Receipt(known, repeated=True))
                if entry.file is not None:
                    unused.append(entry.file)
                continue
            call_id = wanted.id
            if not call_id or call_id in ids or self._exists(connection, call_id):
                call_id = new_id(now)
            if wanted.idempotency_key:
                keys[wanted.queue, wanted.idempotency_key] = call_id
            ids.add(call_id)
            fresh.append((entry, call_id))
            receipts.append(Receipt(call_id))
        if bounds is not None:
            self._check_bounds([entry for entry, _ in fresh], bounds)
        for entry, call_id in fresh:
            self._insert(connection, entry, call_id, now)
        return Submitted(receipts, unused)

    def take(
        self, connection: sqlite3.Connection, limit: Callable[[str], int], at_most: int, now: float, lease_s: float
    ) -> list[Call]:
        """See `Store.take`."""
        room = {
            queue: free
            for queue in self.queues.values()
            if queue.waiting and queue.first_due <= now and (free := limit(queue.name) - queue.running) > 0
        }
        taken: dict[Queue, list[Call]] = {}
        left = at_most
        while room and left > 0:
            for queue, wanted in deal(room, left):
                calls = self._take_of(connection, queue, wanted, now, lease_s)
                taken.setdefault(queue, []).extend(calls)
                left -= len(calls)
                free = room.pop(queue) - len(calls)
                if free and queue.first_due <= now:
                    room[queue] = free  # behind the others: one of them may have had nothing to give after all
        return interleaved(list(taken.values()))

    def finish(
        self,
        connection: sqlite3.Connection,
        lease: Lease,
        state: int,
        outcome: bytes,
        result: tuple[int, bytes | None, str | None],
        now: float,
        then: Sequence[Kept],
    ) -> list[str] | None:
        """Return the files that are of no more use; None when the lease is not held. See `Store.finish`."""
        running = self._leased(lease)
        if running is None:
            return None
        queue, size, body_file = self.queues[running.queue], running.size, running.body_file
        length, data, file = result
        kept = ROW_BYTES + length + len(outcome) + size - (running.body_size if state != DEAD else 0)
        connection.execute(
            _DIED if state == DEAD else _SUCCEEDED,
            (state, now, outcome, length, data, file, kept, running.seq),
        )
        del self._running[lease.id]
        queue.running -= 1
        queue.bytes -= size
        queue.kept += kept
        queue.dead += state == DEAD
        self._touched.add(queue)
        if then:
            self.submit(connection, then, now, None)
        return [body_file] if body_file is not None and state != DEAD else []

    def retry(self, connection: sqlite3.Connection, lease: Lease, due: float, outcome: bytes) -> bool:
        """See `Store.retry`."""
        running = self._leased(lease)
        if running is None:
            return False
        connection.execute("UPDATE calls SET state = 0, due = ?, outcome = ? WHERE seq = ?", (due, outcome, running.seq))
        self._back(lease, running, due)
        return True

    def release(self, connection: sqlite3.Connection, leases: Iterable[Lease]) -> None:
        """See `Store.release`."""
        for lease in leases:
            if (running := self._leased(lease)) is not None:
                connection.execute("UPDATE calls SET state = 0, attempts = attempts - 1 WHERE seq = ?", (running.seq,))
                self._back(lease, running, 0.0)

    def cancel(self, connection: sqlite3.Connection, call_id: str, now: float) -> tuple[State, list[str]] | None:
        """Return the state before and the files that are of no more use. See `Store.cancel`."""
        row = connection.execute(
            "SELECT seq, queue, state, size, body_size, body_file FROM calls WHERE id = ?", (call_id,)
        ).fetchone()
        if row is None:
            return None
        seq, number, state, size, body_size, body_file = row
        if state > RUNNING:
            return STATES[state], []
        connection.execute(
            "UPDATE calls SET state = 4, ended = ?, size = ?, body = NULL, body_file = NULL WHERE seq = ?",
            (now, kept := ROW_BYTES + size - body_size, seq),
        )
        queue = self.queues[number]
        if state == RUNNING:
            del self._running[call_id]
            queue.running -= 1
        else:
            queue.waiting -= 1
        queue.bytes -= size
        queue.kept += kept
        self._touched.add(queue)
        return STATES[state], [body_file] if body_file is not None else []

    def replay(self, connection: sqlite3.Connection, call_id: str, now: float) -> tuple[State, list[str]] | None:
        """Return the state before and the files that are of no more use. See `Store.replay`."""
        row = connection.execute("SELECT seq, state FROM calls WHERE id = ?", (call_id,)).fetchone()
        if row is None:
            return None
        return STATES[row[1]], self._replay(connection, [row[0]], now) if row[1] == DEAD else []

    def replay_all(self, connection: sqlite3.Connection, name: str, now: float, at_most: int) -> tuple[int, list[str]]:
        """Return how many, and the files that are of no more use. See `Store.replay_all`."""
        queue = self.names.get(name)
        if queue is None or not queue.dead:
            return 0, []
        rows = connection.execute(
            "SELECT seq FROM calls WHERE queue = ? AND state = 3 ORDER BY seq LIMIT ?", (queue.number, at_most)
        ).fetchall()
        return len(rows), self._replay(connection, [seq for (seq,) in rows], now)

    def end_leases(self, connection: sqlite3.Connection, overdue: Iterable[Lease], now: float) -> None:
        """Let calls whose leases are over wait again."""
        for lease in overdue:
            if (running := self._leased(lease)) is not None:
                connection.execute("UPDATE calls SET state = 0, due = ? WHERE seq = ?", (now, running.seq))
                self._back(lease, running, now)

    def forget(self, connection: sqlite3.Connection, now: float, keep: Keep) -> tuple[bool, list[str]]:
        """Delete ended calls whose time is over, and the oldest ones where they take too much space; at most
        SWEPT_AT_ONCE. Returns whether there may be more, and the files that are of no more use."""
        rows: list[tuple[Any, ...]] = []
        choose = "SELECT seq, queue, state, size, body_file, result_file FROM calls WHERE ended IS NOT NULL AND state = ?"
        for state, before in ((SUCCEEDED, now - keep.ended_s), (CANCELLED, now - keep.ended_s), (DEAD, now - keep.dead_s)):
            left = SWEPT_AT_ONCE - len(rows)
            rows += connection.execute(f"{choose} AND ended <= ? ORDER BY ended LIMIT ?", (state, before, left)).fetchall()
        if not rows:
            excess = sum(queue.kept for queue in self.queues.values()) - keep.bytes
            for state in (SUCCEEDED, CANCELLED, DEAD):
                for row in connection.execute(f"{choose} ORDER BY ended LIMIT ?", (state, SWEPT_AT_ONCE)):
                    if excess <= 0 or len(rows) >= SWEPT_AT_ONCE:
                        break
                    excess -= row[3]
                    rows.append(row)
        files: list[str] = []
        for seq, number, state, size, body_file, result_file in rows:
            connection.execute("DELETE FROM calls WHERE seq = ?", (seq,))
            queue = self.queues[number]
            queue.kept -= size
            queue.dead -= state == DEAD
            self._touched.add(queue)
            files += [file for file in (body_file, result_file) if file is not None]
        return len(rows) >= SWEPT_AT_ONCE, files

    @staticmethod
    def files(connection: sqlite3.Connection) -> set[str]:
        """Return the files that rows name."""
        named = {name for (name,) in connection.execute("SELECT body_file FROM calls WHERE body_file IS NOT NULL")}
        return named | {name for (name,) in connection.execute("SELECT result_file FROM calls WHERE result_file IS NOT NULL")}

    # inside

    def _queue(self, connection: sqlite3.Connection, name: str) -> Queue:
        queue = self.names.get(name)
        if queue is None:
            number = connection.execute("INSERT INTO queues (name) VALUES (?)", (name,)).lastrowid
            assert number is not None
            queue = self.names[name] = self.queues[number] = Queue(number, name, 0, 0, 0, 0, 0)
        return queue

    def _known(self, connection: sqlite3.Connection, wanted: Submission) -> str:
        """Return the id of the call that this repeats, or nothing."""
        queue = self.names.get(wanted.queue)
        if not wanted.idempotency_key or queue is None:
            return ""
        found = connection.execute(
            "SELECT id FROM calls WHERE queue = ? AND key = ?", (queue.number, wanted.idempotency_key)
        ).fetchone()
        return found[0] if found is not None else ""

    @staticmethod
    def _exists(connection: sqlite3.Connection, call_id: str) -> bool:
        return connection.execute("SELECT 1 FROM calls WHERE id = ?", (call_id,)).fetchone() is not None

    def _check_bounds(self, fresh: Sequence[Kept], bounds: Callable[[str], Bounds]) -> None:
        calls: dict[str, int] = {}
        sizes: dict[str, int] = {}
        for entry in fresh:
            name = entry.submission.queue
            calls[name] = calls.get(name, 0) + 1
            sizes[name] = sizes.get(name, 0) + entry.size
        for name, count in calls.items():
            queue = self.names.get(name)
            waiting, size = (queue.waiting, queue.bytes) if queue is not None else (0, 0)
            most = bounds(name)
            if waiting + count > most.calls:
                raise QueueFull(f"{waiting} calls of {name} wait already; at most {most.calls} may")
            if size + sizes[name] > most.bytes:
                raise QueueFull(f"calls of {name} hold {size} bytes already; at most {most.bytes} may wait")

    def _insert(self, connection: sqlite3.Connection, entry: Kept, call_id: str, now: float) -> None:
        wanted = entry.submission
        queue = self._queue(connection, wanted.queue)
        due = max(wanted.due, now)
        length = entry.size - len(entry.request)
        connection.execute(
            "INSERT INTO calls (id, queue, submitted, due, expires, size, key, request, body_size, body, body_file)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                call_id,
                queue.number,
                now,
                due,
                wanted.expires,
                entry.size,
                wanted.idempotency_key or None,
                entry.request,
                length,
                entry.data,
                entry.file,
            ),
        )
        queue.waiting += 1
        queue.bytes += entry.size
        queue.first_due = min(queue.first_due, due)
        self._touched.add(queue)

    def _take_of(self, connection: sqlite3.Connection, queue: Queue, at_most: int, now: float, lease_s: float) -> list[Call]:
        rows = connection.execute(
            f"{CALL} WHERE queue = ? AND state = 0 AND due <= ? ORDER BY due, seq LIMIT ?",
            (queue.number, now, at_most),
        ).fetchall()
        connection.execute(
            "UPDATE calls SET state = 1, attempts = attempts + 1, takes = takes + 1"
            " WHERE seq IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode([row[18] for row in rows]).decode(),),
        )
        calls = []
        for row in rows:
            call = call_of(row, queue.name, taken=True)
            self._running[call.id] = Running(call.takes, row[18], queue.number, row[19], call.body.size, row[14])
            calls.append(call)
        queue.waiting -= len(calls)
        queue.running += len(calls)
        queue.first_due = self.first_due(connection, queue.number)
        self._touched.add(queue)
        self.queues.move_to_end(queue.number)
        return calls

    @staticmethod
    def first_due(connection: sqlite3.Connection, number: int) -> float:
        """Return when the first waiting call of a queue is due; NEVER when none waits."""
        (first,) = connection.execute("SELECT min(due) FROM calls WHERE queue = ? AND state = 0", (number,)).fetchone()
        return NEVER if first is None else float(first)

    @staticmethod
    def lateness(connection: sqlite3.Connection, number: int, now: float) -> tuple[float, int]:
        """Return when the first waiting call of a queue that is due became due (0: none is), and how many are due."""
        first = Ledger.first_due(connection, number)
        if first > now:
            return 0.0, 0
        (due,) = connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM calls WHERE queue = ? AND state = 0 AND due <= ? LIMIT ?)",
            (number, now, DUE_COUNTED),
        ).fetchone()
        return first, due

    def _leased(self, lease: Lease) -> Running | None:
        """Return the call that runs under this lease."""
        running = self._running.get(lease.id)
        return running if running is not None and running.take == lease.take else None

    def _back(self, lease: Lease, running: Running, due: float) -> None:
        """The call waits again."""
        del self._running[lease.id]
        queue = self.queues[running.queue]
        queue.running -= 1
        queue.waiting += 1
        queue.first_due = min(queue.first_due, due)
        self._touched.add(queue)

    def _replay(self, connection: sqlite3.Connection, seqs: Sequence[int], now: float) -> list[str]:
        files = []
        for seq in seqs:
            number, size, result_file, body_size, request = connection.execute(
                "SELECT queue, size, result_file, body_size, length(request) FROM calls WHERE seq = ?", (seq,)
            ).fetchone()
            connection.execute(
                "UPDATE calls SET state = 0, due = ?, expires = 0, ended = NULL, attempts = 0, result_size = 0, result = NULL,"
                " result_file = NULL, size = ? WHERE seq = ?",
                (now, body_size + request, seq),
            )
            queue = self.queues[number]
            queue.dead -= 1
            queue.kept -= size
            queue.waiting += 1
            queue.bytes += body_size + request
            queue.first_due = min(queue.first_due, now)
            self._touched.add(queue)
            if result_file is not None:
                files.append(result_file)
        return files

    def one(self, connection: sqlite3.Connection, call_id: str) -> Call | None:
        """Return a call by its id."""
        row = connection.execute(f"{CALL} WHERE id = ?", (call_id,)).fetchone()
        return call_of(row, self.queues[row[1]].name) if row is not None else None
