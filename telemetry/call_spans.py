"""The spans of one call, with OpenTelemetry's names (semantic conventions for HTTP and FaaS):

POST /function/{name}            server; the gateway, from the head to the end of the answer
├─ queue                         while it waited for a slot
│  └─ cold start                 of the replica that it waited for, where there was none
│     └─ cold start: made        one for each phase of the start
├─ POST                          client; one for each attempt, from the slot to the end
└─ POST
   └─ hello                      server; the function, as its runtime timed it or else as the gateway saw it
"""

from __future__ import annotations

import secrets
from typing import Final

from telemetry.spans import Attribute, CallTrace, Kind, Span

ROUTE: Final = "/function/{name}"
NANO: Final = 1_000_000_000
LEAST_ERROR: Final = 500


def new_span_id() -> str:
    """Return an id that nobody has: 16 hex digits."""
    return secrets.token_hex(8)


def spans_of(call: CallTrace) -> list[Span]:
    """Return the call's spans, the root first."""
    spans: list[Span] = []

    def at(seconds: float) -> int:
        return call.start_ns + int(seconds * NANO)

    def add(
        name: str,
        parent: str,
        start_ns: int,
        end_ns: int,
        *,
        kind: Kind = "internal",
        attributes: dict[str, Attribute] | None = None,
        error: str = "",
        span: str = "",
        service: str = "",
    ) -> str:
        spans.append(
            Span(
                trace=call.trace,
                span=span or new_span_id(),
                parent=parent,
                name=name,
                kind=kind,
                start_ns=start_ns,
                end_ns=max(start_ns, end_ns),
                attributes=attributes or {},
                error=error,
                service=service,
            )
        )
        return spans[-1].span

    failed = str(call.status) if call.status >= LEAST_ERROR else ""
    whole: dict[str, Attribute] = {
        "http.request.method": call.method,
        "http.route": ROUTE,
        "http.response.status_code": call.status,
        "url.path": call.path,
        "url.scheme": "http",
        "faas.invocation_id": call.call_id,
        "faas.invoked_name": call.function,
        "pinnace.namespace": call.namespace,
    }
    if failed:
        whole["error.type"] = failed
    root = add(f"{call.method} {ROUTE}", call.parent, at(0), at(call.ended_s), kind="server", attributes=whole, error=failed)
    since_s = 0.0
    for attempt in call.attempts:
        if attempt.from_s > since_s:
            add("queue", root, at(since_s), at(attempt.from_s))
        since_s = attempt.to_s
    if call.waited_s > since_s:
        queue = add("queue", root, at(since_s), at(call.waited_s), attributes={"pinnace.queue.cold": call.cold})
        if call.cold and call.replica_ready > 0:
            cold: dict[str, Attribute] = {
                "faas.coldstart": True,
                "faas.instance": call.replica,
                "faas.version": call.revision,
            }
            if call.start_kind:
                cold["pinnace.start.kind"] = call.start_kind
            begin = int(call.replica_started * NANO)
            start = add("cold start", queue, begin, int(call.replica_ready * NANO), attributes=cold)
            for phase, took_s in call.phases.items():
                end = begin + int(took_s * NANO)
                add(f"cold start: {phase}", start, begin, end)
                begin = end
    for number, attempt in enumerate(call.attempts):
        add(
            call.method,
            root,
            at(attempt.from_s),
            at(attempt.to_s),
            kind="client",
            attributes={"http.request.method": call.method, **_resent(number), "error.type": attempt.why},
            error=attempt.why,
        )
    if call.taken_s >= 0:
        sent: dict[str, Attribute] = {"http.request.method": call.method, **_resent(len(call.attempts))}
        if call.replica:
            sent["server.address"] = call.replica
        if call.answered_s >= 0:
            sent["http.response.status_code"] = call.status
        if failed:
            sent["error.type"] = failed
        upstream = add(call.method, root, at(call.taken_s), at(call.ended_s), kind="client", attributes=sent, error=failed)
        if call.answered_s >= 0:
            start_s, end_s = call.taken_s, call.ended_s
            if call.handler_s >= 0:
                end_s = call.answered_s
                start_s = max(call.taken_s, end_s - call.handler_s)
            add(
                call.function,
                upstream,
                at(start_s),
                at(end_s),
                kind="server",
                span=call.function_span,
                service=f"{call.function}.{call.namespace}",
                error=failed,
                attributes={
                    "faas.name": call.function,
                    "faas.version": call.revision,
                    "faas.instance": call.replica,
                    "faas.trigger": "http",
                    "faas.invocation_id": call.call_id,
                    "faas.coldstart": call.cold,
                    "http.response.status_code": call.status,
                },
            )
    return spans


def _resent(number: int) -> dict[str, Attribute]:
    return {"http.request.resend_count": number} if number else {}
