"""One call: from the moment its head is understood until the client has its answer.

    READ ──► WAITING ──► CONNECTING ──► SENT ──► RESPONDING ──► ENDED
                ▲            │            │
                └────────────┴────────────┘  not served there: back to the queue's front

A call is READ while it stands behind another one on its connection.
What was received of the request is held until a replica has answered (up to `held_body_bytes`), so that the call can
be sent once more where that is safe: when no byte was sent, when the method is idempotent and a pooled connection
turned out stale, or when the replica's runtime refused the call unread. A longer body streams, and is sent only once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.edge.backend import Backend
from gateway.edge.dispatcher import Dispatcher
from gateway.edge.records import CallRecord
from gateway.edge.refusal import Refusal
from gateway.edge.tally import Tally
from gateway.edge.tracing import TRACED_LINE, Trace, handler_s
from telemetry.call_spans import LEAST_ERROR
from telemetry.spans import Attempt

if TYPE_CHECKING:
    from gateway.edge.client import ClientConnection
    from gateway.edge.request import RequestHead
    from gateway.edge.upstream import UpstreamConnection

INFINITE: Final = float("inf")
ATTEMPTS: Final = 3
CLIENT_LEFT: Final = 499
AFTER_RUNTIME_S: Final = 0.25
"""By how much the replica's runtime, whose limit is the same, comes first: its log then names the call."""

_IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


READ: Final = 0  # plain numbers: looking up an enum's member costs a warm call half a microsecond in all
WAITING: Final = 1
CONNECTING: Final = 2
SENT: Final = 3
RESPONDING: Final = 4
ENDED: Final = 5


