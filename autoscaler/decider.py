"""The decision: how many replicas a revision should have, from numbers alone.

Time comes in as `idle_s`, so that a decision can be replayed. The rules, first match wins:

1. Calls wait and nothing is wanted: wake with the floor, at least one.
2. Idle for longer than the function allows, and it may go to zero: zero.
3. Zero stays zero: someone scaled it there, and the next call wakes it.
4. Otherwise keep the count inside its bounds. Example: wanted 3, min 1, max 2 → 2.
"""

from __future__ import annotations

import msgspec

from orchestration.duration import format_duration
from orchestration.settings import ScaleSettings


class Decision(msgspec.Struct, frozen=True):
    """`replicas` to have, and the rule that gave that number in words."""

    replicas: int
    reason: str


def decide(settings: ScaleSettings, *, wanted: int, in_flight: int, queued: int, idle_s: float) -> Decision:
    """Return the replica count for a revision.

    `wanted` is the count it should have had until now; `in_flight` and `queued` are calls now, over all edges; `idle_s`
    is how many seconds ago the last call ended (0 while there are any).
    """
    if wanted == 0:
        if queued:
            count = max(1, settings.min_replicas)
            return Decision(count, f"{queued} waiting at zero → {count}")
        return Decision(0, "at zero until a call comes")
    busy = in_flight + queued > 0
    if settings.zero and not busy and idle_s >= settings.zero_after_s:
        return Decision(0, f"idle for {format_duration(idle_s)}, zero after {format_duration(settings.zero_after_s)} → 0")
    count = min(max(wanted, settings.min_replicas, 1), settings.max_replicas)
    if count > wanted:
        return Decision(count, f"raised to min {count}")
    if count < wanted:
        return Decision(count, f"limited by max {count}")
    return Decision(count, "within bounds")
