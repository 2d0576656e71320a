"""Which calls are traced, and what is known of those: decided and noted here, made into spans elsewhere (`telemetry.spans`).

At its head a call is sampled when its client samples it (`traceparent`), or, where the client says nothing, by chance. At
its end it is traced all the same when it failed (5xx), was tried again, or waited for a replica that was not there: the edge
knows the times that spans are made of for all calls. A call without a trace costs a look for `traceparent` and a countdown.

A trace that begins here has the call's id for its id, without the dashes. Upstream goes the id of the function's span as
the parent, so that what the function records stands below it.
"""

from __future__ import annotations

import math
import random
import re
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from gateway.edge.plain import TRACEPARENT
from orchestration.starts import PHASES
from telemetry import trace_context
from telemetry.span_sink import SpanSink
from telemetry.spans import Attempt, CallTrace

if TYPE_CHECKING:
    from gateway.edge.call import Call
    from orchestration.replica import Replica

_MARKS: Final = re.compile(rb"X-Call-Id: ([^\r]*)\r\nX-Start-Time: ([0-9]+)\r\n").match
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_DURATION: Final = re.compile(rb"(?i:\r\nx-duration-seconds: )([0-9]{1,9}(?:\.[0-9]{1,9})?)\r\n").search
_NEVER: Final = 1 << 62
TRACED: Final = "X-Pinnace-Traced"
"""What the answer to a worker carries where the edge traces the call: spans of its queue are to hang together with those."""
TRACED_LINE: Final = f"{TRACED}: true\r\n".encode()
_WARM: Final[dict[str, Any]] = {"replica_started": 0.0, "replica_ready": 0.0}


class Trace:
    """What is noted of one call that is traced. Times are the edge's clock."""

    __slots__ = ("answered_at", "attempts", "cold", "function_span", "handler_s", "parent", "trace")

    def __init__(self, trace: bytes, parent: bytes) -> None:
        self.trace = trace
        self.parent = parent
        self.function_span = b"%016x" % (random.getrandbits(64) or 1)
        self.cold = False
        self.answered_at = -1.0
        self.handler_s = -1.0
        self.attempts: list[Attempt] = []

    @property
    def header(self) -> bytes:
        """The line that tells the function."""
        return trace_context.header(self.trace, self.function_span)


class Tracing:
    """Decides, and gives records to `sink`. `ratio` of the calls that come without a trace get one.

    `left` is how many calls it is to the next of these. Who has a call counts it down, and need not ask before it is 0 where no
    trace is spoken of: that look costs 0.2 µs less than a call of `begin`.
    """

    __slots__ = ("_ratio", "left", "sink")

    def __init__(self, sink: SpanSink, ratio: float) -> None:
        self.sink = sink
        self._ratio = ratio
        self.left = self._gap()

    def _gap(self) -> int:
        """Return how many calls it is to the next that is sampled: geometric, so that each has the same chance."""
        if self._ratio <= 0:
            return _NEVER
        if self._ratio >= 1:
            return 1
        return 1 + int(math.log(1.0 - random.random()) / math.log(1.0 - self._ratio))  # noqa: S311  # chance, no secret

    def begin(self, marks: bytes, lines: bytes) -> Trace | None:
        """Return the trace of a call with these header lines, each preceded by a line end; None when it has none as yet."""
        if TRACEPARENT in lines and (parent := trace_context.read(lines)) is not None:
            return Trace(parent.trace, parent.span) if parent.sampled else None
        if self.left > 0:
            return None
        self.left = self._gap()
        return Trace(_trace_id(marks), b"")

    def later(self, call: Call) -> Trace:
        """Return a trace for a call that got none at its head, and tell the function of it if it has not been sent."""
        parent = trace_context.read(call.head) if TRACEPARENT in call.head else None
        trace = Trace(_trace_id(call.marks), b"") if parent is None else Trace(parent.trace, parent.span)
        if call.upstream is None and call.head.endswith(b"\r\n\r\n"):
            call.held -= len(call.head)
            call.head = retold(call.head[:-2], trace) + trace.header + b"\r\n"
            call.held += len(call.head)
        return trace

    def ended(self, call: Call, code: int, now: float) -> None:
        """Hand in what is known of a call that ended with `code`."""
        trace = call.trace
        assert trace is not None
        dispatcher = call.dispatcher
        match = _MARKS(call.marks)
        assert match is not None
        started = call.started
        backend = getattr(call, "backend", None)
        replica = dispatcher.replica(backend.id) if backend is not None else None
        line = call.head[: call.head.find(b"\r\n")]
        start_ns = int(match.group(2))
        trace_id = trace.trace.decode()
        self.sink.add(
            CallTrace(
                trace=trace_id,
                parent=trace.parent.decode(),
                function_span=trace.function_span.decode(),
                call_id=match.group(1).decode("ascii", "replace"),
                start_ns=start_ns,
                ended_s=now - started,
                method=call.method.decode(),
                path=f"/function/{dispatcher.name}.{dispatcher.namespace}{_path(line)}",
                function=dispatcher.name,
                namespace=dispatcher.namespace,
                revision=dispatcher.revision,
                replica=backend.id if backend is not None else "",
                status=code,
                waited_s=call.waited_s,
                taken_s=call.waited_s if backend is not None else -1.0,
                answered_s=trace.answered_at - started if trace.answered_at >= 0 else -1.0,
                handler_s=trace.handler_s,
                cold=trace.cold,
                attempts=trace.attempts,
                **(_cold_start(replica) if trace.cold and replica is not None else _WARM),
            )
        )
        call.tally.illustrate(code, trace_id, now - started, time_ns() / 1e9)


def retold(lines: bytes, trace: Trace) -> bytes:
    """Return the header lines without what they said of a trace; a new trace has no state either."""
    if b"race" not in lines and b"RACE" not in lines:
        return lines
    return trace_context.without(lines, state=not trace.parent)


def handler_s(head: bytes) -> float:
    """Return how long a response's head says that the function's code ran; negative when it does not."""
    match = _DURATION(head)
    return float(match.group(1)) if match is not None else -1.0


def _trace_id(marks: bytes) -> bytes:
    """Return the call's id as a trace id; another one where it is not of that form."""
    match = _MARKS(marks)
    if match is not None and _UUID(match.group(1).decode("ascii", "replace")):
        return match.group(1).replace(b"-", b"")
    return b"%032x" % (random.getrandbits(128) or 1)


def _cold_start(replica: Replica) -> dict[str, Any]:
    """Return what is known of the start of a replica that a call waited for."""
    start = replica.start
    if start is None:
        return {"replica_started": replica.started_at or 0.0, "replica_ready": replica.ready_at or 0.0}
    return {
        "replica_started": start.at,
        "replica_ready": start.at + start.total_s,
        "start_kind": start.kind,
        "phases": {phase: start.phase_s(phase) for phase in PHASES},
    }


def _path(line: bytes) -> str:
    target = line.split(b" ")[1] if b" " in line else b"/"
    path = target.partition(b"?")[0].decode("latin-1")
    return "" if path == "/" else path
