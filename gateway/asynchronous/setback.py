"""What a clock that was set back would delay: calls that were due when they were submitted, at a time that is to come again.

They are looked for after the leap, a piece with each sweep, and are due from then on. Calls that wait for a time of their own
(delayed ones, those between two attempts) go by the clock as it is now.
"""

from __future__ import annotations

import sqlite3
from math import inf
from typing import Final

from gateway.asynchronous.ledger import Ledger
from gateway.asynchronous.rows import microseconds, submitted_at

LEAP_S: Final = 2.0
"""A clock that goes back by less delays calls by less."""
AT_ONCE: Final = 1000
"""So many rows are looked at in one piece: 5 ms of the writer's thread."""
_LAST_SEQ: Final = (1 << 63) - 1
_AHEAD: Final = (
    "SELECT waiting.due, seq, head FROM waiting CROSS JOIN calls USING (seq)"
    " WHERE waiting.queue = ? AND (waiting.due, waiting.seq) > (?, ?) ORDER BY waiting.due, waiting.seq LIMIT ?"
)

Place = tuple[int, int, int]
"""A row of `waiting`: queue, due, seq. What comes up to it has been looked at."""
_BEGIN: Final[Place] = (-1, 0, 0)


class Setback:
    """Notices that the clock was set back, by the times of sweeps."""

    def __init__(self) -> None:
        self._last = -inf
        self.place: Place | None = None
        """How far was looked since the last leap; None where there is nothing to look for."""

    def saw(self, now: float) -> None:
        """A sweep is made at `now`."""
        if now < self._last - LEAP_S:
            self.place = _BEGIN
        self._last = now


def look(ledger: Ledger, connection: sqlite3.Connection, place: Place, now: float) -> Place | None:
    """Let calls be due that were so when they were submitted, from `place` on; return how far that is, None when it is all."""
    ledger.flush(connection)
    by = microseconds(now)
    left = AT_ONCE
    for number in sorted(number for number, queue in ledger.queues.items() if queue.waiting and number >= place[0]):
        due, seq = max(place[1:], (by, _LAST_SEQ)) if number == place[0] else (by, _LAST_SEQ)
        rows = connection.execute(_AHEAD, (number, due, seq, left)).fetchall()
        found = [(due, seq) for due, seq, head in rows if microseconds(submitted_at(head)) == due]
        connection.executemany(
            "UPDATE waiting SET due = ? WHERE queue = ? AND due = ? AND seq = ?",
            [(by, number, due, seq) for due, seq in found],
        )
        connection.executemany("UPDATE calls SET due = ? WHERE seq = ?", [(by, seq) for _, seq in found])
        if found:
            queue = ledger.queues[number]
            queue.first_due = min(queue.first_due, by)
        left -= len(rows)
        if left <= 0:
            return number, rows[-1][0], rows[-1][1]
    return None
