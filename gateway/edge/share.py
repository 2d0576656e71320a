"""An edge's part of a revision's slots: asks for more, and gives back, where several edges share hard limits.

`slots` tells the whole of it. Here are the two decisions of an edge. It wants as many slots as calls wait, when none
is free. It gives when others ask: idle slots at once, half of those above what is asked too, so that a busy edge need
not ask for each call; a slot that gets free while own calls wait only when the oldest of these is younger than the
asking one by `UNFAIR_S`. That margin is what one edge's calls may overtake another's by; without it every slot would
travel after every call while two edges have calls waiting.

What is owned is remembered by replica, whether that is ready here, or known at all: grants may come before the replica does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.edge.messages import Claim, Grant, Recall, Return, Want
from gateway.edge.slots import spread

if TYPE_CHECKING:
    from gateway.edge.dispatcher import Dispatcher

UNFAIR_S: Final = 0.005


class _Owned(NamedTuple):
    """`slots` of a replica, granted in `epoch`; an epoch of 0 is another ledger's, or of an earlier link to this one."""

    epoch: int
    slots: int


class Share:
    """Belongs to one dispatcher. `tell` sends to the ledger, in order; `soon` runs a function in the loop's next turn.

    `asked` is how many calls wait at other edges.
    """

    __slots__ = ("_asked_since", "_dispatcher", "_looking", "_owned", "_soon", "_tell", "_wanted", "_wanted_since", "asked")

    def __init__(
        self,
        dispatcher: Dispatcher,
        tell: Callable[[Want | Return], None],
        soon: Callable[[Callable[[], object]], object],
    ) -> None:
        self._dispatcher = dispatcher
        self._tell = tell
        self._soon = soon
        self._owned: dict[str, _Owned] = {}
        self._wanted = 0
        self._wanted_since = 0.0
        self._looking = False
        self._asked_since = 0.0
        self.asked = 0

    def slots(self, replica: str) -> int:
        """Return how many of a replica's slots are owned here."""
        owned = self._owned.get(replica)
        return owned.slots if owned is not None else 0

    @property
    def owns(self) -> bool:
        """Whether anything is owned."""
        return any(owned.slots for owned in self._owned.values())

    def grant(self, grant: Grant) -> None:
        """More slots came; the first grant of an epoch says how many there are."""
        owned = self._owned.get(grant.replica)
        self._own(grant.replica, grant.epoch, grant.slots + (owned.slots if owned and owned.epoch == grant.epoch else 0))
        self._wanted = max(0, self._wanted - grant.slots)
        self._dispatcher.serve()
        self.give()

    def gone(self, replica: str) -> None:
        """A replica is gone, and its slots with it."""
        self._owned.pop(replica, None)

    def give_back(self) -> None:
        """Return everything: the limit is another one, so all is dealt out anew, or was a moment ago."""
        for replica, (epoch, slots) in list(self._owned.items()):
            self._own(replica, epoch, 0)
            self._tell(Return(replica, epoch, slots))

    def give_up(self) -> None:
        """Own nothing any more: others may have been granted it. Calls in progress go on."""
        for replica in list(self._owned):
            self._own(replica, 0, 0)

    def claim(self) -> list[Claim]:
        """Say what is owned here, to a ledger that is to know; what that grants replaces it.

        A call in progress counts as a slot, also where that was given up meanwhile.
        """
        self.unlinked()
        dispatcher = self._dispatcher
        for replica, owned in self._owned.items():
            self._owned[replica] = _Owned(0, owned.slots)
        busy = {backend.id: backend.in_flight for backend in dispatcher.backends() if dispatcher.concurrency}
        claims = {r: max(self.slots(r), busy.get(r, 0)) for r in (*self._owned, *busy)}
        return [Claim(replica, slots) for replica, slots in claims.items() if slots]

    def unlinked(self) -> None:
        """Nobody can be told, or asks, until a ledger is claimed from; then what is wanted is to be told anew."""
        self._wanted, self.asked = 0, 0

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
        rooms = self._rooms()
        idle = sum(rooms.values())
        if not idle:
            return
        count = min(self.asked, idle)
        if not dispatcher.waiting:
            count += (idle - count) // 2
        elif next(iter(dispatcher.waiting)).started <= self._asked_since + UNFAIR_S:
            return
        self.asked = max(0, self.asked - count)
        for (replica, _), part in zip(rooms.items(), spread(count, list(rooms.values())), strict=True):
            if part:
                epoch, slots = self._owned[replica]
                self._own(replica, epoch, slots - part)
                self._tell(Return(replica, epoch, part))
        self.look()

    def _rooms(self) -> dict[str, int]:
        """Return how many slots of each replica no call uses."""
        rooms = {}
        for replica, owned in self._owned.items():
            backend = self._dispatcher.backend(replica)
            room = owned.slots if backend is None else min(owned.slots, backend.limit) - backend.in_flight
            if room > 0:
                rooms[replica] = room
        return rooms

    def _own(self, replica: str, epoch: int, slots: int) -> None:
        if slots or epoch:
            self._owned[replica] = _Owned(epoch, slots)
        else:
            self._owned.pop(replica, None)
        backend = self._dispatcher.backend(replica)
        if backend is not None and self._dispatcher.concurrency:
            backend.own(slots)

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
