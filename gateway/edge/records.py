"""The last calls of each function, for people: which call it was, how long it waited and ran, and how it ended.

A busy function's calls push each other out within milliseconds, so the notable ones (errors, and calls that waited) have
a ring of their own. Nothing is formatted here: a record costs a call 0.12 µs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

KEPT: Final = 32
"""Records in each of a function's two rings: 20 KB where they are full, nothing for one that is never called."""

PASSED_ON: Final = 4
"""How many of each ring an edge that is one of several passes on at a time: ten times a second, 150 bytes each."""

NOTABLE_WAIT_S: Final = 0.01


class CallRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A call that ended. `marks` are its header lines, with id and start; `waited_s` is how long it took until it was sent to
    `replica` (empty: it never was), `duration_s` how long it took in all. `limit_s` is the limit that the edge ended it at (0:
    it ended by itself)."""

    marks: bytes
    method: bytes
    code: int
    waited_s: float
    duration_s: float
    replica: str
    limit_s: float = 0.0

    @property
    def id(self) -> str:
        """The call's id."""
        return self._mark(0)

    @property
    def started_at(self) -> float:
        """When the call came, in Unix seconds."""
        return int(self._mark(1)) / 1e9

    def _mark(self, line: int) -> str:
        return self.marks.split(b"\r\n")[line].partition(b": ")[2].decode("latin-1")


class Records:
    """Two rings: the last calls, and the last notable ones."""

    __slots__ = ("notable", "recent")

    def __init__(self) -> None:
        self.recent: deque[CallRecord] = deque(maxlen=KEPT)
        self.notable: deque[CallRecord] = deque(maxlen=KEPT)

    def keep(self, record: CallRecord) -> None:
        """A call ended."""
        self.recent.append(record)
        if record.waited_s > NOTABLE_WAIT_S or record.code >= 499:
            self.notable.append(record)

    def take(self) -> tuple[tuple[CallRecord, ...], tuple[CallRecord, ...]]:
        """Return the newest PASSED_ON of both rings, and empty them."""
        taken = tuple(self.recent)[-PASSED_ON:], tuple(self.notable)[-PASSED_ON:]
        self.recent.clear()
        self.notable.clear()
        return taken

    def add(self, recent: Iterable[CallRecord], notable: Iterable[CallRecord]) -> None:
        """Keep what another edge has kept."""
        self.recent.extend(recent)
        self.notable.extend(notable)

    def all(self) -> list[CallRecord]:
        """Return what is kept, the newest start first, each call once."""
        found = {id(record): record for record in (*self.recent, *self.notable)}
        by_call = {record.marks: record for record in found.values()}
        return sorted(by_call.values(), key=lambda record: record.started_at, reverse=True)
