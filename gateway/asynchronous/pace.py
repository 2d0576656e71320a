"""How fast queues are emptied, and from that when somebody who found one full may come back."""

from __future__ import annotations

import math
from typing import Final

import msgspec

WINDOW_S: Final = 10.0
"""A pace is that of the last one to two windows."""
UNKNOWN_S: Final = 10
"""When to come back to a queue of which nothing is known yet."""
SOONEST_S: Final = 1
LATEST_S: Final = 300
SHARE: Final = 0.1
"""Who comes back finds this part of what waited gone: many come back, and at the first free place all but one would in vain."""


def retry_after_s(waiting: int, ends_per_s: float | None) -> int:
    """Return in how many seconds to come back to a full queue of `waiting` calls that is emptied at that rate (None: unknown).

    1,000 calls of which 5 end a second: a tenth of them is gone in 20 s.
    """
    if ends_per_s is None:
        return UNKNOWN_S
    room = max(1.0, waiting * SHARE)
    if ends_per_s * LATEST_S <= room:
        return LATEST_S
    return max(SOONEST_S, math.ceil(room / ends_per_s))


class _Window(msgspec.Struct):
    since: float
    ends: int = 0
    before: int = 0
    before_s: float = 0.0


class Pace:
    """Counts the calls of each queue that ended. Times are monotonic seconds; what ended before `since` is not known."""

    def __init__(self, since: float) -> None:
        self._since = since
        self._windows: dict[str, _Window] = {}

    def ended(self, queue: str, now: float) -> None:
        """A call of the queue has ended."""
        window = self._windows.get(queue)
        if window is None or now - window.since >= WINDOW_S:
            window = self._turned(queue, window, now)
        window.ends += 1

    def per_s(self, queue: str, now: float, due_for_s: float = math.inf) -> float | None:
        """Return how many calls of the queue end in a second; None where that cannot be told yet. That none has ended tells
        nothing where the first of those that wait has been due for less than a window (`due_for_s`)."""
        window = self._windows.get(queue)
        if window is None or now - window.since >= 2 * WINDOW_S:
            return None if min(now - self._since, due_for_s) < WINDOW_S else 0.0
        took_s = now - window.since + window.before_s
        return None if took_s < 1.0 else (window.ends + window.before) / took_s

    def forget(self, queue: str) -> None:
        """The queue is no more."""
        self._windows.pop(queue, None)

    def _turned(self, queue: str, old: _Window | None, now: float) -> _Window:
        """Begin the queue's next window; the one before counts along unless it is long over."""
        fresh = _Window(now)
        if old is not None and now - old.since < 2 * WINDOW_S:
            fresh.before, fresh.before_s = old.ends, now - old.since
        self._windows[queue] = fresh
        return fresh
