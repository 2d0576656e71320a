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

A replica's slots are dealt out once and stay until the replica is gone: also while it restarts or drains, when nobody
uses them. So it does not matter in which order an edge hears of replicas and of slots.

An edge that ended owns nothing: its slots are spare again. One that cannot be reached (`lost`) keeps what it owns until it
comes back, with a list of that, or is known to have given it up (`leave`; see `tenure`). A ledger that begins where another
left off does the same with the edges that the other knew (`await_edges`): what these may own is given to nobody until they
have come, or left. Calls that still run in a replica when their edge's slots are given up are the runtime's to count; what
it refuses waits (see `Dispatcher.turned_away`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from math import inf

from gateway.edge.messages import Claim, Grant, Recall, Return, Want
from orchestration.events import Event, FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.function import Function
from orchestration.names import FunctionId
from orchestration.replica import Replica, ReplicaState

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
    """A replica's slots, `limit` of them: those in `held`, `spare` ones, and `unknown` ones, which edges that are awaited may
    own. `open` while the replica is ready."""

    __slots__ = ("epoch", "held", "open", "replica", "revision", "spare", "unknown")

    def __init__(self, replica: str, revision: _Revision) -> None:
        self.replica = replica
        self.revision = revision
        self.open = True
        self.epoch = 0
        self.held: dict[str, int] = {}
        self.spare = 0
        self.unknown = 0

    def take(self, count: int) -> int:
        """Take up to `count` of what nobody is known to own; return how many there were."""
        unknown = min(count, self.unknown)
        spare = min(count - unknown, self.spare)
        self.unknown -= unknown
        self.spare -= spare
        return unknown + spare


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
    """Owns the truth about slots. `tell(edge, message)` must keep the order of what it is given.

    Where edges hear of events from here, they must have heard of one before the ledger does.
    """

    def __init__(self, tell: Callable[[str, Grant | Recall], None]) -> None:
        self._tell = tell
        self._edges: list[str] = []
        self._lost: set[str] = set()
        self._awaited: set[str] = set()
        self._claims: dict[str, dict[str, int]] = {}
        """By replica that is not known yet, or whose limit is not: what edges said that they own of it."""
        self._revisions: dict[RevisionKey, _Revision] = {}
        self._slots: dict[str, _Slots] = {}
        self._listed: dict[FunctionId, set[RevisionKey]] = {}
        self._epoch = 0

    # edges come and go

    def join(self, edge: str, claims: Iterable[Claim] = ()) -> None:
        """An edge takes part, and owns `claims`, as far as no other does. It gets more when it wants some, and its fair part
        of what others do not use, so that its first calls need not ask.

        Every slot that is left to it is granted to it again: a first grant counts from none.
        """
        claimed = {claim.replica: claim.slots for claim in claims if claim.slots > 0}
        self._lost.discard(edge)
        if edge not in self._edges:
            self._edges.append(edge)
        for slots in self._slots.values():
            if slots.epoch and (slots.replica in claimed or edge in slots.held):
                self._adopt(edge, slots, claimed.pop(slots.replica, 0))
        for replica, count in claimed.items():
            self._claims.setdefault(replica, {})[edge] = count
        self._arrived(edge)
        for revision in self._revisions.values():
            self._even_out(edge, revision)
            self._settle(revision)

    def lose(self, edge: str) -> None:
        """An edge cannot be reached: it keeps what it owns, and gets nothing."""
        if edge not in self._edges:
            return
        self._edges.remove(edge)
        self._lost.add(edge)
        for revision in list(self._revisions.values()):
            revision.wants.pop(edge, None)
            revision.asked.pop(edge, None)
            self._settle(revision)
            self._forget_unused(revision)

    def leave(self, edge: str) -> None:
        """An edge owns nothing any more: it ended, or has given up what it had."""
        self.lose(edge)
        self._lost.discard(edge)
        for claims in self._claims.values():
            claims.pop(edge, None)
        for slots in self._slots.values():
            slots.spare += slots.held.pop(edge, 0)
        self._arrived(edge)
        for revision in self._revisions.values():
            self._settle(revision)

    def await_edges(self, edges: Iterable[str]) -> None:
        """These may own slots of what comes from now on, and will join or leave."""
        self._awaited.update(edges)

    def forget_all(self) -> None:
        """Begin anew, with neither edges nor slots: another ledger has the truth."""
        self._edges.clear()
        self._lost.clear()
        self._awaited.clear()
        self._claims.clear()
        for revision in self._revisions.values():
            revision.wants.clear()
            revision.asked.clear()
            for slots in revision.slots.values():
                slots.held.clear()
                slots.epoch = slots.spare = slots.unknown = 0

    def begin(self) -> None:
        """Deal out the slots of all replicas that are there, which nobody has dealt out here yet."""
        for slots in self._slots.values():
            if not slots.epoch:
                self._deal(slots)

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
        if edge not in self._edges:
            return
        revision = self._revision((want.namespace, want.revision))  # the edge may have heard of it first
        if want.calls > 0:
            revision.wants[edge] = (want.calls, want.since)
        else:
            revision.wants.pop(edge, None)
        self._settle(revision)
        self._forget_unused(revision)

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

    def _forget_unused(self, revision: _Revision) -> None:
        """An edge may say that it wants nothing any more when the revision is gone already."""
        namespace, name = revision.key
        listed = self._listed.get(FunctionId(namespace, name.rpartition("-")[0]), set())
        if not revision.slots and not revision.wants and revision.key not in listed:
            self._revisions.pop(revision.key, None)

    def _replica_changed(self, replica: Replica) -> None:
        known = self._slots.get(replica.id)
        if replica.state is ReplicaState.STOPPED:
            self._claims.pop(replica.id, None)
            if known is not None:
                del self._slots[replica.id], known.revision.slots[replica.id]
                if known.revision.key not in self._listed.get(FunctionId(replica.namespace, replica.function), set()):
                    self._unlist({known.revision.key})
        elif known is not None:
            known.open = replica.state is ReplicaState.RUNNING
            self._settle(known.revision)
        elif replica.state is ReplicaState.RUNNING and replica.endpoint is not None:
            revision = self._revision((replica.namespace, replica.revision))
            slots = _Slots(replica.id, revision)
            self._slots[replica.id] = revision.slots[replica.id] = slots
            self._deal(slots)

    def _revision(self, key: RevisionKey) -> _Revision:
        if (revision := self._revisions.get(key)) is None:
            revision = self._revisions[key] = _Revision(key)
        return revision

    def _adopt(self, edge: str, slots: _Slots, claim: int) -> None:
        """Let an edge own what it claims, as far as it did or nobody does; the rest of what it did is spare."""
        before = slots.held.pop(edge, 0)
        count = min(claim, before)
        slots.spare += before - count
        count += slots.take(claim - count)
        slots.held[edge] = count
        self._tell(edge, Grant(*slots.revision.key, slots.replica, slots.epoch, count))

    def _even_out(self, edge: str, revision: _Revision) -> None:
        """Let an edge want its fair part, after all calls that wait."""
        ready = [slots for slots in revision.slots.values() if slots.open and slots.epoch]
        fair = (revision.limit or 0) // len(self._edges) * len(ready)
        short = fair - sum(slots.held.get(edge, 0) for slots in ready)
        if short > 0:
            revision.wants[edge] = (short, inf)

    def _arrived(self, edge: str) -> None:
        """An edge that was awaited has come or left; with the last one everything is known."""
        if edge in self._awaited:
            self._awaited.discard(edge)
            if not self._awaited:
                for slots in self._slots.values():
                    slots.spare, slots.unknown = slots.spare + slots.unknown, 0

    def _deal(self, slots: _Slots) -> None:
        """Give all of a replica's slots away, in a new epoch: what edges owned of it before is void.

        Those that cannot be reached keep theirs, and claims are honoured as far as they go.
        """
        limit = slots.revision.limit
        if not limit:
            return  # without a limit, or with one that is not known yet
        self._epoch += 1
        slots.epoch = self._epoch
        claims = self._claims.pop(slots.replica, {}) | {e: n for e, n in slots.held.items() if e in self._lost}
        slots.held, slots.spare, slots.unknown = {}, 0, limit
        for edge, claim in claims.items():
            slots.held[edge] = slots.take(claim)
        if not self._awaited:
            if not claims:
                slots.held, slots.unknown = shares(slots.replica, limit, self._edges), 0
            slots.spare, slots.unknown = limit - sum(slots.held.values()), 0
        for edge in self._edges:
            if edge in slots.held:
                self._tell(edge, Grant(*slots.revision.key, slots.replica, slots.epoch, slots.held[edge]))
        self._settle(slots.revision)

    def _grant(self, edge: str, slots: _Slots, count: int) -> None:
        if count:
            slots.spare -= count
            slots.held[edge] = slots.held.get(edge, 0) + count
            self._tell(edge, Grant(*slots.revision.key, slots.replica, slots.epoch, count))

    def _settle(self, revision: _Revision) -> None:
        """Grant what is spare, oldest call first; ask for what is still wanted."""
        wants = revision.wants
        while wants and (heaps := [slots for slots in revision.slots.values() if slots.open and slots.spare]):
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
            if others and any(slots.open and slots.held.get(edge) for slots in revision.slots.values()):
                ask = (sum(calls for calls, _ in others), min(since for _, since in others))
            else:
                ask = (0, 0.0)
            before = revision.asked.get(edge, (0, 0.0))
            if ask != before and (ask[0] or before[0]):
                self._tell(edge, Recall(*revision.key, *ask))
            revision.asked[edge] = ask
