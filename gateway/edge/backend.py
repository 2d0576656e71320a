"""One ready replica as a dispatcher sees it: connections, and how many calls it has and may have."""

from __future__ import annotations

from typing import Any, Final, Protocol

from orchestration.replica import Endpoint

FIRST_REST_S: Final = 0.1
LONGEST_REST_S: Final = 1.0


class Connections(Protocol):
    """The connections to one replica; what a connection is, only calls know."""

    def take(self) -> Any:
        """Return an open connection that nobody uses, or None."""

    def connect(self, call: Any) -> None:
        """Open a connection for `call`, then send it."""

    @property
    def unused(self) -> int:
        """How many connections are open that nobody uses."""

    def retire(self) -> None:
        """Close those that are unused, now and later; calls still connecting come back to their dispatcher."""

    def prune(self, unused_since: float) -> None:
        """Close those unused since before that time (monotonic seconds)."""


class Backend:
    """One ready replica: `in_flight` of at most `limit` calls. `open` while it may get more.

    `limit` is `slots`, the calls that it may have from this edge, unless it turned a call away a moment ago.
    """

    __slots__ = ("connections", "endpoint", "id", "in_flight", "limit", "open", "rest_s", "rested_at", "slots")

    def __init__(self, replica_id: str, endpoint: Endpoint, slots: int, connections: Connections) -> None:
        self.id = replica_id
        self.endpoint = endpoint
        self.limit = self.slots = slots
        self.connections = connections
        self.in_flight = 0
        self.open = True
        self.rest_s = 0.0
        self.rested_at = 0.0

    def turned_away(self, now: float) -> None:
        """It refused one of its calls: no more than the others of them until it has rested."""
        self.limit = self.in_flight - 1
        self.rested_at = now + FIRST_REST_S

    def unreachable(self, now: float) -> None:
        """It could not be connected to: it rests, each time in a row for twice as long."""
        self.rest_s = min(LONGEST_REST_S, self.rest_s * 2 or FIRST_REST_S)
        self.rested_at = now + self.rest_s

    def own(self, slots: int) -> None:
        """From now on it may have `slots` calls. Those that rest go on resting."""
        self.limit = self.limit + slots - self.slots if self.limit < self.slots else slots
        self.slots = slots
