"""How a function's asynchronous calls are carried out: how many at a time, how often they are tried, how many may wait.

The words for retries are OpenFaaS's; the others are ours. They are settings of the function as a whole, labels or annotations:

    com.openfaas.retry.attempts: "5"
    com.openfaas.retry.codes: "429,503"
    com.pinnace.async.concurrency: "10"
    com.pinnace.callback.secret: hooks
"""

from __future__ import annotations

from typing import Final

import msgspec

from orchestration.duration import format_duration
from orchestration.names import InvalidName, check_secret_name
from orchestration.scaling_labels import scale_settings
from orchestration.settings import HIGHEST_CONCURRENCY, InvalidSetting, parse_count, parse_setting_s, replica_settings
from orchestration.spec import FunctionSpec

RETRY: Final = "com.openfaas.retry."
OURS: Final = "com.pinnace.async."
CALLBACKS: Final = "com.pinnace.callback."
ATTEMPTS_KEY: Final = RETRY + "attempts"
CODES_KEY: Final = RETRY + "codes"
LEAST_WAIT_KEY: Final = RETRY + "min_wait"
LONGEST_WAIT_KEY: Final = RETRY + "max_wait"
CONCURRENCY_KEY: Final = OURS + "concurrency"
CALLS_KEY: Final = OURS + "max-waiting"
CALLBACK_SECRET_KEY: Final = CALLBACKS + "secret"
KEYS: Final = (CONCURRENCY_KEY, CALLS_KEY, CALLBACK_SECRET_KEY, ATTEMPTS_KEY, CODES_KEY, LEAST_WAIT_KEY, LONGEST_WAIT_KEY)

MOST_ATTEMPTS: Final = 1000
LONGEST_WAIT_S: Final = 24 * 3600.0
MOST_WAITING: Final = 100_000_000


class RetrySettings(msgspec.Struct, frozen=True):
    """`attempts` in all, the first included; `codes` are the statuses after which a call is tried again. Waits are seconds."""

    attempts: int = 10
    codes: frozenset[int] = frozenset((408, 429, 500, 502, 503, 504))
    least_wait_s: float = 10.0
    longest_wait_s: float = 120.0


class QueueSettings(msgspec.Struct, frozen=True):
    """`concurrency` is the most calls that run at a time; `calls` the most that wait, 0 for the platform's bound.
    `timeout_s` is the longest time that one takes. `callback_secret` names the secret that signs callbacks, where it is not the
    platform's own."""

    concurrency: int = 100
    calls: int = 0
    timeout_s: float = 60.0
    retry: RetrySettings = RetrySettings()
    callback_secret: str = ""


def is_queue_key(key: str) -> bool:
    """Whether a label or annotation says how asynchronous calls are carried out."""
    return key.startswith((RETRY, OURS, CALLBACKS))


def secrets_named(spec: FunctionSpec) -> tuple[str, ...]:
    """Return the secrets without which the function is not what its spec says: those that it gets, and the one that signs its
    callbacks."""
    signing = spec.annotations.get(CALLBACK_SECRET_KEY, spec.labels.get(CALLBACK_SECRET_KEY, "")).strip()
    return (*(spec.secrets or ()), *([signing] if signing else []))


def queue_settings(spec: FunctionSpec) -> QueueSettings:
    """Read what a spec says. Without a word of its own a function's concurrency is what it takes at its largest: the most
    replicas times the calls that each of them gets.

    Raises InvalidSetting.
    """
    said = {key: text.strip() for key, text in (*spec.labels.items(), *spec.annotations.items()) if is_queue_key(key)}
    for key in said:
        if key not in KEYS and key.startswith((OURS, CALLBACKS)):
            raise InvalidSetting(f"{key} is not known; known: {CONCURRENCY_KEY}, {CALLS_KEY}, {CALLBACK_SECRET_KEY}")
    replica = replica_settings(spec)
    if text := said.get(CONCURRENCY_KEY):
        concurrency = parse_count(CONCURRENCY_KEY, text, highest=HIGHEST_CONCURRENCY, least=1)
    else:
        concurrency = min(HIGHEST_CONCURRENCY, scale_settings(spec).max_replicas * (replica.concurrency or 100))
    calls = parse_count(CALLS_KEY, text, highest=MOST_WAITING, least=1) if (text := said.get(CALLS_KEY)) else 0
    return QueueSettings(concurrency, calls, replica.timeout_s, _retry(said), _secret_name(said.get(CALLBACK_SECRET_KEY, "")))


def _secret_name(name: str) -> str:
    try:
        return check_secret_name(name) if name else ""
    except InvalidName as error:
        raise InvalidSetting(f"{CALLBACK_SECRET_KEY}: {error}") from None


def _retry(said: dict[str, str]) -> RetrySettings:
    default = RetrySettings()
    attempts = (
        parse_count(ATTEMPTS_KEY, text, highest=MOST_ATTEMPTS, least=1)
        if (text := said.get(ATTEMPTS_KEY))
        else default.attempts
    )
    codes = _codes(text) if (text := said.get(CODES_KEY)) else default.codes
    least_s = _wait_s(LEAST_WAIT_KEY, text) if (text := said.get(LEAST_WAIT_KEY)) else None
    longest_s = _wait_s(LONGEST_WAIT_KEY, text) if (text := said.get(LONGEST_WAIT_KEY)) else None
    if least_s is None:
        least_s = min(default.least_wait_s, default.least_wait_s if longest_s is None else longest_s)
    if longest_s is None:
        longest_s = max(default.longest_wait_s, least_s)
    if least_s > longest_s:
        raise InvalidSetting(f"{LEAST_WAIT_KEY} is longer than {LONGEST_WAIT_KEY} ({format_duration(longest_s)})")
    return RetrySettings(attempts, codes, least_s, longest_s)


def _codes(text: str) -> frozenset[int]:
    codes = [part.strip() for part in text.split(",") if part.strip()]
    for code in codes:
        if not (code.isascii() and code.isdigit() and len(code) == 3 and 400 <= int(code) <= 599):
            raise InvalidSetting(f"{CODES_KEY}={text[:60]!r}: statuses from 400 to 599, comma-separated, such as 429,503")
    return frozenset(map(int, codes))


def _wait_s(key: str, text: str) -> float:
    seconds = parse_setting_s(key, text)
    if seconds > LONGEST_WAIT_S:
        raise InvalidSetting(f"{key}={text!r}: at most {format_duration(LONGEST_WAIT_S)}")
    return seconds