class Call:
    """`marks` are the header lines that request and response carry: the call's id and its start.

    `refusal` is set when the call is refused before it gets to a dispatcher. `waited_s` is how long after its start it got
    the slot that it has (0: at once; else `cold` says whether no replica was there), `sent` when it was last sent to a replica
    (0: never). `trace` is None for calls that are not
    traced, or not yet.
    """

    __slots__ = (
        "attempts",
        "backend",
        "body",
        "chunked",
        "client",
        "cold",
        "complete",
        "deadline",
        "dispatcher",
        "expect",
        "head",
        "head_only",
        "held",
        "http10",
        "keep_alive",
        "marks",
        "method",
        "phase",
        "received",
        "refusal",
        "sent",
        "started",
        "tally",
        "trace",
        "upgrade",
        "upstream",
        "waited_s",
    )

    backend: Backend
    cold: bool
    dispatcher: Dispatcher
    tally: Tally

    def __init__(self, client: ClientConnection, method: bytes, marks: bytes, started: float) -> None:
        self.client = client
        self.method = method
        self.marks = marks
        self.started = started
        self.head_only = method == b"HEAD"
        self.http10 = self.chunked = self.expect = self.upgrade = False
        self.keep_alive = self.complete = True
        self.head = b""
        self.body: list[bytes] | None = []
        self.held = 0
        self.received = 0
        self.refusal: Refusal | None = None
        self.attempts = 0
        self.deadline = INFINITE
        self.phase = READ
        self.sent = 0.0
        self.upstream: UpstreamConnection | None = None
        self.waited_s = 0.0
        self.trace: Trace | None = None

    # the request

    def parsed(self, head: RequestHead) -> None:
        """Take what a head says that may be out of the ordinary."""
        self.http10 = head.http10
        self.keep_alive = head.keep_alive
        self.chunked = head.chunked
        self.expect = bool(head.expect) and not head.http10
        self.upgrade = bool(head.upgrade)
        self.complete = not head.chunked and not head.length

    def dispatch(self, now: float) -> None:
        """Hand the call, whose `head` is composed, to its dispatcher."""
        self.phase = WAITING
        self.deadline = now + self.client.context.settings.queue_timeout_s
        self.dispatcher.admit(self, now)

    def receive(self, data: bytes) -> None:
        """A piece of the body came."""
        self.received += len(data)
        if self.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._forward(data)

    def finish_request(self, trailers: list[bytes]) -> None:
        """The request is complete."""
        if not self.complete:
            self.complete = True
            if self.chunked:
                self._forward(b"0\r\n%b\r\n" % b"".join(trailers))

    def _forward(self, data: bytes) -> None:
        if self.phase == ENDED:
            return
        limit = self.client.context.settings.held_body_bytes
        if (upstream := self.upstream) is not None:
            upstream.transport.write(data)
            if self.body is not None:
                if self.held + len(data) > limit:
                    self.body = None
                else:
                    self.body.append(data)
                    self.held += len(data)
            return
        assert self.body is not None
        self.body.append(data)
        self.held += len(data)
        if self.held > limit:
            self.client.pause_reading()
        if self.phase == WAITING:
            self.dispatcher.grew(self, len(data))

    # a replica takes it

    def waited(self, now: float, cold: bool) -> None:
        """The call waited until `now` for the slot that it gets; a second time it is tried again, which is counted once."""
        if not self.waited_s:
            self.tally.waited(now - self.started, cold)
            self.cold = cold
        self.waited_s = now - self.started
        if cold and (trace := self._traced()) is not None:
            trace.cold = True

    def start(self, backend: Backend) -> None:
        """The dispatcher took a slot on `backend` for this call."""
        self.backend = backend
        upstream: UpstreamConnection | None = backend.connections.take()
        if upstream is not None:
            self.send(upstream)
        else:
            self.phase = CONNECTING
            backend.connections.connect(self)

    def send(self, upstream: UpstreamConnection) -> None:
        """Send what is held of the request; the rest streams as it comes."""
        client = self.client
        self.phase = SENT
        self.upstream = upstream
        self.sent = now = client.context.clock()
        self.deadline = now + self.dispatcher.timeout_s + AFTER_RUNTIME_S
        upstream.begin(self, b"".join((self.head, *self.body)) if self.body else self.head)
        if client.writing_paused:
            upstream.pause_reading()
        if not self.complete:
            if self.expect and not self.received:
                client.transport.write(_CONTINUE)
            self.expect = False
            client.resume_reading()

    def not_connected(self, why: str) -> None:
        """The replica could not be reached; no byte was sent."""
        self.attempts += self.backend.open  # a replica that is gone by now says nothing about the others
        if self.attempts < ATTEMPTS:
            self._wait_again(why)
        else:
            self._refuse_from_backend(Refusal(502, f"cannot reach the replica: {why}"))

    def not_answered(self, why: str, *, stale: bool) -> None:
        """The connection ended before the response began. A `stale` one came from the pool and had served before."""
        if stale and self.method in _IDEMPOTENT and self.may_be_sent_again():
            self.attempts += 1
            self._wait_again(why)
        else:
            self._refuse_from_backend(Refusal(502, why))

    def may_be_sent_again(self) -> bool:
        """Whether another attempt is possible: all that was received is still held."""
        return self.body is not None and self.attempts + 1 < ATTEMPTS

    def turned_away(self) -> None:
        """The replica's runtime refused the call before it read the body."""
        self._wait("its runtime has no slot free")
        self.dispatcher.turned_away(self, self.backend, self.client.context.clock())

    def _wait_again(self, why: str) -> None:
        self._wait(why)
        self.dispatcher.put_back(self, self.backend)

    def _wait(self, why: str) -> None:
        if (trace := self._traced()) is not None:
            trace.attempts.append(Attempt(self.waited_s, self.client.context.clock() - self.started, why))
        self.upstream = None
        self.phase = WAITING
        self.deadline = self.started + self.client.context.settings.queue_timeout_s

    # the end

    def end(self, code: int, now: float, keep_alive: bool, limit_s: float = 0.0) -> None:
        """The response has been handed to the client's transport, or broke off."""
        if self.phase == ENDED:
            return
        self.phase = ENDED
        self.upstream = None
        started = self.started
        self.tally.ended(
            CallRecord(self.marks, self.method, code, self.sent - started, now - started, self.backend.id, limit_s)
        )
        if self.trace is not None or code >= LEAST_ERROR:
            self._hand_in_trace(code, now)
        dispatcher = self.dispatcher
        if dispatcher.counted is not None:
            dispatcher.counted.count(code, now - self.sent)
        dispatcher.release(self.backend, now)
        self.client.call_ended(self, keep_alive)

    def break_off(self, code: int, limit_s: float = 0.0) -> None:
        """The response broke in the middle: the client must see that, so its connection breaks too."""
        client = self.client
        self.end(code, client.context.clock(), False, limit_s)
        client.abort()

    def refuse(self, refusal: Refusal, limit_s: float = 0.0) -> None:
        """Answer with an error of the edge's own; the dispatcher has let go of the call."""
        self.phase = ENDED
        self._ended(refusal.status, self.client.context.clock(), limit_s)
        self.client.refuse(self, refusal)

    def _refuse_from_backend(self, refusal: Refusal, limit_s: float = 0.0) -> None:
        self.upstream = None
        self.phase = ENDED
        now = self.client.context.clock()
        self._ended(refusal.status, now, limit_s)
        self.dispatcher.release(self.backend, now)
        self.client.refuse(self, refusal)

    def expire(self, now: float) -> None:
        """The deadline has passed."""
        dispatcher = self.dispatcher
        name = f"{dispatcher.name}.{dispatcher.namespace}"
        if self.phase == WAITING:
            waited = self.client.context.settings.queue_timeout_s
            why = "all replicas are busy" if dispatcher.ready else "no replica is ready"
            trouble = self.client.context.trouble
            text = f"function {name}: {why} after waiting {waited:g} s" + (f": {trouble}" if trouble else "")
            busy = not trouble and dispatcher.ready > 0
            self.cut(Refusal(503 if trouble else 504, text, retry_after_s=1, busy=busy), waited)
        else:
            limit_s = dispatcher.timeout_s
            self.cut(Refusal(504, f"function {name} did not answer within {limit_s:g} s"), limit_s)

    def cut(self, refusal: Refusal, limit_s: float = 0.0) -> None:
        """End the call wherever it is: with this answer, or by breaking the connection when an answer has begun. `limit_s` is
        the limit that it came to."""
        phase = self.phase
        if phase == ENDED:
            return
        if phase == WAITING:
            self.dispatcher.leave(self, self.client.context.clock())
            self.refuse(refusal, limit_s)
            return
        if self.upstream is not None:
            self.upstream.drop()
        if phase == RESPONDING:
            self.break_off(refusal.status, limit_s)
        else:
            self._refuse_from_backend(refusal, limit_s)

    def abandon(self) -> None:
        """The client left."""
        phase = self.phase
        if phase == ENDED:
            return
        self.phase = ENDED
        now = self.client.context.clock()
        self._ended(CLIENT_LEFT, now)
        if phase == WAITING:
            self.dispatcher.leave(self, now)
            return
        if self.upstream is not None:
            self.upstream.drop()
            self.upstream = None
        self.dispatcher.release(self.backend, now)

    def _ended(self, code: int, now: float, limit_s: float = 0.0) -> None:
        """Count and record a call that got no answer of a replica's."""
        replica = self.backend.id if self.sent else ""
        waited_s = (self.sent or now) - self.started
        self.tally.ended(CallRecord(self.marks, self.method, code, waited_s, now - self.started, replica, limit_s))
        if self.dispatcher.counted is not None:
            self.dispatcher.counted.count(code, now - self.sent if self.sent else 0.0)
        if self.trace is not None or code >= LEAST_ERROR:
            self._hand_in_trace(code, now)

    def first_byte(self, now: float) -> None:
        """The answer to a call that waited begins."""
        if self.cold:
            self.tally.began(now - self.started)

    # traces

    def _traced(self) -> Trace | None:
        """Return the call's trace, begun now if need be; None where nothing is traced."""
        context = self.client.context
        if context.tracing is not None and self.trace is None and self.dispatcher.namespace:
            self.trace = context.tracing.later(self)
        return self.trace

    def answered(self, now: float, head: bytes) -> None:
        """The answer to a call that is traced, or failed, begins with `head`."""
        if (trace := self._traced()) is not None:
            trace.answered_at = now
            trace.handler_s = handler_s(head)
            if self.client.hears_of_traces:
                self.say_traced()

    def say_traced(self) -> None:
        """Let the answer say that the call is traced."""
        self.marks += TRACED_LINE

    def _hand_in_trace(self, code: int, now: float) -> None:
        tracing = self.client.context.tracing
        if tracing is not None and self._traced() is not None:
            tracing.ended(self, code, now)
