"""Traces of asynchronous calls: one trace from the client's span through the queue to each attempt and the function.

    POST /async-function/{name}     producer   when it was submitted; below the client's span
    ├─ queue                        internal   until the attempt began: one for each
    └─ attempt                      consumer   below it the edge's spans, and the function's

The trace is the client's (`traceparent`), or else has the call's id for its id, as other calls' have; whether it is sampled
follows from that id then, so that all attempts agree, also in other processes. Every attempt tells the edge of it, so that an
attempt that fails, which is traced always, hangs together too. What comes after a failure is sampled: the trace shows its end.
The edge traces more than what is sampled, such as cold starts: its answer to an attempt says so (`X-Pinnace-Traced`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.asynchronous.calls import Call, Headers
from gateway.asynchronous.heads import Spellings
from gateway.asynchronous.retry import Answer, Dead, Succeeded, Verdict
from gateway.edge.tracing import TRACED
from telemetry import trace_context
from telemetry.call_spans import LEAST_ERROR, NANO, new_span_id
from telemetry.spans import Attribute, Kind, Span

ROUTE: Final = "/async-function/{name}"
_HEX: Final = re.compile(r"[0-9a-f]{32}").fullmatch
_CONTEXT: Final = "traceparent"
_TRACED: Final = TRACED.lower()
_meanings: Final = Spellings((_CONTEXT, _TRACED))


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a call's trace at the begin of an attempt. `client` is the span that submitted it, empty where there
    is none, `attempt` is ours."""

    id: str
    sampled: bool
    client: str
    attempt: str

    def told(self, headers: Headers) -> Headers:
        """Return the headers with which the attempt is made."""
        flags = "01" if self.sampled else "00"
        others = [field for field in headers if not _meanings[field[0]]]
        return (*others, (_CONTEXT, f"00-{self.id}-{self.attempt}-{flags}"))


class CallTracing:
    """Hands spans to `add`. Of calls whose client says nothing the share `ratio` is sampled."""

    def __init__(self, add: Callable[[Span], None], ratio: float) -> None:
        self._add = add
        self._ratio = ratio

    def begin(self, call: Call) -> Trace:
        """An attempt at `call` begins."""
        parent = _parent(call)
        trace = _trace_below(parent, call.id)
        sampled = parent.sampled if parent is not None else int(trace[-8:], 16) < self._ratio * 2**32
        sampled = sampled or call.outcome is not None
        return Trace(
            id=trace,
            sampled=sampled,
            client=parent.span.decode() if parent is not None else "",
            attempt=new_span_id(),
        )

    def end(self, trace: Trace, call: Call, answer: Answer, verdict: Verdict, began: float, ended: float) -> None:
        """The attempt has ended; times are Unix seconds."""
        if not trace.sampled and isinstance(verdict, Succeeded) and not _traced(answer):
            return
        submission = _id(call.id)
        before = call.outcome.ended if call.outcome is not None else call.submitted
        about: dict[str, Attribute] = {
            "faas.invocation_id": call.id,
            "faas.invoked_name": call.function.name,
            "pinnace.namespace": call.function.namespace,
        }
        if call.attempts <= 1:
            self._span(
                trace,
                submission,
                trace.client,
                f"{call.method} {ROUTE}",
                "producer",
                call.submitted,
                call.submitted,
                {**about, "http.request.method": call.method, "http.route": ROUTE, "pinnace.queue": call.queue},
            )
        self._span(trace, new_span_id(), submission, "queue", "internal", before, began, {"pinnace.due": call.due})
        done = {**about, "pinnace.attempt": call.attempts}
        if answer.status:
            done["http.response.status_code"] = answer.status
        failed = not isinstance(verdict, Succeeded) or answer.status >= LEAST_ERROR
        error = verdict.reason if not isinstance(verdict, Succeeded) else str(answer.status) if failed else ""
        if isinstance(verdict, Dead):
            done["pinnace.dead"] = True
        self._span(trace, trace.attempt, submission, "attempt", "consumer", began, ended, done, error)

    def _span(
        self,
        trace: Trace,
        span: str,
        parent: str,
        name: str,
        kind: Kind,
        began: float,
        ended: float,
        attributes: dict[str, Attribute],
        error: str = "",
    ) -> None:
        start_ns = int(began * NANO)
        self._add(
            Span(
                trace=trace.id,
                span=span,
                parent=parent,
                name=name,
                kind=kind,
                start_ns=start_ns,
                end_ns=max(start_ns, int(ended * NANO)),
                attributes=attributes,
                error=error,
            )
        )


def _traced(answer: Answer) -> bool:
    return any(_meanings[name] == _TRACED for name, _ in answer.headers)


def trace_of(call: Call) -> str:
    """Return the id of a call's trace, in 32 hex digits, whether or not it is sampled."""
    return _trace_below(_parent(call), call.id)


def _trace_below(parent: trace_context.Parent | None, call_id: str) -> str:
    if parent is not None:
        return parent.trace.decode()
    plain = call_id.replace("-", "").lower()
    return plain if _HEX(plain) and int(plain, 16) else hashlib.sha256(call_id.encode()).hexdigest()[:32]


def _parent(call: Call) -> trace_context.Parent | None:
    said = [value for name, value in call.headers if _meanings[name] == _CONTEXT]
    return trace_context.parse(said[0].strip().encode("latin-1", "replace")) if len(said) == 1 else None


def _id(call_id: str) -> str:
    """Return the id of the span of a call's submission: the same in every attempt, whoever makes it."""
    return hashlib.sha256(b"submission " + call_id.encode()).hexdigest()[:16]
