"""What labels, annotations and env of a function say about each of its replicas: timeout, concurrency, how it is started.

They belong to a revision. What they say about the number of replicas is in `scaling`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from orchestration.duration import InvalidDuration, parse_duration_s
from orchestration.spec import FunctionSpec

CONCURRENCY_LABEL = "com.pinnace.concurrency"
TIMEOUT_LABEL = "com.pinnace.timeout"
ZYGOTE_LABEL = "com.pinnace.zygote"

DEFAULT_TIMEOUT_S = 60.0
DEFAULT_CONCURRENCY = 100
LONGEST_TIMEOUT_S = 24 * 3600.0
HIGHEST_CONCURRENCY = 100_000


class InvalidSetting(ValueError):
    """A label, annotation or variable with a value that cannot be; the message names it and says what would be right."""


class ReplicaSettings(msgspec.Struct, frozen=True, rename="camel"):
    """`timeout_s` bounds one call on every layer; `concurrency` is the most calls one replica gets at a time, 0 = no limit."""

    timeout_s: float = DEFAULT_TIMEOUT_S
    concurrency: int = DEFAULT_CONCURRENCY


def replica_settings(spec: FunctionSpec) -> ReplicaSettings:
    """Read timeout and concurrency: our label or annotation, else the watchdog's env (`exec_timeout`, `max_inflight`).

    Raises InvalidSetting.
    """
    env = spec.env_vars or {}
    timeout_s = DEFAULT_TIMEOUT_S
    if named := _first(spec, TIMEOUT_LABEL, env, "exec_timeout"):
        timeout_s = parse_setting_s(*named)
        if timeout_s == 0:  # "off" in OpenFaaS's watchdog: here every wait has a limit
            timeout_s = LONGEST_TIMEOUT_S
        if timeout_s > LONGEST_TIMEOUT_S:
            raise InvalidSetting(f"{named[0]}={named[1]!r}: at most 24h")
    concurrency = DEFAULT_CONCURRENCY
    if named := _first(spec, CONCURRENCY_LABEL, env, "max_inflight"):
        concurrency = parse_count(*named, highest=HIGHEST_CONCURRENCY)
    return ReplicaSettings(timeout_s, concurrency)


def wants_zygote(labels: Mapping[str, str], annotations: Mapping[str, str]) -> bool:
    """Whether replicas may be forks of a process that has the handler imported: `com.pinnace.zygote`, true unless set.

    Raises InvalidSetting.
    """
    text = (labels.get(ZYGOTE_LABEL) or annotations.get(ZYGOTE_LABEL) or "true").strip().lower()
    if text not in ("true", "false"):
        raise InvalidSetting(f"{ZYGOTE_LABEL}={text[:40]!r}: true or false")
    return text == "true"


def _first(spec: FunctionSpec, label: str, env: Mapping[str, str], variable: str) -> tuple[str, str] | None:
    for name, text in (
        (label, spec.labels.get(label)),
        (label, spec.annotations.get(label)),
        (variable, env.get(variable)),
    ):
        if text is not None and text.strip():
            return name, text.strip()
    return None


def parse_count(name: str, text: str, *, highest: int, least: int = 0) -> int:
    """Return the whole number from `least` to `highest` that `text` is. Raises InvalidSetting, which names `name`."""
    digits = text.strip().lstrip("0") or "0"
    is_number = text.strip().isascii() and text.strip().isdigit()
    is_short = len(digits) <= len(str(highest))  # int() refuses thousands of digits
    if not (is_number and is_short and least <= int(digits) <= highest):
        raise InvalidSetting(f"{name}={text[:40]!r}: a whole number from {least} to {highest}")
    return int(digits)


def parse_setting_s(name: str, text: str) -> float:
    """Return the seconds that `text` stands for. Raises InvalidSetting, which names `name`."""
    try:
        return parse_duration_s(text)
    except InvalidDuration as error:
        raise InvalidSetting(f"{name}: {error}") from None
