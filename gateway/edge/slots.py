"""Hard limits shared by several edges: who owns which of a replica's slots. Kept by the control process.

A slot is the right to have one call at a replica. A replica with limit L has L of them, and each is at every moment
either owned by one edge, on its way between two, or spare here; so the replica never gets more than L calls, whatever
is on its way. When a replica becomes ready its slots are dealt out evenly; the L mod N that remain (all of them, where
the limit is smaller than the number of edges) go to edges by rendezvous hash, so that replicas spread over edges.

An edge with calls waiting and no slot free says how many more it could use and since when the oldest waits (`Want`).
Spare slots are granted at once, to the edge whose call has waited longest. For the rest the other owners are asked
(`Recall`): they return idle slots at once, more than asked when many are idle, and busy ones as they get free if the
asking call is older than their own (see `share`). So slots follow the load, and calls are served about in the order
in which they came, whichever edge they came to. Example: limit 100, two edges, 50 each; all clients on one edge: its
51st call fetches 25 of the other's idle slots, and so on until it owns all it can use.

An edge that died owns nothing: its slots are spare again. Calls of its that still run in a replica are the runtime's to
count; what it refuses waits (see `Dispatcher.turned_away`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from gateway.edge.messages import Grant, Recall, Return, Want
from orchestration.events import Event, FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.function import Function
from orchestration.names import FunctionId
from orchestration.replica import Endpoint, Replica, ReplicaState

RevisionKey = tuple[str, str]
"""(namespace, revision name)"""


def spread(amount: int, sizes: Sequence[int]) -> list[int]:
    """Take `amount` from heaps of these sizes, as evenly as they allow: (5, [1, 9, 3]) → [1, 2, 2]."""
    taken = [0] * len(sizes)
    left = min(amount, sum(sizes))
    for rank, index in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        taken[index] = min(sizes[index], -(-left // (len(sizes) - rank)))
        left -= taken[index]
    return taken


def shares(replica: str, limit: int, edges: Sequence[str]) -> dict[str, int]:
    """Deal out a replica's slots: evenly, the rest by rendezvous hash on the names of replica and edges."""

    def weight(edge: str) -> bytes:
        return hashlib.blake2b(f"{replica}\0{edge}".encode(), digest_size=8).digest()

    ranked = sorted(edges, key=weight, reverse=True)
    return {edge: limit // len(edges) + (rank < limit % len(edges)) for rank, edge in enumerate(ranked)}


class _Slots:
    """A ready replica's slots."""

    __slots__ = ("endpoint", "epoch", "held", "replica", "revision", "spare")

    def __init__(self, replica: str, revision: _Revision, endpoint: Endpoint) -> None:
        self.replica = replica
        self.revision = revision
        self.endpoint = endpoint
        self.epoch = 0
        self.held: dict[str, int] = {}
        self.spare = 0


class _Revision:
    """One revision. `limit` is None until its function is known. `wants` and `asked` map edges to (calls, since)."""

    __slots__ = ("asked", "key", "limit", "slots", "wants")

    def __init__(self, key: RevisionKey) -> None:
        self.key = key
        self.limit: int | None = None
        self.slots: dict[str, _Slots] = {}
        self.wants: dict[str, tuple[int, float]] = {}
        self.asked: dict[str, tuple[int, float]] = {}


class SlotLedger:
    """Owns the truth about slots. `tell(edge, message)` must keep the order of what it is given, and of events."""

    def __init__(self, tell: Callable[[str, Grant | Recall], None]) -> None:
        self._tell = tell
        self._edges: list[str] = []
        self._revisions: dict[RevisionKey, _Revision] = {}
        self._slots: dict[str, _Slots] = {}
        self._listed: dict[FunctionId, set[RevisionKey]] = {}
        self._epoch = 0

    # edges come and go

    def join(self, edge: str) -> None:
        """An edge takes part. It gets slots of replicas that are there already when it wants them."""
        self._edges.append(edge)

    def leave(self, edge: str) -> None:
        """An edge is gone, and its calls with it."""
        if edge not in self._edges:
            return
        self._edges.remove(edge)
        for revision in self._revisions.values():
            revision.wants.pop(edge, None)
            revision.asked.pop(edge, None)
            for slots in revision.slots.values():
                slots.spare += slots.held.pop(edge, 0)
            self._settle(revision)

    # functions and replicas come and go

    def apply(self, event: Event) -> None:
        """Follow an event, which the edges have been told before."""
        match event:
            case FunctionChanged(function):
                self._function_changed(function)
            case FunctionRemoved(namespace, name):
                self._unlist(self._listed.pop(FunctionId(namespace, name), set()))
            case ReplicaChanged(replica):
                self._replica_changed(replica)

    # edges speak

    def wanted(self, edge: str, want: Want) -> None:
        """An edge could use more slots."""
        revision = self._revisions.get((want.namespace, want.revision))
        if revision is None or edge not in self._edges:
            return
        if want.calls > 0:
            revision.wants[edge] = (want.calls, want.since)
        else:
            revision.wants.pop(edge, None)
        self._settle(revision)

    def returned(self, edge: str, back: Return) -> None:
        """An edge returned slots. Those of an earlier epoch are void."""
        slots = self._slots.get(back.replica)
        if slots is None or slots.epoch != back.epoch:
            return
        count = min(back.slots, slots.held.get(edge, 0))
        slots.held[edge] = slots.held.get(edge, 0) - count
        slots.spare += count
        revision = slots.revision
        if edge in revision.asked:
            calls, since = revision.asked[edge]
            revision.asked[edge] = (max(0, calls - count), since)
        self._settle(revision)

    # inside

    def _function_changed(self, function: Function) -> None:
        keys = {revision.key for revision in function.revisions}
        dropped = self._listed.get(function.id, set()) - keys
        self._listed[function.id] = keys
        for known in function.revisions:
            revision = self._revision(known.key)
            if revision.limit != known.settings.concurrency:
                # Replicas were there first, or are left of a removed function whose name is used anew.
                revision.limit = known.settings.concurrency
                for slots in revision.slots.values():
                    self._deal(slots)
        self._unlist(dropped)

    def _unlist(self, keys: set[RevisionKey]) -> None:
        for key in keys:
            if (revision := self._revisions.get(key)) is not None and not revision.slots:
                del self._revisions[key]

    def _replica_changed(self, replica: Replica) -> None:
        known = self._slots.get(replica.id)
        if replica.state is ReplicaState.RUNNING and replica.endpoint is not None:
            if known is not None and known.endpoint == replica.endpoint:
                return
            self._close(replica.id)
            revision = self._revision((replica.namespace, replica.revision))
            slots = _Slots(replica.id, revision, replica.endpoint)
            self._slots[replica.id] = revision.slots[replica.id] = slots
            self._deal(slots)
        elif known is not None:
            self._close(replica.id)
            listed = self._listed.get(FunctionId(replica.namespace, replica.function), set())
            if known.revision.key not in listed:
                self._unlist({known.revision.key})

    def _close(self, replica: str) -> None:
        if (slots := self._slots.pop(replica, None)) is not None:
            del slots.revision.slots[replica]

    def _revision(self, key: RevisionKey) -> _Revision:
        if (revision := self._revisions.get(key)) is None:
            revision = self._revisions[key] = _Revision(key)
        return revision

    def _deal(self, slots: _Slots) -> None:
        """Give all of a replica's slots away, in a new epoch: what edges owned of it before is void."""
        limit = slots.revision.limit
        if not limit:
            return  # without a limit, or with one that is not known yet
        self._epoch += 1
        slots.epoch = self._epoch
        slots.held = shares(slots.replica, limit, self._edges)
        slots.spare = limit - sum(slots.held.values())
        for edge, count in slots.held.items():
            self._tell(edge, Grant(*slots.revision.key, slots.replica, slots.epoch, count))
        self._settle(slots.revision)

    def _grant(self, edge: str, slots: _Slots, count: int) -> None:
        if count:
            slots.spare -= count
            slots.held[edge] = slots.held.get(edge, 0) + count
            self._tell(edge, Grant(*slots.revision.key, slots.replica, slots.epoch, count))

    def _settle(self, revision: _Revision) -> None:
        """Grant what is spare, oldest call first; ask for what is still wanted."""
        wants = revision.wants
        while wants and (heaps := [slots for slots in revision.slots.values() if slots.spare]):
            edge = min(wants, key=lambda edge: wants[edge][1])
            calls, since = wants.pop(edge)
            spare = sum(slots.spare for slots in heaps)
            surplus = max(0, spare - calls - sum(others for others, _ in wants.values()))
            count = min(spare, calls + surplus)  # what is idle serves best where calls come
            for slots, part in zip(heaps, spread(count, [slots.spare for slots in heaps]), strict=True):
                self._grant(edge, slots, part)
            if count < calls:
                wants[edge] = (calls - count, since)
        for edge in self._edges:
            others = [want for other, want in wants.items() if other != edge]
            if others and any(slots.held.get(edge) for slots in revision.slots.values()):
                ask = (sum(calls for calls, _ in others), min(since for _, since in others))
            else:
                ask = (0, 0.0)
            before = revision.asked.get(edge, (0, 0.0))
            if ask != before and (ask[0] or before[0]):
                self._tell(edge, Recall(*revision.key, *ask))
            revision.asked[edge] = ask
