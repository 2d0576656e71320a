"""Where calls are kept: the contract that every store fulfils.

**Durable** means: what a method did outlives `kill -9` of any process at any time, and, where the store's own settings say
so, a loss of power. `submit`, `finish`, `retry`, `cancel` and `replay` return when their change is durable. `take`, `extend`
and `release` need not be: when their change is lost with the power, a call is carried out once more, which "at least once"
allows.

**Atomic**: each method does all that it does, or nothing; what it does is seen at once by all who use the store, also in
other processes.

**Time** is an argument, `now`, in seconds since 1970; no store reads a clock for what it decides. Only waits (`changed`,
`ended`) take real time.

**Errors**: every method raises StoreUnavailable when the store cannot do its work (a full disk, a server that is away).
Nothing has been done then, or, when the connection was lost in the middle, that is not known: then `submit` may be repeated
with the same idempotency key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, Self

import msgspec

from gateway.asynchronous.calls import Body, Call, Depth, Lease, Outcome, Receipt, State, Submission


class StoreUnavailable(Exception):
    """The store cannot do its work now; the message is one line that says why."""


class QueueFull(Exception):
    """A submission would exceed its queue's bound; nothing was kept. The message says which bound."""

    @classmethod
    def of_calls(cls, queue: str, waiting: int | str, most: Bounds) -> Self:
        """So many calls wait already."""
        return cls(f"{waiting} calls of {queue} wait already; at most {most.calls} may")

    @classmethod
    def of_bytes(cls, queue: str, held: int | str, most: Bounds) -> Self:
        """Its calls hold so many bytes already."""
        return cls(f"calls of {queue} hold {held} bytes already; at most {most.bytes} may wait")


class Bounds(msgspec.Struct, frozen=True):
    """What may wait in one queue: calls, and bytes of their requests."""

    calls: int = 1_000_000
    bytes: int = 1 << 30


UNBOUNDED: Final = Bounds(1 << 62, 1 << 62)


def unbounded(queue: str) -> Bounds:
    """Return bounds that nothing exceeds."""
    return UNBOUNDED


class Keep(msgspec.Struct, frozen=True):
    """For how long ended calls are kept, in seconds after their end, and how many bytes they take at most, with their
    requests (the oldest go first, dead ones last)."""

    ended_s: float = 86_400.0
    dead_s: float = 7 * 86_400.0
    bytes: int = 1 << 30


