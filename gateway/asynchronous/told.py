"""A call as it is told to people and programs: JSON with camelCase names, times as Unix seconds."""

from __future__ import annotations

import base64

import msgspec

from gateway.asynchronous.calls import Body, Call, State
from gateway.asynchronous.tracing import trace_of


class ToldResponse(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What the function answered at the last attempt that has ended. `body` where it is short and text, `body_base64` where
    it is short and not; else it is read by itself. `cut` where it was longer than what is kept."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body_bytes: int = 0
    body: str | None = None
    body_base64: str | None = None
    cut: bool = False


class ToldCall(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A call. `due_at` is when it is or was to be carried out next, `started_at` and `ended_at` are of the last attempt that
    has ended, and of a call that had expired there is only its end; `reason` says why that failed. `trace` is the id of its
    trace, for a place where traces are kept."""

    id: str
    function: str
    queue: str
    state: State
    method: str
    path: str
    body_bytes: int
    submitted_at: float
    due_at: float
    attempts: int
    trace: str
    expires_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    reason: str = ""
    idempotency_key: str = ""
    response: ToldResponse | None = None


def told(call: Call) -> ToldCall:
    """Return a call as it is told."""
    outcome = call.outcome
    response = None
    too_late = outcome is not None and call.state is State.DEAD and call.had_expired(outcome)
    if outcome is not None and outcome.status:
        text, coded = _shown(call.result)
        response = ToldResponse(
            status=outcome.status,
            headers=outcome.headers,
            body_bytes=call.result.size,
            body=text,
            body_base64=coded,
            cut=outcome.cut,
        )
    return ToldCall(
        id=call.id,
        function=str(call.function),
        queue=call.queue,
        state=call.state,
        method=call.method,
        path=call.path,
        body_bytes=call.body.size,
        submitted_at=call.submitted,
        due_at=call.due,
        expires_at=call.expires or None,
        attempts=call.attempts - too_late,
        trace=trace_of(call),
        started_at=outcome.started if outcome is not None and not too_late else None,
        ended_at=call.ended or (outcome.ended if outcome is not None else None),
        reason=outcome.reason if outcome is not None else "",
        idempotency_key=call.idempotency_key,
        response=response,
    )


def _shown(body: Body) -> tuple[str | None, str | None]:
    if not body.data:
        return None, None
    try:
        return body.data.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(body.data).decode()
