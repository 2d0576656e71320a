"""What an asynchronous call is, from its submission to its end.

                   ┌──────────────── retried, given back, lease over ───────────────┐
                   ▼                                                                │
    submit ──► WAITING ── taken when due ──► RUNNING ───────────────────────────────┘
                │  ▲                          │   │
       cancelled│  └── replayed ── DEAD ◄─────┘   ├──► SUCCEEDED
                ▼                   ▲             │
            CANCELLED   time is up ─┘             └──► CANCELLED

Times are seconds since 1970: a call outlives the process, and the machine's monotonic clock.
"""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Final

import msgspec

from orchestration.names import FunctionId

INLINE_BYTES: Final = 64 * 1024
"""A longer body is a file of its own (or whatever the store has for that), not a part of the call's row."""

DRAWN: Final = 256
"""So many ids' random bits are drawn at a time."""

DUE_COUNTED: Final = 10_000
"""More calls of a queue that are due are not counted by a look: this many ask for all the replicas that a function may have."""

Headers = tuple[tuple[str, str], ...]
"""Names and values in the order in which they came; bytes beyond ASCII as Latin-1."""


class State(enum.StrEnum):
    """Where a call stands. WAITING and RUNNING calls are *open*; the others have ended, and only DEAD ones can be replayed."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the call by itself."""
        return self not in (State.WAITING, State.RUNNING)


class Body(msgspec.Struct, frozen=True):
    """A body that a store holds: `data` where it is at most INLINE_BYTES long, else None, and `where` is the store's own
    name of it, for `Store.chunks`."""

    size: int = 0
    data: bytes | None = b""
    where: str = ""


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A call to be kept.

    `queue` names the line in which it waits: limits, bounds, fairness and counts go by it. Calls of a function wait in
    `queue_of(function)`; what is done for a function besides has lines of its own. `path` begins with a slash and includes
    the query. A `body` that is a path is a file in the store's `spool`, which belongs to the store from then on.
    With `url` the request goes there and not to the function. `due` is when it may be carried out first, `expires` when it is
    not worth doing any more (0: never). `id` is the client's wish; a new one is made where it is empty, or taken already.
    """

    queue: str
    function: FunctionId
    method: str = "POST"
    path: str = "/"
    headers: Headers = ()
    body: bytes | Path = b""
    url: str = ""
    due: float = 0.0
    expires: float = 0.0
    idempotency_key: str = ""
    id: str = ""


class Receipt(msgspec.Struct, frozen=True):
    """The call's id; `repeated` where this was a repetition of an earlier submission, whose id this is."""

    id: str
    repeated: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one attempt. `status` is the response's, 0 where there was none; `reason` says for people why it failed,
    and is empty where it did not. `cut` where the body was longer than what is kept."""

    status: int = 0
    headers: Headers = ()
    reason: str = ""
    started: float = 0.0
    ended: float = 0.0
    cut: bool = False


class Lease(msgspec.Struct, frozen=True):
    """The right to carry out a call: `take` counts how often it was taken, so that an overdue worker's word is told from
    the present one's."""

    id: str
    take: int


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of a call. `attempts` counts those that have begun since it was submitted or replayed;
    `outcome` is of the last one that has ended, None before that; `result` is its response's body, empty unless the call
    has ended. `ended` is 0 while the call is open."""

    id: str
    queue: str
    function: FunctionId
    state: State
    method: str
    path: str
    headers: Headers
    body: Body
    url: str = ""
    submitted: float
    due: float
    expires: float = 0.0
    ended: float = 0.0
    attempts: int = 0
    takes: int = 0
    idempotency_key: str = ""
    outcome: Outcome | None = None
    result: Body = Body()

    @property
    def lease(self) -> Lease:
        """The lease of who took the call last."""
        return Lease(self.id, self.takes)

    def had_expired(self, outcome: Outcome) -> bool:
        """Whether its time to live was over when it was taken for that outcome: then nothing was attempted."""
        return 0 < self.expires <= outcome.started


class Depth(msgspec.Struct, frozen=True):
    """How full a queue is: calls by state, bytes of the requests of open ones, when the oldest waiting one that is due became
    due (0: none is), and how many are `due` (more than DUE_COUNTED need not be counted)."""

    waiting: int = 0
    running: int = 0
    dead: int = 0
    bytes: int = 0
    oldest_due: float = 0.0
    due: int = 0


def queue_of(function: FunctionId) -> str:
    """Return the line in which a function's calls wait; those to one of its tags (`name--tag`) wait in the same one."""
    return f"{function.name.partition('--')[0]}.{function.namespace}"


def new_id(now: float) -> str:
    """Return a call id: a UUID of version 7 (RFC 9562 section 5.7), whose 74 random bits nobody guesses.

    What is known of a call is open to everybody who knows its id. That ids grow with time keeps a store's index compact.
    """
    global _moment  # noqa: PLW0603  # many calls come in a millisecond, and its digits are a third of what an id costs
    moment = int(now * 1000) & (2**48 - 1)
    known, digits = _moment
    if moment != known:
        digits = f"{moment >> 16:08x}-{moment & 0xFFFF:04x}-7"
        _moment = (moment, digits)
    try:
        return digits + _drawn.pop()
    except IndexError:
        _drawn.extend(_draw())
        return digits + _drawn.pop()


def _draw() -> list[str]:
    """Return the random part of DRAWN ids: to ask the system for each by itself takes as long as all the rest."""
    chances = os.urandom(10 * DRAWN).hex()
    return [
        f"{chances[at : at + 3]}-{_VARIANT[chances[at + 3]]}{chances[at + 4 : at + 7]}-{chances[at + 7 : at + 19]}"
        for at in range(0, len(chances), 20)
    ]


_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_moment = (-1, "")
_drawn: list[str] = []
os.register_at_fork(after_in_child=_drawn.clear)  # each id is one process's
