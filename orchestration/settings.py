"""What labels, annotations and env of a function mean to the platform, read once and validated at deploy.

Two kinds: *replica settings* (timeout, concurrency) belong to a revision; *scaling settings* belong to the function and
take effect at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from orchestration.duration import InvalidDuration, parse_duration_s
from orchestration.spec import FunctionSpec

SCALE_PREFIX = "com.openfaas.scale."
CONCURRENCY_LABEL = "com.pinnace.concurrency"
TIMEOUT_LABEL = "com.pinnace.timeout"

DEFAULT_TIMEOUT_S = 60.0
DEFAULT_CONCURRENCY = 100
LONGEST_TIMEOUT_S = 24 * 3600.0
HIGHEST_CONCURRENCY = 100_000
HIGHEST_REPLICAS = 10_000


class InvalidSetting(ValueError):
    """A label, annotation or variable with a value that cannot be; the message names it and says what would be right."""


class ReplicaSettings(msgspec.Struct, frozen=True, rename="camel"):
    """`timeout_s` bounds one call on every layer; `concurrency` is the most calls one replica gets at a time, 0 = no limit."""

    timeout_s: float = DEFAULT_TIMEOUT_S
    concurrency: int = DEFAULT_CONCURRENCY


class ScaleSettings(msgspec.Struct, frozen=True, rename="camel"):
    """Bounds on the replica count, and whether (and after how many idle seconds) it may fall to zero."""

    min_replicas: int = 1
    max_replicas: int = 20
    zero: bool = False
    zero_after_s: float = 15 * 60.0


def is_function_setting(key: str) -> bool:
    """Whether a label or annotation is a setting of the function as a whole: changing it makes no new revision."""
    return key.startswith(SCALE_PREFIX)


def replica_settings(spec: FunctionSpec) -> ReplicaSettings:
    """Read timeout and concurrency: our label or annotation, else the watchdog's env (`exec_timeout`, `max_inflight`).

    Raises InvalidSetting.
    """
    env = spec.env_vars or {}
    timeout_s = DEFAULT_TIMEOUT_S
    if named := _first(spec, TIMEOUT_LABEL, env, "exec_timeout"):
        timeout_s = _duration_s(*named)
        if timeout_s == 0:  # "off" in OpenFaaS's watchdog: here every wait has a limit
            timeout_s = LONGEST_TIMEOUT_S
        if timeout_s > LONGEST_TIMEOUT_S:
            raise InvalidSetting(f"{named[0]}={named[1]!r}: at most 24h")
    concurrency = DEFAULT_CONCURRENCY
    if named := _first(spec, CONCURRENCY_LABEL, env, "max_inflight"):
        concurrency = _count(*named, highest=HIGHEST_CONCURRENCY)
    return ReplicaSettings(timeout_s, concurrency)


def scale_settings(labels: Mapping[str, str]) -> ScaleSettings:
    """Read OpenFaaS's `com.openfaas.scale.*` labels. Raises InvalidSetting, also when min is above max."""
    default = ScaleSettings()

    def count(name: str, fallback: int) -> int:
        text = labels.get(SCALE_PREFIX + name)
        return fallback if text is None else _count(SCALE_PREFIX + name, text, highest=HIGHEST_REPLICAS)

    low, high = count("min", default.min_replicas), labels.get(SCALE_PREFIX + "max")
    most = count("max", max(default.max_replicas, low))
    if most < 1:
        raise InvalidSetting(f"{SCALE_PREFIX}max={high!r}: at least 1 (to stop a function, scale it to 0)")
    if low > most:
        raise InvalidSetting(f"{SCALE_PREFIX}min={low} is above {SCALE_PREFIX}max={most}")
    zero = labels.get(SCALE_PREFIX + "zero", "false").strip().lower()
    if zero not in ("true", "false", "1", "0"):
        raise InvalidSetting(f"{SCALE_PREFIX}zero={zero!r}: true or false")
    after = labels.get(SCALE_PREFIX + "zero-duration")
    zero_after_s = default.zero_after_s if after is None else _duration_s(SCALE_PREFIX + "zero-duration", after)
    return ScaleSettings(low, most, zero in ("true", "1") or low == 0, zero_after_s)


def _first(spec: FunctionSpec, label: str, env: Mapping[str, str], variable: str) -> tuple[str, str] | None:
    for name, text in (
        (label, spec.labels.get(label)),
        (label, spec.annotations.get(label)),
        (variable, env.get(variable)),
    ):
        if text is not None and text.strip():
            return name, text.strip()
    return None


def _count(name: str, text: str, *, highest: int) -> int:
    digits = text.strip().lstrip("0") or "0"
    is_number = text.strip().isascii() and text.strip().isdigit()
    if not is_number or len(digits) > len(str(highest)) or int(digits) > highest:  # int() refuses thousands of digits
        raise InvalidSetting(f"{name}={text[:40]!r}: a whole number from 0 to {highest}")
    return int(digits)


def _duration_s(name: str, text: str) -> float:
    try:
        return parse_duration_s(text)
    except InvalidDuration as error:
        raise InvalidSetting(f"{name}: {error}") from None
