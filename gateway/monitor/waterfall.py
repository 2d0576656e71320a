"""Where a call's time went: its record, and what is known of the start of the replica that took it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

import msgspec

from gateway.edge.records import CallRecord
from orchestration.replica import Replica, ReplicaState
from orchestration.starts import Start as TimedStart
from orchestration.starts import parts

STARTS_KEPT: Final = 1024
"""0.55 KiB each: as many as the last cold calls of some dozen busy functions are explained by."""
LEAST_S: Final = 0.000_05
"""What takes less than 50 µs is no phase of its own."""


class Phase(msgspec.Struct, frozen=True, rename="camel"):
    """A part of a call's time: `queue` until a replica's start began or a slot was free, `start` of the replica, `send` from
    its readiness until the call was sent to it, `run` from then until the answer was complete."""

    name: str
    begin_ms: float
    duration_ms: float


class StartPart(msgspec.Struct, frozen=True, rename="camel"):
    """A part of a replica's start: `place` (waiting for one), `import`, `fork` or `spawn`, `ready`."""

    name: str
    duration_ms: float


class CallDetails(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A call that ended. `cold`: it waited for `replica` to start. `startedAt` is Unix seconds.

    `startKind` is what that replica's process is made of, `startParts` what its start took, one after the other; both are empty
    where the call was not cold or nothing is known.
    """

    id: str
    started_at: float
    method: str
    status: int
    replica: str
    duration_ms: float
    waited_ms: float
    cold: bool
    phases: list[Phase]
    start_kind: str = ""
    start_parts: list[StartPart] = []


class Start(NamedTuple):
    """When the replica's process began and when it was ready, in Unix seconds."""

    began_at: float
    ready_at: float
    timed: TimedStart | None


class Starts:
    """The last starts of replicas, those of replicas that are gone too."""

    def __init__(self) -> None:
        self._starts: OrderedDict[str, Start] = OrderedDict()

    def follow(self, replica: Replica) -> None:
        """A replica entered a state."""
        if replica.state is ReplicaState.RUNNING and replica.started_at is not None and replica.ready_at is not None:
            self._starts[replica.id] = Start(replica.started_at, replica.ready_at, replica.start)
            self._starts.move_to_end(replica.id)
            if len(self._starts) > STARTS_KEPT:
                self._starts.popitem(last=False)

    def details(self, record: CallRecord) -> CallDetails:
        """Return a call with its phases."""
        start = self._starts.get(record.replica)
        cold = start is not None and start.ready_at > record.started_at and record.waited_s > 0
        spans: list[tuple[str, float, float]] = []
        begin = 0.0
        if start is not None and cold:
            begun = min(max(0.0, start.began_at - record.started_at), record.waited_s)
            ready = min(max(begun, start.ready_at - record.started_at), record.waited_s)
            spans = [("queue", 0.0, begun), ("start", begun, ready), ("send", ready, record.waited_s)]
            begin = record.waited_s
        elif record.waited_s > LEAST_S:
            spans = [("queue", 0.0, record.waited_s)]
            begin = record.waited_s
        if record.replica:
            spans.append(("run", begin, record.duration_s))
        timed = start.timed if start is not None and cold else None
        return CallDetails(
            start_kind=timed.kind if timed else "",
            start_parts=[StartPart(name, _ms(took)) for name, took in parts(timed)] if timed else [],
            id=record.id,
            started_at=record.started_at,
            method=record.method.decode("latin-1"),
            status=record.code,
            replica=record.replica,
            duration_ms=_ms(record.duration_s),
            waited_ms=_ms(record.waited_s),
            cold=cold,
            phases=[Phase(name, _ms(a), _ms(b - a)) for name, a, b in spans if b - a >= LEAST_S or name == "run"],
        )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
