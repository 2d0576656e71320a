"""The callback as a call of the queue: made when the call that it tells of ends, in the same step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.asynchronous.calls import Call, Headers, Outcome, State, Submission, queue_of
from gateway.asynchronous.heads import Spellings
from orchestration.names import DEFAULT_NAMESPACE, FunctionId

KIND: Final = "callback"
URL_HEADER: Final = "x-callback-url"
UNREACHABLE: Final = 503
"""The status that OpenFaaS's callbacks have where there was no response."""
SIGNED_BY: Final = "X-Pinnace-Signed-By"
"""The header in which a callback that waits keeps the name of the secret that signs it. It is not sent."""
LONGEST_REASON: Final = 300

_OWN: Final = frozenset(
    {
        "x-call-id",
        "x-function-name",
        "x-function-status",
        "x-duration-seconds",
        "x-retry",
        "x-retry-max",
        "x-pinnace-timestamp",
        "x-pinnace-signature",
        "x-pinnace-body-cut",
        "x-pinnace-signed-by",
        "x-call-state",
        "x-call-reason",
        "user-agent",
    }
)
_NOT_PASSED: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        # what proxies believe of each other: the gateway itself may be the receiver
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
    }
)
_meanings: Final = Spellings((URL_HEADER,))


def _spoken(function: FunctionId) -> str:
    return function.name if function.namespace == DEFAULT_NAMESPACE else str(function)


def callback_url(headers: Headers) -> str:
    """Return the URL that a call's headers name; empty where none does."""
    for name, value in headers:
        if _meanings[name]:
            return value.strip()
    return ""


def queue_of_callbacks(function: FunctionId) -> str:
    """Return the line in which callbacks about a function's calls wait: a slow receiver keeps up only these."""
    return f"{queue_of(function)}#{KIND}"


def callback(
    call: Call,
    state: State,
    outcome: Outcome,
    body: bytes | Path,
    now: float,
    *,
    most_attempts: int,
    retry_for_s: float,
    signed_by: str = "",
) -> Submission | None:
    """Return what is to be submitted when `call` ends in `state` with `outcome` and a response's `body`; None where nobody
    wants to know.

    `body` becomes the submission's, a file too. `most_attempts` is how often the call may have been tried, `signed_by` the
    secret that signs it where it is not the platform's own: kept with it, for the function may be gone when it is sent.
    """
    url = callback_url(call.headers)
    if not url or call.url:
        return None
    return Submission(
        queue=queue_of_callbacks(call.function),
        function=call.function,
        url=url,
        headers=(*_headers(call, state, outcome, most_attempts), *([(SIGNED_BY, signed_by)] if signed_by else [])),
        body=body,
        due=now,
        expires=now + retry_for_s,
    )


def _attempts(call: Call, outcome: Outcome, most_attempts: int) -> tuple[int, float]:
    """Return how often the function was called, and how long the last time took (s). Who takes a call that has expired, or
    has been taken too often, ends it: that was no attempt."""
    over = call.had_expired(outcome) or call.attempts > most_attempts
    last = (call.outcome or outcome) if over else outcome
    return min(call.attempts - over, most_attempts), max(0.0, last.ended - last.started)


def _printable(text: str) -> str:
    """Return text as a header can hold it."""
    short = text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 3] + "..."
    return "".join(c if " " <= c <= "~" else "?" for c in short)


def _headers(call: Call, state: State, outcome: Outcome, most_attempts: int) -> Iterator[tuple[str, str]]:
    listed = {
        word.strip().lower() for name, value in outcome.headers if name.lower() == "connection" for word in value.split(",")
    }
    for name, value in outcome.headers:
        if name.lower() not in _OWN and name.lower() not in _NOT_PASSED and name.lower() not in listed:
            yield name, value
    yield "X-Call-Id", call.id
    yield "X-Function-Name", _spoken(call.function)
    yield "X-Function-Status", str(outcome.status or UNREACHABLE)
    tried, last_s = _attempts(call, outcome, most_attempts)
    yield "X-Duration-Seconds", f"{last_s:.6f}"
    yield "X-Retry", str(tried)
    yield "X-Retry-Max", str(most_attempts)
    yield "X-Call-State", state
    if outcome.reason:
        yield "X-Call-Reason", _printable(outcome.reason)
    if outcome.cut:
        yield "X-Pinnace-Body-Cut", "true"
    yield "User-Agent", "Pinnace-Callback"
