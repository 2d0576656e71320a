"""Spans as they travel from who saw something to who exports it: plain records, made into SDK spans over there.

A call is one record, however many spans it becomes (`call_spans`): at the edge it costs two microseconds instead of
27 for each span.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Attribute = str | int | float | bool
Kind = Literal["internal", "server", "client", "producer", "consumer"]
BATCH: Final = 512
"""Most records in one frame."""


class Span(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=0):
    """One span: ids in hex digits, times in nanoseconds since 1970. `parent` is empty for a root, `error` when all is well.

    `service` names whose span it is where that is not the platform's.
    """

    trace: str
    span: str
    parent: str
    name: str
    kind: Kind
    start_ns: int
    end_ns: int
    attributes: dict[str, Attribute] = {}
    error: str = ""
    service: str = ""


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """A call that was sent to a replica, or was to be, and not served there; seconds since the call's start."""

    from_s: float
    to_s: float
    why: str


class CallTrace(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=1):
    """One call, from the edge's clock: `start_ns` since 1970, all else seconds since then; a negative number: did not happen.

    `taken_s` is when it got its slot, `answered_s` when the answer began. `handler_s` is how long the function's runtime says
    that its code ran. `replica_started`, `replica_ready` are Unix seconds, of the replica that a cold call waited for;
    `phases` are those of its start, one after the other, in seconds.
    """

    trace: str
    parent: str
    function_span: str
    call_id: str
    start_ns: int
    ended_s: float
    method: str
    path: str
    function: str
    namespace: str
    revision: str
    replica: str
    status: int
    waited_s: float
    taken_s: float
    answered_s: float
    handler_s: float
    cold: bool
    replica_started: float
    replica_ready: float
    attempts: list[Attempt] = []
    phases: dict[str, float] = {}
    start_kind: str = ""


Record = Span | CallTrace
