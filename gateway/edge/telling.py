"""When the load of one revision is told to the scaler, and what is told.

At once when something changes that could change a decision: a first call, a call that waits, a queue that has doubled. A burst
within one turn of the loop is told as one; at zero, where it takes a few turns to be read, within BURST_S. Otherwise each
second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestration.load import LoadSample

if TYPE_CHECKING:
    from gateway.edge.dispatcher import Dispatcher, Observer

TELL_APART_S: Final = 0.1
"""While replicas are ready, a queue that flickers between empty and not is told at most this often; one that has doubled
since it was told of is told at once."""
BURST_S: Final = 0.005
"""At zero the first calls are told of when no more came in one turn of the loop, at the latest after this time: a burst takes a
few turns to be read, and the first decision is to see all of it. A single call is told of one turn later."""


class Telling:
    """Belongs to one dispatcher, and tells its observer. `edge` is who tells."""

    __slots__ = ("_dispatcher", "_edge", "_grown", "_observer", "_told_at", "_told_waiting", "_will_tell")

    def __init__(self, dispatcher: Dispatcher, observer: Observer, edge: str) -> None:
        self._dispatcher = dispatcher
        self._observer = observer
        self._edge = edge
        self._will_tell = False
        self._told_at = float("-inf")
        self._told_waiting = 1
        self._grown = 0

    def waits(self, now: float) -> None:
        """A call has come that waits."""
        waiting = len(self._dispatcher.waiting)
        flickers = waiting == 1 and now - self._told_at >= TELL_APART_S
        if not self._dispatcher.ready or waiting >= 2 * self._told_waiting or flickers:
            self.soon()

    def soon(self) -> None:
        """Tell in the next turn of the loop, or when a burst is over."""
        if not self._will_tell:
            self._will_tell = True
            self._grown = 0
            self._observer.soon(self._tell_now)

    def tell(self, now: float) -> LoadSample:
        """Tell what there was since the last time, and return it."""
        dispatcher = self._dispatcher
        self._told_at = now
        self._told_waiting = max(1, len(dispatcher.waiting))
        interval_s, concurrency, arrivals = dispatcher.meter.read(now)
        sample = LoadSample(
            edge=self._edge,
            namespace=dispatcher.namespace,
            function=dispatcher.name,
            revision=dispatcher.revision,
            at=now,
            interval_s=interval_s,
            concurrency=concurrency,
            arrivals=arrivals,
            in_flight=dispatcher.in_flight,
            queued=len(dispatcher.waiting),
            oldest_wait_s=dispatcher.oldest_wait_s(now),
            idle_replicas=tuple(b.id for b in dispatcher.open_backends() if not b.in_flight),
        )
        self._observer.on_load(sample)
        return sample

    def _tell_now(self) -> None:
        dispatcher = self._dispatcher
        now, waiting = self._observer.now(), len(dispatcher.waiting)
        if not dispatcher.ready and waiting > self._grown and now - dispatcher.meter.began < BURST_S:
            self._grown = waiting
            self._observer.soon(self._tell_now)
            return
        self._will_tell = False
        self.tell(now)
