"""Which edges have let go of replicas that drain. The last one to do so lets a replica stop."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from orchestration.events import Event, ReplicaChanged
from orchestration.replica import ReplicaState

MOST_UNKNOWN: Final = 256
"""Replicas that an edge let go of before they were heard of here at all, which is a matter of milliseconds; of others, that are
gone when an edge's word comes, nothing is kept for longer than it takes so many more to come."""


class Releases:
    """`members` returns the edges that count, `on_released` is told once of each replica that all of them let go of.

    An edge may let go of a replica before it is heard of here that it drains, or that it is. What is kept of a replica goes
    when it has stopped.
    """

    def __init__(self, members: Callable[[], Collection[str]], on_released: Callable[[str], None]) -> None:
        self._members = members
        self._on_released = on_released
        self._known: set[str] = set()
        self._draining: set[str] = set()
        self._released: dict[str, set[str]] = {}
        self._unknown: dict[str, None] = {}
        """Those in `_released` that are not known, the oldest first."""

    def apply(self, event: Event) -> None:
        """Follow replicas."""
        if not isinstance(event, ReplicaChanged):
            return
        replica = event.replica
        self._unknown.pop(replica.id, None)
        if replica.state is ReplicaState.STOPPED:
            self._known.discard(replica.id)
        else:
            self._known.add(replica.id)
        if replica.state is ReplicaState.DRAINING:
            self._draining.add(replica.id)
            self._see(replica.id)
        else:
            self._draining.discard(replica.id)
            self._released.pop(replica.id, None)

    def released(self, replica: str, edge: str) -> None:
        """An edge has no call at the replica and sends none."""
        self._released.setdefault(replica, set()).add(edge)
        if replica not in self._known:
            self._unknown[replica] = None
            if len(self._unknown) > MOST_UNKNOWN:
                oldest = next(iter(self._unknown))
                del self._unknown[oldest], self._released[oldest]
        self._see(replica)

    def changed(self) -> None:
        """There are fewer edges than before."""
        for replica in list(self._draining):
            self._see(replica)

    def _see(self, replica: str) -> None:
        if replica in self._draining and self._released.get(replica, set()).issuperset(self._members()):
            self._draining.discard(replica)
            self._released.pop(replica, None)
            self._on_released(replica)
