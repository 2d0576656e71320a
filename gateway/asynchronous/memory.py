"""What the process that has `queue.db` open knows of it without reading: counts of queues, leases, and the calls that run."""

from __future__ import annotations

from typing import NamedTuple

from gateway.asynchronous.rows import NEVER


class Queue:
    """The counts of one queue. `first_due` is a time before which no call of it is due; `bytes` are those of open calls,
    `kept` those of ended ones."""

    __slots__ = ("bytes", "dead", "first_due", "kept", "name", "number", "running", "waiting")

    def __init__(self, number: int, name: str, waiting: int, running: int, dead: int, size: int, kept: int) -> None:
        self.number, self.name = number, name
        self.waiting, self.running, self.dead = waiting, running, dead
        self.bytes, self.kept = size, kept
        self.first_due = 0.0 if waiting else NEVER


class Held(NamedTuple):
    """A lease: until when, of which `take`."""

    take: int
    until: float


class Running(NamedTuple):
    """What the row of a call that runs says of it."""

    take: int
    seq: int
    queue: int
    size: int
    body_size: int
    body_file: str | None
