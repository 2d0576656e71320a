"""How queues take turns: as evenly as the room that each has allows, call by call. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

Queue = TypeVar("Queue")
Call = TypeVar("Call")


def deal(room: Mapping[Queue, int], calls: int) -> list[tuple[Queue, int]]:
    """Return how many calls each queue may give now: as evenly as the room that each has allows, never more than `calls`."""
    if calls <= len(room):
        return [(queue, 1) for queue in list(room)[:calls]]
    each = calls // len(room)
    return [(queue, min(free, each)) for queue, free in room.items()]


def interleaved(lists: Sequence[Sequence[Call]]) -> list[Call]:
    """Return the calls of several queues in turns."""
    longest = max(map(len, lists), default=0)
    return [calls[i] for i in range(longest) for calls in lists if i < len(calls)]
