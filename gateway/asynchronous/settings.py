"""Every limit of asynchronous calls, with its default."""

from __future__ import annotations

import msgspec

from gateway.asynchronous.store import Bounds, Keep


class AsyncSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may set. Durations are seconds, sizes bytes."""

    body_bytes: int = 16 * 1024 * 1024
    """Request body; more is answered 413."""
    result_bytes: int = 16 * 1024 * 1024
    """How much of a response's body is kept; what is longer is cut, and says so."""
    waiting_calls: int = 1_000_000
    """Calls of one function that may wait; one more is answered 429."""
    waiting_bytes: int = 4 << 30
    """Bytes that the waiting calls of one function may hold; more is answered 429."""
    concurrency: int = 500
    """Calls that run at a time, of all functions together. One function gets no more than are left free then, so that there is
    always room for another one."""
    keep_s: float = 24 * 3600.0
    """How long a call and its result are known after its end."""
    keep_dead_s: float = 7 * 24 * 3600.0
    """How long a dead call can be replayed."""
    keep_bytes: int = 1 << 30
    """Most space for ended calls; the oldest go first, dead ones last."""
    lease_s: float = 30.0
    """How long a call that was taken is left alone when nothing is heard of whoever took it."""
    wait_s: float = 60.0
    """Longest `?wait=` for a call's end."""
    delay_s: float = 366 * 24 * 3600.0
    """Longest delay of a call's start."""

    @property
    def bounds(self) -> Bounds:
        """What may wait in one queue."""
        return Bounds(self.waiting_calls, self.waiting_bytes)

    @property
    def keep(self) -> Keep:
        """How long ended calls are kept."""
        return Keep(self.keep_s, self.keep_dead_s, self.keep_bytes)
