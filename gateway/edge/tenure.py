"""For how long an edge may use slots that no leader has confirmed of late, and when a leader may give them to others. Pure.

The leader is who holds the ledger of slots (`slots`). Leaders come and go, links break, and neither side can know what
became of the other. Two rules keep the slots apart without asking anybody on the way of a call:

- An edge may use what it owns until TENURE_S after it last began to ask something of which the answer was: the leader
  confirms (by itself, or it answers over the link and leads by the election's word), or nobody leads. (Who gets no answer
  from anybody cannot tell an outage from a split, and goes on: then only the replica's own limit keeps two sides of a split
  network apart.)
- A leader treats an edge that it lost as owner of its slots until TENURE_S and MARGIN_S after it last confirmed. Who
  begins to lead, again or anew, does so with all edges that were known before, from that moment on.

So whatever a leader gives away, its owner has stopped to use: an edge that asks at 0 s, is confirmed at 0.1 s and cut off
gives up at its first look after 20 s, at 25 s at the latest, and at 26.1 s the leader gives away. TENURE_S is longer than
the lease by which leaders are elected (15 s) and two looks at it: when a leader dies, its edges see in time that nobody
leads, and go on.

An edge that is stopped for a while, or whose loop is held up, looks at nothing meanwhile, and what comes to it when it goes on
may come before its next look. So whoever reads the clock there, which all do before they use a slot, also sees whether it was
not read for longer than looks are apart (`watched`); whose tenure is over then gives up at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

TENURE_S: Final = 20.0
MARGIN_S: Final = 6.0
"""How much later an edge may see that its tenure is over, which it does at its next look (`member`: 2 s after the last one,
which takes 3 s at most), and what clocks may drift apart in a tenure, and more."""
PAUSE_S: Final = 5.0
"""A clock that is read several times a second and was not for longer is that of a process that paused. So much MARGIN_S allows
for."""


class Sighting(NamedTuple):
    """What a look at the election showed that began at `began` (monotonic seconds): who leads, if somebody `leads`, and
    the `address` of the leader's hub (HOST:PORT)."""

    began: float
    leads: bool
    leader: str = ""
    address: str = ""


class Tenure:
    """An edge's right to use what it owns."""

    def __init__(self) -> None:
        self._until = float("-inf")

    def confirmed(self, began: float) -> None:
        """Who leads confirmed, or nobody leads, in answer to what was asked at `began`."""
        self._until = max(self._until, began + TENURE_S)

    def is_over(self, sighting: Sighting, now: float) -> bool:
        """Take what was seen; return whether all slots are to be given up at `now`."""
        if not sighting.leads:
            self.confirmed(sighting.began)
        return now >= self._until

    def ended_in(self, before: float, now: float) -> bool:
        """Return whether all slots are to be given up at `now`, unseen, by who paused since `before`.

        Who went on without an answer before a shorter pause does so after it: it is no more cut off than it was.
        """
        return now >= self._until and (before < self._until or now - before > TENURE_S)


def watched(clock: Callable[[], float], paused: Callable[[float, float], None]) -> Callable[[], float]:
    """Return a clock that, not read for longer than PAUSE_S, calls `paused(before, now)` before it gives the time."""
    last = clock()

    def read() -> float:
        nonlocal last
        before, last = last, clock()
        if last - before > PAUSE_S:
            paused(before, last)
        return last

    return read


class Absences:
    """Edges that a leader waits for, and until when."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def begin(self, edge: str, now: float) -> None:
        """An edge was confirmed at `now` at the latest, and is away."""
        self._until[edge] = now + TENURE_S + MARGIN_S

    def end(self, edge: str) -> None:
        """It is back, or known to have ended."""
        self._until.pop(edge, None)

    def begin_again(self, now: float) -> None:
        """Nobody may have led for a while: count all absences from `now`."""
        for edge in self._until:
            self.begin(edge, now)

    def over(self, now: float) -> list[str]:
        """Return the edges that have given up what they owned."""
        return [edge for edge, until in self._until.items() if until <= now]

    def names(self) -> set[str]:
        """Return all that are waited for."""
        return set(self._until)