class Store(Protocol):
    """A store of calls. An async context manager or not is the implementation's own matter; `close` ends its use."""

    @property
    def spool(self) -> Path:
        """The folder in which bodies of more than INLINE_BYTES are gathered before they are submitted; who makes a file
        there owns it until it is handed to `submit`, `finish` or `retry`. Left-over files are removed when a store opens."""

    async def submit(
        self, submissions: Sequence[Submission], now: float, bounds: Callable[[str], Bounds] = unbounded
    ) -> list[Receipt]:
        """Keep calls, all of them or none; return their receipts in the same order, once all are durable.

        A submission whose queue has a call with the same idempotency key, in whatever state, is not kept again: its receipt
        has that call's id and says `repeated`. Keys are known for as long as their calls are kept.
        Files of bodies belong to the store also when this raises; those of repeated submissions are removed.
        Calls are WAITING until their `due` (at once where that is past).
        `bounds(queue)` is what may wait in that queue; it is quick and may be called from any thread. Raises QueueFull when
        a queue would hold more.
        """

    async def take(self, limit: Callable[[str], int], at_most: int, now: float, lease_s: float) -> list[Call]:
        """Take up to `at_most` calls that are due, and return them RUNNING: `attempts` and `takes` one more each. Until
        `now + lease_s` nobody else gets them.

        `limit(queue)` is how many calls of that queue may run at a time, whoever took them: no more are taken. It is quick
        and may be called from any thread. Queues take turns, call by call, starting behind the one served last, so that
        none waits for another's backlog; within a queue the one that became due first is first. Calls that have expired are
        taken like others: who takes one ends it (and whatever is to follow from its end, follows).
        """

    async def extend(self, lease: Lease, now: float, lease_s: float) -> bool:
        """Prolong a lease to `now + lease_s`. False when it is not held any more (cancelled, over and taken again, ended):
        then the work is to be broken off, and its outcome is nobody's."""

    async def finish(
        self,
        lease: Lease,
        state: State,
        outcome: Outcome,
        now: float,
        *,
        body: bytes | Path = b"",
        then: Sequence[Submission] = (),
    ) -> bool:
        """End a call as SUCCEEDED or DEAD with its outcome and the response's body, and submit what follows from its end
        (`then`, without bounds) in the same step. False, and nothing is done, when the lease is not held any more."""

    async def retry(self, lease: Lease, due: float, outcome: Outcome, now: float) -> bool:
        """Let a call wait until `due` for its next attempt. False, and nothing is done, when the lease is not held."""

    async def release(self, leases: Sequence[Lease], now: float) -> None:
        """Give calls back that were not carried out: they wait as before and are due, and the attempts do not count. Leases
        that are not held any more are passed over."""

    async def cancel(self, call_id: str, now: float, *, then: Sequence[Submission] = ()) -> State | None:
        """End an open call as CANCELLED, and submit what follows from that (`then`, without bounds, with short bodies) in the
        same step; return the state in which it was found: an ended call stays as it is, and nothing follows. None when it is
        not known. Whoever carries it out learns of it by `extend`."""

    async def replay(self, call_id: str, now: float) -> State | None:
        """Let a DEAD call wait again, due at once, without attempts, without an expiry. Returns the state in which it was
        found: only a dead one is changed. None when it is not known."""

    async def replay_all(self, queue: str, now: float, at_most: int = 1000) -> int:
        """Let up to `at_most` dead calls of a queue wait again, the oldest first; return how many. Calling it until it
        returns 0 replays all that were dead."""

    async def get(self, call_id: str) -> Call | None:
        """Return a call, or None when it is not known (any more)."""

    async def ended(self, call_id: str, timeout_s: float) -> Call | None:
        """Return a call once it has ended, as it is then, or after `timeout_s` as it is; None when it is not known."""

    async def page(
        self, queue: str | None = None, states: Sequence[State] = (), limit: int = 100, before: str = ""
    ) -> list[Call]:
        """Return the newest calls first, at most `limit`: of one queue or all, in one of `states` or any; `before` is the id
        of the last one of the page before. Bodies are not included (`data` is None, `where` is empty)."""

    async def depths(self, now: float) -> Mapping[str, Depth]:
        """Return the depth of each queue that holds a waiting, running or dead call. Costs nothing per call."""

    async def sweep(self, now: float, keep: Keep) -> bool:
        """Do what time asks for, a bounded piece at a time: leases that are over end (their calls wait again, due at once;
        the attempt counts), and ended calls whose time is over are forgotten with their bodies. Where `now` is before that of
        the last sweep (the clock was set back), calls that were due when they were submitted are so all the same: at the
        latest when there is no more to do. True when there is more to do at once."""

    async def changed(self, timeout_s: float) -> None:
        """Return when there may be something to take that was not there at the last `take`: a call was submitted, one
        became due by a change, a running one ended. At the latest after `timeout_s`. Calls that become due by the clock
        alone are not told: see `next_due`."""

    async def next_due(self) -> float | None:
        """Return when the first waiting call is due, at the earliest; None when none waits."""

    def chunks(self, body: Body) -> AsyncIterator[bytes]:
        """Yield a body's bytes in pieces of at most 256 KiB. Raises KeyError when it is not there any more."""

    async def close(self) -> None:
        """Let go. What was begun is finished first; calls that are still taken stay so until their leases end, or, where
        the store knows that nobody else has it open, until it is opened again."""
