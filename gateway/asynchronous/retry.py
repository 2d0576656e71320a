"""What becomes of a call after an attempt: it succeeded, is tried again, or is dead. Pure: time and chance are arguments.

OpenFaaS's rules: it is tried again after the statuses that the function's settings name, and after every error that a part
of the platform made (`X-OpenFaaS-Internal`), which says nothing about the function. Where only a free slot was missing no
attempt is counted: a backlog of slow calls is no failure of any of them. Waits double from the least to the longest one;
what is drawn lies between half of that and all of it, so that calls that failed together do not come back together.
`Retry-After` (RFC 9110 section 10.2.3) is honoured after 429 and 503, but never below the least wait.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from gateway.asynchronous.calls import Call, Headers
from orchestration.queueing import RetrySettings

LONGEST_RETRY_AFTER_S: Final = 24 * 3600.0
UNREACHED_S: Final = 1.0
"""The least wait after an attempt that reached nobody: an edge that restarts is back in a second."""
BUSY: Final = "x-pinnace-busy"
"""What an edge's refusal carries where nothing but a free slot was missing."""
_SAYS_WHEN: Final = (429, 503)


class Answer(msgspec.Struct, frozen=True):
    """What an attempt came to: a response's status and headers, or (status 0) why there was none. A `final` failure is one
    that no other attempt would undo; where the request was sent to nobody it is `unsent`. `said` is the line that a refusal of
    the platform itself came with."""

    status: int
    headers: Headers = ()
    failure: str = ""
    final: bool = False
    unsent: bool = False
    said: str = ""


class Succeeded(msgspec.Struct, frozen=True):
    """The call has been carried out."""


class Again(msgspec.Struct, frozen=True):
    """It is tried again at `due`, for `reason`."""

    due: float
    reason: str


class Postponed(msgspec.Struct, frozen=True):
    """It has not begun: all replicas are busy, or no edge takes calls, as when the platform stops. It goes back to its queue,
    and no attempt is counted."""


class Dead(msgspec.Struct, frozen=True):
    """It is given up, for `reason`."""

    reason: str


Verdict = Succeeded | Again | Dead


def before(call: Call, settings: RetrySettings, now: float) -> Dead | None:
    """Judge a call that was taken, before it is carried out: whether it is too late, or has been taken too often."""
    if call.expires and call.expires <= now:
        return Dead("expired before it could be carried out")
    if call.attempts > settings.attempts:
        return Dead(f"none of {settings.attempts} attempts came to an end: each time the process that made it died")
    return None


def after(call: Call, answer: Answer, settings: RetrySettings, now: float, chance: Callable[[], float]) -> Verdict | Postponed:
    """Judge an attempt; `chance` draws from 0 to 1."""
    if answer.final:
        return Dead(answer.failure)
    if 0 < answer.status < 400:
        return Succeeded()
    internal = _header(answer.headers, "x-openfaas-internal")
    not_begun = answer.unsent or (internal and _header(answer.headers, BUSY))
    if not_begun and not (call.expires and call.expires <= now):
        return Postponed()
    who = f"the {internal}" if internal else "the function"
    said = f" ({answer.said})" if answer.said and internal else ""
    reason = answer.failure or f"{who} answered {answer.status}{said}"
    if answer.status and not internal and answer.status not in settings.codes:
        return Dead(f"{reason}, after which it is not tried again")
    if call.attempts >= settings.attempts:
        return Dead(f"{reason} at the last of {settings.attempts} attempts")
    due = now + _wait_s(call, answer, settings, now, chance)
    if call.expires and due >= call.expires:
        return Dead(f"{reason}, and it would have expired before the next attempt")
    return Again(due, reason)


def _wait_s(call: Call, answer: Answer, settings: RetrySettings, now: float, chance: Callable[[], float]) -> float:
    least_s = settings.least_wait_s if answer.status else min(UNREACHED_S, settings.least_wait_s)
    doubled_s = min(settings.longest_wait_s, least_s * 2.0 ** min(call.attempts, 30))
    wait_s = max(least_s, doubled_s * (0.5 + 0.5 * chance()))
    if answer.status in _SAYS_WHEN and (said_s := retry_after_s(_header(answer.headers, "retry-after"), now)) is not None:
        wait_s = max(least_s, said_s)
    return wait_s


def retry_after_s(text: str, now: float) -> float | None:
    """Return the seconds that a `Retry-After` asks for, as a number or a date; None where it says nothing of use."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(LONGEST_RETRY_AFTER_S, float(text[:12]))
    try:
        at = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(LONGEST_RETRY_AFTER_S, max(0.0, at - now))


def _header(headers: Headers, name: str) -> str:
    return next((value for field, value in headers if field.lower() == name), "")
