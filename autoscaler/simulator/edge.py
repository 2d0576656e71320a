"""The edge's dispatcher without sockets: which replica gets a call, who waits, and what is told about the load.

The rules are those of `gateway/edge/dispatcher`: least in flight with a hard limit, an idle replica first, one FIFO bounded
by count and age, a freed slot to the oldest waiting call, a sample each second while there is activity, four while calls
wait, and at once when a queue begins, has doubled, or grows without a replica. A test drives both with the same calls and
compares what they tell.
"""

from __future__ import annotations

from collections import deque
from math import inf
from sys import maxsize
from typing import Final

from orchestration.load import LoadSample

TELL_APART_S: Final = 0.1
"""While replicas are ready, a queue that flickers between empty and not is told at most this often."""
TICK_S: Final = 1.0
SWEEP_S: Final = 0.25
"""Calls that still wait are told of again after so long."""
EDGE: Final = "simulated"
NAMESPACE: Final = "simulated"


class Replica:
    """One copy of the function, asked for at `since`; calls may come from `ready_at` on."""

    __slots__ = ("draining", "id", "in_flight", "ready_at", "since")

    def __init__(self, identity: str, since: float, ready_at: float) -> None:
        self.id = identity
        self.since = since
        self.ready_at = ready_at
        self.in_flight = 0
        self.draining = False


class EdgeModel:
    """One function's calls. Methods take the time; what `admit`, `opened` and `released` let run, they put into `started`.

    `telling` says that a sample is due before time goes on (all that happens at one moment is told as one). `limit` is calls
    per replica, 0 for no limit.
    """

    __slots__ = (
        "_area",
        "_arrivals",
        "_changed_at",
        "_function",
        "_limit",
        "_queue_calls",
        "_read_at",
        "_told_at",
        "_told_waiting",
        "active",
        "in_flight",
        "level",
        "ready",
        "started",
        "telling",
        "waiting",
    )

    def __init__(self, function: str, limit: int, queue_calls: int, now: float) -> None:
        self._function = function
        self._limit = limit or maxsize
        self._queue_calls = queue_calls
        self.ready: list[Replica] = []
        """Replicas that may get calls, in the order in which they became ready."""
        self.waiting: deque[tuple[float, float]] = deque()
        """(when it came, how long it will run) of each waiting call, oldest first."""
        self.started: list[tuple[float, float, Replica]] = []
        """(when it came, how long it runs, where) of calls that got a slot since this was last emptied."""
        self.in_flight = 0
        self.level = 0
        """Calls in flight and waiting."""
        self.active = False
        self.telling = False
        self._area = 0.0
        self._arrivals = 0
        self._changed_at = self._read_at = now
        self._told_at = -inf
        self._told_waiting = 1

    def admit(self, now: float, runs_s: float) -> bool:
        """A call came. It starts, or waits, or is refused: then False is returned."""
        if not self.active:
            self.active = self.telling = True
            self._area, self._arrivals = 0.0, 0
            self._changed_at = self._read_at = now
        self._area += self.level * (now - self._changed_at)
        self._changed_at = now
        self._arrivals += 1
        waiting = self.waiting
        if not waiting and (replica := self._least_loaded()) is not None:
            self.level += 1
            replica.in_flight += 1
            self.in_flight += 1
            self.started.append((now, runs_s, replica))
            return True
        if len(waiting) >= self._queue_calls:
            return False
        self.level += 1
        waiting.append((now, runs_s))
        if (
            not self.ready
            or len(waiting) >= 2 * self._told_waiting
            or (len(waiting) == 1 and now - self._told_at >= TELL_APART_S)
        ):
            self.telling = True
        return True

    def released(self, replica: Replica, now: float) -> None:
        """A call on `replica` ended."""
        self._left(now)
        replica.in_flight -= 1
        self.in_flight -= 1
        if self.waiting:
            self._serve()

    def expire(self, now: float) -> None:
        """The oldest waiting call has waited for too long: it leaves."""
        self.waiting.popleft()
        self._left(now)

    def opened(self, replica: Replica) -> None:
        """A replica became ready."""
        self.ready.append(replica)
        if self.waiting:
            self._serve()

    def shut(self, replica: Replica) -> None:
        """A replica gets no more calls."""
        replica.draining = True
        if replica in self.ready:
            self.ready.remove(replica)

    def tell(self, now: float) -> LoadSample:
        """Return the load since the last time that this was asked."""
        self.telling = False
        self._told_at = now
        self._told_waiting = max(1, len(self.waiting))
        area = self._area + self.level * (now - self._changed_at)
        interval_s = now - self._read_at
        arrivals = self._arrivals
        self._area, self._arrivals = 0.0, 0
        self._changed_at = self._read_at = now
        return LoadSample(
            edge=EDGE,
            namespace=NAMESPACE,
            function=self._function,
            revision=self._function,
            at=now,
            interval_s=interval_s,
            concurrency=area / interval_s if interval_s > 0 else float(self.level),
            arrivals=arrivals,
            in_flight=self.in_flight,
            queued=len(self.waiting),
            oldest_wait_s=now - self.waiting[0][0] if self.waiting else 0.0,
            idle_replicas=tuple([r.id for r in self.ready if not r.in_flight]),
        )

    def tick(self, now: float) -> LoadSample:
        """A second is over: return its load. The last sample of an active time says so: all zero."""
        sample = self.tell(now)
        if sample.arrivals == 0 and sample.concurrency == 0.0 and self.level == 0:
            self.active = False
        return sample

    def _left(self, now: float) -> None:
        self._area += self.level * (now - self._changed_at)
        self._changed_at = now
        self.level -= 1

    def _serve(self) -> None:
        waiting = self.waiting
        while waiting and (replica := self._least_loaded()) is not None:
            came, runs_s = waiting.popleft()
            replica.in_flight += 1
            self.in_flight += 1
            self.started.append((came, runs_s, replica))

    def _least_loaded(self) -> Replica | None:
        best, fewest = None, self._limit
        for replica in self.ready:
            in_flight = replica.in_flight
            if in_flight < fewest:
                if not in_flight:
                    return replica
                best, fewest = replica, in_flight
        return best
