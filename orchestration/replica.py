"""A replica: one running copy of a revision, and the states it passes through.

    Pending ──► Running ──► Draining ──► Stopped
       │  ▲        │
       ▼  │        ▼ (process ends)
    CrashLoopBackOff

Only a Running replica gets calls. A Draining one finishes what it has and gets nothing new; it stops once the
dispatcher has acknowledged that none of its calls is in flight, or when its grace is over.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from orchestration.starts import Start


class ReplicaState(enum.StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    CRASH_LOOP = "CrashLoopBackOff"
    DRAINING = "Draining"
    STOPPED = "Stopped"


class Endpoint(msgspec.Struct, frozen=True):
    """Where a replica listens: a Unix socket (`unix` is its path) or TCP (`host`, `port`)."""

    unix: str | None = None
    host: str | None = None
    port: int = 0

    def __str__(self) -> str:
        if self.unix is not None:
            return f"unix:{self.unix}"
        return f"[{self.host}]:{self.port}" if ":" in (self.host or "") else f"{self.host}:{self.port}"


class Replica(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`id` is unique for ever and is what logs call the instance. `reason` is one line for people; empty when all is well.

    `restarts` counts processes that ended by themselves, `last_end` says how the last of them did (empty: none has).
    `started_at` is Unix seconds of the present process, or None. `start` says what its start took, once it is Running and
    where that is known.
    """

    id: str
    namespace: str
    function: str
    revision: str
    state: ReplicaState
    endpoint: Endpoint | None = None
    reason: str = ""
    restarts: int = 0
    last_end: str = ""
    started_at: float | None = None
    ready_at: float | None = None
    pid: int | None = None
    start: Start | None = None


def troubles(replicas: Iterable[Replica]) -> dict[str, str]:
    """Return why replicas are not ready, by revision: what one of each says."""
    found: dict[str, str] = {}
    for replica in replicas:
        if replica.reason:
            found.setdefault(replica.revision, replica.reason)
    return found
