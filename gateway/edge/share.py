"""An edge's part of a revision's slots: asks for more, and gives back, where several edges share hard limits.

`slots` tells the whole of it. Here are the two decisions of an edge. It wants as many slots as calls wait, when none
is free. It gives when others ask: idle slots at once, half of those above what is asked too, so that a busy edge need
not ask for each call; a slot that gets free while own calls wait only when the oldest of these is younger than the
asking one by `UNFAIR_S`. That margin is what one edge's calls may overtake another's by; without it every slot would
travel after every call while two edges have calls waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gateway.edge.messages import Grant, Recall, Return, Want
from gateway.edge.slots import spread

if TYPE_CHECKING:
    from gateway.edge.dispatcher import Dispatcher

UNFAIR_S: Final = 0.005


class Share:
    """Belongs to one dispatcher. `tell` sends to the ledger, in order; `soon` runs a function in the loop's next turn.

    `asked` is how many calls wait at other edges.
    """

    __slots__ = ("_asked_since", "_dispatcher", "_looking", "_soon", "_tell", "_wanted", "_wanted_since", "asked")

    def __init__(
        self,
        dispatcher: Dispatcher,
        tell: Callable[[Want | Return], None],
        soon: Callable[[Callable[[], object]], object],
    ) -> None:
        self._dispatcher = dispatcher
        self._tell = tell
        self._soon = soon
        self._wanted = 0
        self._wanted_since = 0.0
        self._looking = False
        self._asked_since = 0.0
        self.asked = 0

    def grant(self, grant: Grant) -> None:
        """More slots came."""
        backend = self._dispatcher.backend(grant.replica)
        if backend is None or not backend.open or not self._dispatcher.concurrency:
            return  # it closed meanwhile, as the ledger knows or is about to hear
        backend.own(grant.slots + (backend.slots if grant.epoch == backend.epoch else 0))
        backend.epoch = grant.epoch
        self._wanted = max(0, self._wanted - grant.slots)
        self._dispatcher.serve()
        self.give()

    def recall(self, recall: Recall) -> None:
        """Calls wait at other edges, or do so no longer."""
        self.asked, self._asked_since = recall.calls, recall.since
        self.give()

    def look(self) -> None:
        """Calls wait, or have ceased to: see in the next turn of the loop what that means for the others."""
        if not self._looking and (self._wanted or self._dispatcher.waiting):
            self._looking = True
            self._soon(self._look)

    def give(self) -> None:
        """Give what others ask for, if it can be spared."""
        if not self.asked:
            return
        dispatcher = self._dispatcher
        heaps = [backend for backend in dispatcher.open_backends() if backend.in_flight < backend.limit]
        idle = sum(backend.limit - backend.in_flight for backend in heaps)
        if not idle:
            return
        count = min(self.asked, idle)
        if not dispatcher.waiting:
            count += (idle - count) // 2
        elif next(iter(dispatcher.waiting)).started <= self._asked_since + UNFAIR_S:
            return
        self.asked = max(0, self.asked - count)
        sizes = [backend.limit - backend.in_flight for backend in heaps]
        for backend, part in zip(heaps, spread(count, sizes), strict=True):
            if part:
                backend.own(backend.slots - part)
                self._tell(Return(backend.id, backend.epoch, part))
        self.look()

    def _look(self) -> None:
        self._looking = False
        dispatcher = self._dispatcher
        calls, since = 0, 0.0
        backends = dispatcher.open_backends()
        if dispatcher.concurrency and dispatcher.waiting and not any(b.in_flight < b.limit for b in backends):
            calls = min(len(dispatcher.waiting), sum(dispatcher.concurrency - b.slots for b in backends))
            since = next(iter(dispatcher.waiting)).started
        if calls > self._wanted or (self._wanted and (not calls or since - self._wanted_since >= UNFAIR_S)):
            self._wanted, self._wanted_since = calls, since
            self._tell(Want(dispatcher.namespace, dispatcher.revision, calls, since))
