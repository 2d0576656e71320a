"""What the process that has `queue.db` open knows of it without reading: counts of queues, leases, and the calls that run."""

from __future__ import annotations

from typing import Final

import msgspec

NEVER: Final = 1 << 62
"""A time that does not come."""


class Queue:
    """The counts of one queue. `first_due` is a time, in microseconds, before which no call of it is due; `bytes` are those of
    open calls, `kept` those of ended ones."""

    __slots__ = ("bytes", "dead", "first_due", "kept", "name", "number", "running", "waiting")

    def __init__(self, number: int, name: str, waiting: int, running: int, dead: int, size: int, kept: int) -> None:
        self.number, self.name = number, name
        self.waiting, self.running, self.dead = waiting, running, dead
        self.bytes, self.kept = size, kept
        self.first_due = 0 if waiting else NEVER


class Held(msgspec.Struct, frozen=True, gc=False):
    """A lease: until when, of which `take`."""

    take: int
    until: float


class Taken:
    """A record of calls that were taken together: its number, and how many of them still run."""

    __slots__ = ("number", "running")

    def __init__(self, number: int, running: int) -> None:
        self.number, self.running = number, running


class Running(msgspec.Struct, frozen=True):
    """What is known of a call that runs. `attempts` and `take` count this one, as its row does not yet."""

    seq: int
    queue: Queue
    due: int
    attempts: int
    take: int
    head_size: int
    body_size: int
    body_file: str | None
    taken: Taken
