"""The calls of a revision that wait for a slot: a FIFO, bounded by calls and bytes; by age through the calls' own deadlines."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from gateway.edge.backend import Backend
from gateway.edge.refusal import Refusal


class Waiter(Protocol):
    """A call as the dispatcher sees it: `held` bytes in memory, `started` at (monotonic seconds)."""

    held: int
    started: float

    def waited(self, now: float, cold: bool) -> None:
        """The call waited until `now` and will be started; `cold`: there was no replica when it came."""

    def start(self, backend: Backend) -> None:
        """A slot on `backend` is taken for the call: send it."""

    def refuse(self, refusal: Refusal) -> None:
        """The dispatcher has let go of the call: answer it."""


class Waiting:
    """`calls` are who waits, oldest first, and whether because there was no replica; they hold `held_bytes` in memory.
    `function` is what messages call theirs."""

    __slots__ = ("_most_bytes", "_most_calls", "calls", "function", "held_bytes")

    def __init__(self, function: str, most_calls: int, most_bytes: int) -> None:
        self.calls: OrderedDict[Waiter, bool] = OrderedDict()
        self.function = function
        self.held_bytes = 0
        self._most_calls, self._most_bytes = most_calls, most_bytes

    def has_room(self, waiter: Waiter) -> bool:
        """Whether one more may wait."""
        return len(self.calls) < self._most_calls and self.held_bytes + waiter.held <= self._most_bytes

    def add(self, waiter: Waiter, cold: bool) -> None:
        """A call comes to the end."""
        self.calls[waiter] = cold
        self.held_bytes += waiter.held

    def add_first(self, waiter: Waiter) -> None:
        """A call that had a slot comes back, before all others."""
        self.add(waiter, False)
        self.calls.move_to_end(waiter, last=False)

    def take(self) -> tuple[Waiter, bool]:
        """Take the oldest, and whether it came when there was no replica."""
        waiter, cold = self.calls.popitem(last=False)
        self.held_bytes -= waiter.held
        return waiter, cold

    def remove(self, waiter: Waiter) -> None:
        """A call leaves."""
        del self.calls[waiter]
        self.held_bytes -= waiter.held

    def grew(self, size: int) -> bool:
        """One of them holds `size` bytes more. Returns whether all together may hold that."""
        self.held_bytes += size
        return self.held_bytes <= self._most_bytes

    def oldest_s(self, now: float) -> float:
        """For how long the first one has waited; 0 when none does."""
        return now - next(iter(self.calls)).started if self.calls else 0.0

    def full(self) -> Refusal:
        """Return what one more is told."""
        # 503, not 429: a 429 is the function's own word about one client; here all clients are told to come back.
        text = f"function {self.function} is overloaded: {len(self.calls)} calls wait already"
        return Refusal(503, text, retry_after_s=1, busy=True)
