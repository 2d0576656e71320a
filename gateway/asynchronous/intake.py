"""From a request's head to the submission that it asks for. Pure: time is an argument.

Its own words, beside OpenFaaS's: `X-Delay-Seconds: 90` or `X-Delay-Until: 2026-01-31T08:00:00Z` for when it is carried out
first, `X-TTL-Seconds: 3600` for how long after its submission it is worth doing, `Idempotency-Key` (IETF httpapi draft) for
submissions that may be repeated. The first three are not passed on; the function gets the rest of the head as it came.
"""

from __future__ import annotations

import datetime
from typing import Final

import msgspec

from gateway.asynchronous.calls import Headers, Submission, queue_of
from gateway.asynchronous.fingerprint import FINGERPRINT
from gateway.asynchronous.functions import Functions
from gateway.asynchronous.heads import Spellings
from gateway.asynchronous.settings import AsyncSettings
from gateway.edge.refusal import Refusal, not_found
from gateway.edge.routes import ASYNC_PREFIX
from orchestration.names import parse_function_id

DELAY: Final = "x-delay-seconds"
UNTIL: Final = "x-delay-until"
TTL: Final = "x-ttl-seconds"
KEY: Final = "idempotency-key"
CALL_ID: Final = "x-call-id"
LONGEST_KEY: Final = 255
_OURS: Final = frozenset(
    (DELAY, UNTIL, TTL, CALL_ID, FINGERPRINT, "x-start-time", "content-length", "transfer-encoding", "connection")
)
_PREFIX: Final = ASYNC_PREFIX.decode()
_meanings: Final = Spellings(_OURS | {KEY})


class Target(msgspec.Struct, frozen=True):
    """What stands behind `/async-function/`: a function's name (or a call's id), and what follows it."""

    name: str
    rest: str

    @classmethod
    def of(cls, target: str) -> Target:
        """Split a target; without anything behind the name the rest is a slash."""
        path, mark, query = target.removeprefix(_PREFIX).partition("?")
        name, slash, rest = path.partition("/")
        return cls(name, f"/{rest if slash else ''}{mark}{query}")


def submission_of(
    method: str,
    target: Target,
    headers: Headers,
    functions: Functions,
    settings: AsyncSettings,
    now: float,
    body: bytes = b"",
) -> Submission | Refusal:
    """Return the submission, with as much of its body as there is, or why there is none."""
    function = parse_function_id(target.name)
    if not functions.knows(function):
        return not_found(str(function))
    said: dict[str, str] = {}
    kept: list[tuple[str, str]] = []
    for field in headers:
        if meaning := _meanings[field[0]]:
            said.setdefault(meaning, field[1].strip())
            if meaning == KEY:
                kept.append(field)
        else:
            kept.append(field)
    key = said.get(KEY, "")
    if len(key) > LONGEST_KEY:
        return Refusal(400, f"Idempotency-Key has {len(key)} characters; at most {LONGEST_KEY} fit")
    try:
        due = _due(said, now, settings.delay_s)
        expires = now + _seconds(TTL, said[TTL], settings.delay_s) if TTL in said else 0.0
    except ValueError as error:
        return Refusal(400, str(error))
    if expires and due >= expires:
        return Refusal(400, "the call would expire (X-TTL-Seconds) before it may begin")
    return Submission(
        queue=queue_of(function),
        function=function,
        method=method,
        path=target.rest,
        headers=tuple(kept),
        body=body,
        due=due,
        expires=expires,
        idempotency_key=key,
        id=said.get(CALL_ID, ""),
    )


def _due(said: dict[str, str], now: float, longest_s: float) -> float:
    until = said.get(UNTIL)
    if until is None:
        return now + _seconds(DELAY, said.get(DELAY), longest_s)
    if DELAY in said:
        raise ValueError("X-Delay-Seconds and X-Delay-Until contradict each other: give one of them")
    try:
        moment = datetime.datetime.fromisoformat(until)
    except ValueError:
        raise ValueError(f"X-Delay-Until: {until[:40]!r} is not a time: write YYYY-MM-DDThh:mm:ssZ") from None
    if moment.tzinfo is None:
        raise ValueError(f"X-Delay-Until: {until[:40]!r} has no time zone; write Z for UTC")
    if moment.timestamp() > now + longest_s:
        raise ValueError(f"X-Delay-Until: at most {longest_s / 86400:g} days from now")
    return max(now, moment.timestamp())


def _seconds(name: str, text: str | None, longest_s: float) -> float:
    if text is None:
        return 0.0
    spoken = "-".join("TTL" if word == "ttl" else word.capitalize() for word in name.split("-"))
    digits = text.replace(".", "", 1)
    if not (digits.isascii() and digits.isdigit() and len(text) <= 20):
        raise ValueError(f"{spoken}: {text[:40]!r} is not a number of seconds")
    if float(text) > longest_s:
        raise ValueError(f"{spoken}: at most {longest_s:.0f} ({longest_s / 86400:g} days)")
    return float(text)
