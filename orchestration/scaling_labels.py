"""From labels and annotations to `ScaleSettings`: OpenFaaS's words, Knative's and ours are spellings of the same settings.

A key may be a label or an annotation. Two spellings of one setting may stand together only where they say the same;
anything else is an error at deploy. What a spelling leaves open has the default of the system whose words were used:
`com.openfaas.scale.type=rps` alone means 50 calls a second at 90 %, `autoscaling.knative.dev/metric: rps` 200 at 70 %.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from orchestration.duration import format_duration
from orchestration.quantity import InvalidQuantity, cpu_cores
from orchestration.scaling import HIGHEST_REPLICAS, LEAST_TARGET, Aggregation, Metric, ScaleSettings
from orchestration.schedule import InvalidSchedule, parse_schedule
from orchestration.settings import InvalidSetting, parse_count, parse_setting_s, replica_settings
from orchestration.spec import FunctionSpec

OPENFAAS: Final = "com.openfaas.scale."
KNATIVE: Final = "autoscaling.knative.dev/"
OURS: Final = "com.pinnace.scale."
_PREFIXES: Final = (OPENFAAS, KNATIVE, OURS)

LONGEST_WINDOW_S: Final = 3600.0
_UNITS: Final = {Metric.CPU: "thousandths of a core", Metric.MEMORY: "MiB", Metric.CUSTOM: "what the query gives"}


class Spelling(NamedTuple):
    """`key` as users write it sets `setting`; `parse` takes key and text. `takes` says what in words, `means` what for."""

    key: str
    setting: str
    parse: Callable[[str, str], Any]
    takes: str
    means: str


class _Said(NamedTuple):
    key: str
    text: str
    value: Any


def _count(key: str, text: str) -> int:
    return parse_count(key, text, highest=HIGHEST_REPLICAS)


def _unbounded(key: str, text: str) -> int:
    return _count(key, text) or HIGHEST_REPLICAS


def _at_least_one(key: str, text: str) -> int:
    count = _count(key, text)
    if count < 1:
        raise InvalidSetting(f"{key}={text!r}: at least 1 (to stop a function, scale it to 0)")
    return count


def _number(low: float, high: float) -> Callable[[str, str], float]:
    def parse(key: str, text: str) -> float:
        digits = text.strip()
        plain = digits.removeprefix("-").replace(".", "", 1)
        if plain.isascii() and plain.isdigit() and len(digits) <= 20 and low <= float(digits) <= high:
            return float(digits)
        raise InvalidSetting(f"{key}={text[:40]!r}: a number from {low:g} to {high:g}")

    return parse


def _burst(key: str, text: str) -> float:
    if text.strip() == "-1":
        return -1.0
    return _number(0, 1e9)(key, text)


def _seconds(low: float, high: float) -> Callable[[str, str], float]:
    def parse(key: str, text: str) -> float:
        seconds = parse_setting_s(key, text)
        if not low <= seconds <= high:
            raise InvalidSetting(f"{key}={text!r}: from {format_duration(low)} to {format_duration(high)}")
        return seconds

    return parse


def _flag(key: str, text: str) -> bool:
    word = text.strip().lower()
    if word not in ("true", "false", "1", "0"):
        raise InvalidSetting(f"{key}={text[:40]!r}: true or false")
    return word in ("true", "1")


def _metric(key: str, text: str) -> str:
    word = text.strip()
    return Metric.CONCURRENCY if word == "capacity" else word


def _aggregation(key: str, text: str) -> Aggregation:
    try:
        return Aggregation(text.strip())
    except ValueError:
        raise InvalidSetting(f"{key}={text[:40]!r}: {' or '.join(Aggregation)}") from None


def _class(key: str, text: str) -> str:
    kind = text.strip().removesuffix("." + KNATIVE.rstrip("/"))
    if kind not in ("kpa", "hpa"):
        raise InvalidSetting(f"{key}={text[:40]!r}: kpa.autoscaling.knative.dev or hpa.autoscaling.knative.dev")
    return kind


def _schedule(key: str, text: str) -> Any:
    try:
        return parse_schedule(text)
    except InvalidSchedule as error:
        raise InvalidSetting(f"{key}: {error}") from None


def _text(key: str, text: str) -> str:
    if not text.strip() or len(text) > 4096:
        raise InvalidSetting(f"{key}: a PromQL query of 1 to 4096 characters")
    return text.strip()


_COUNT: Final = f"0 to {HIGHEST_REPLICAS:,}"
_TARGET: Final = _number(LEAST_TARGET, 1e9)
_WINDOW: Final = _seconds(6, LONGEST_WINDOW_S)
_DELAY: Final = _seconds(0, LONGEST_WINDOW_S)
_ZERO_AFTER: Final = _seconds(0, 365 * 24 * 3600.0)

SPELLINGS: Final = (
    Spelling(OPENFAAS + "min", "min", _count, _COUNT, "the fewest replicas; 0 means the same as zero=true"),
    Spelling(OPENFAAS + "max", "max", _at_least_one, f"1 to {HIGHEST_REPLICAS:,}", "the most replicas"),
    Spelling(
        OPENFAAS + "type",
        "metric",
        _metric,
        "concurrency, capacity (the same), rps, queue, cpu, memory, or the name of a metric of your own",
        "what is counted; rps when only the target is given",
    ),
    Spelling(OPENFAAS + "target", "target", _TARGET, "0.01 or more", "how much of it one replica takes"),
    Spelling(OPENFAAS + "target-proportion", "proportion", _number(0.01, 1), "0.01 to 1", "which part of the target to aim at"),
    Spelling(OPENFAAS + "zero", "zero", _flag, "true, false", "may fall to zero when idle"),
    Spelling(OPENFAAS + "zero-duration", "zero_after", _ZERO_AFTER, "a duration", "how long idle before zero"),
    Spelling(OPENFAAS + "down.window", "down_delay", _DELAY, "0 to 1h", "fall only to the largest count of that time"),
    Spelling(KNATIVE + "min-scale", "min", _count, _COUNT, "the fewest replicas; 0: to zero after window + retention"),
    Spelling(KNATIVE + "max-scale", "max", _unbounded, _COUNT, "the most replicas; 0: no bound"),
    Spelling(KNATIVE + "initial-scale", "initial", _at_least_one, "1 or more", "how many replicas a new function starts with"),
    Spelling(KNATIVE + "activation-scale", "activation", _at_least_one, "1 or more", "the fewest while there is any load"),
    Spelling(KNATIVE + "metric", "metric", _metric, "concurrency, rps, cpu, memory, or a name", "what is counted"),
    Spelling(KNATIVE + "target", "knative_target", _TARGET, "0.01 or more", "what one replica takes; cpu: % of the request"),
    Spelling(
        KNATIVE + "target-utilization-percentage", "percent", _number(1, 100), "1 to 100", "which part of the target to aim at"
    ),
    Spelling(KNATIVE + "window", "window", _WINDOW, "6s to 1h", "the stable window"),
    Spelling(
        KNATIVE + "panic-window-percentage",
        "panic_percent",
        _number(1, 100),
        "1 to 100",
        "the panic window as part of it",
    ),
    Spelling(
        KNATIVE + "panic-threshold-percentage",
        "panic_threshold",
        _number(110, 1000),
        "110 to 1000",
        "how much of what is ready must be asked for to be in panic",
    ),
    Spelling(KNATIVE + "target-burst-capacity", "burst", _burst, "-1, 0 or more", "shown as spare capacity; routes nothing"),
    Spelling(KNATIVE + "scale-down-delay", "down_delay", _DELAY, "0 to 1h", "fall only to the largest count of that time"),
    Spelling(
        KNATIVE + "scale-to-zero-pod-retention-period", "retention", _DELAY, "0 to 1h", "how long to stay idle after the window"
    ),
    Spelling(
        KNATIVE + "metric-aggregation-algorithm",
        "aggregation",
        _aggregation,
        "linear, weighted-exponential",
        "how the seconds of a window become one number",
    ),
    Spelling(KNATIVE + "class", "class", _class, "kpa…, hpa…", "hpa goes with cpu, memory or a metric of your own"),
    Spelling(OURS + "query", "query", _text, "PromQL", "the whole load for a metric of your own"),
    Spelling(OURS + "schedule", "schedule", _schedule, "START | END | REPLICAS [| ZONE]", "a floor between two cron times"),
    Spelling(OURS + "learn", "learn", _flag, "true, false", "learn how long to stay idle where nothing says it"),
)


def _camel(key: str) -> str:
    first, *rest = key.removeprefix(KNATIVE).split("-")
    return KNATIVE + first + "".join(word.capitalize() for word in rest)


_BY_KEY: Final = {s.key: s for s in SPELLINGS} | {_camel(s.key): s for s in SPELLINGS if s.key.startswith(KNATIVE)}
IGNORED: Final = {OPENFAAS + "factor": "counts follow the load, not steps"}


def is_scaling_key(key: str) -> bool:
    """Whether a label or annotation is about the replica count: it takes effect at once and makes no revision."""
    return key.startswith(_PREFIXES)


def scale_warnings(spec: FunctionSpec) -> tuple[str, ...]:
    """Return a sentence for each key that looks like a scaling setting and does nothing."""
    found = []
    for key in (*spec.labels, *spec.annotations):
        if key in IGNORED:
            found.append(f"{key} is ignored: {IGNORED[key]}")
        elif is_scaling_key(key) and key not in _BY_KEY:
            found.append(f"{key} is not a setting that is known here: it does nothing")
    try:
        said = _said(spec)
        settings = scale_settings(spec)
    except InvalidSetting:  # of an earlier version of the platform; a deploy is checked
        return tuple(found)
    if not settings.zero:
        needs = f"without {OPENFAAS}zero=true or a min of 0"
        found += [f"{said[name].key} does nothing {needs}" for name in ("zero_after", "retention", "learn") if name in said]
    elif "learn" in said and said["learn"].value and not settings.learns:
        found.append(f"{said['learn'].key} does nothing: how long to stay idle is given")
    elif "zero_after" in said and "retention" in said:
        found.append(f"{said['retention'].key} does nothing beside {said['zero_after'].key}")
    if "query" in said and settings.metric is not Metric.CUSTOM:
        found.append(f"{said['query'].key} does nothing: the metric is {settings.metric}")
    return tuple(found)


def scale_settings(spec: FunctionSpec) -> ScaleSettings:
    """Return what the labels and annotations of `spec` say. Raises InvalidSetting, which names the key."""
    said = _said(spec)
    default = ScaleSettings()

    def value(setting: str, fallback: Any) -> Any:
        return said[setting].value if setting in said else fallback

    low = value("min", default.min_replicas)
    high = value("max", max(default.max_replicas, low))
    metric, words = _metric_of(said)
    zero, zero_after_s, learns = _zero_of(said, value("window", default.window_s))
    settings = ScaleSettings(
        min_replicas=low,
        max_replicas=high,
        initial_replicas=value("initial", 0),
        activation_replicas=value("activation", 1),
        metric=metric,
        target=_target_of(said, metric, words, spec),
        utilisation=_utilisation_of(said, metric, words),
        query=value("query", ""),
        window_s=value("window", default.window_s),
        panic_percent=value("panic_percent", default.panic_percent),
        panic_threshold=value("panic_threshold", default.panic_threshold * 100) / 100,
        aggregation=value("aggregation", default.aggregation),
        down_delay_s=value("down_delay", 0.0),
        burst_capacity=value("burst", default.burst_capacity),
        zero=zero,
        zero_after_s=zero_after_s,
        learns=learns,
        schedule=value("schedule", ()),
    )
    _check(settings, said)
    return settings


def _said(spec: FunctionSpec) -> dict[str, _Said]:
    said: dict[str, _Said] = {}
    for key, text in (*spec.labels.items(), *spec.annotations.items()):
        if (spelling := _BY_KEY.get(key)) is None:
            continue
        new = _Said(key, text, spelling.parse(key, text))
        old = said.setdefault(spelling.setting, new)
        if old.value != new.value:
            raise _contradiction(old, new)
    for one, other in (("target", "knative_target"), ("proportion", "percent")):
        if one in said and other in said:
            old, new = said[one], said[other]
            if old.value * (100 if one == "proportion" else 1) != new.value:
                raise _contradiction(old, new)
    return said


def _contradiction(one: _Said, other: _Said) -> InvalidSetting:
    return InvalidSetting(f"{one.key}={one.text!r} contradicts {other.key}={other.text!r}: leave one of them out")


def _metric_of(said: dict[str, _Said]) -> tuple[Metric, str]:
    """Return the metric, and whose words chose it: that system's defaults hold for what is left open."""
    if (named := said.get("metric")) is None:
        if "class" in said and said["class"].value == "hpa":
            return Metric.CPU, KNATIVE
        return (Metric.RPS, OPENFAAS) if "target" in said else (Metric.CONCURRENCY, KNATIVE)
    words = OPENFAAS if named.key.startswith(OPENFAAS) else KNATIVE
    metric = Metric(named.value) if named.value in set(Metric) else Metric.CUSTOM
    if metric is Metric.CUSTOM and "query" not in said:
        known = ", ".join(m for m in Metric if m is not Metric.CUSTOM)
        raise InvalidSetting(
            f"{named.key}={named.text!r} is none of {known}; a metric of your own needs {OURS}query with a PromQL query"
        )
    if "class" in said and said["class"].value == "hpa" and metric not in _UNITS:
        raise _contradiction(said["class"], named)
    return metric, words


def _target_of(said: dict[str, _Said], metric: Metric, words: str, spec: FunctionSpec) -> float:
    given = said.get("target") or said.get("knative_target")
    if metric is Metric.CONCURRENCY:
        limit = replica_settings(spec).concurrency
        asked = given.value if given else float(limit or ScaleSettings().target)
        return min(asked, float(limit)) if limit else float(asked)
    if given is None:
        if metric in _UNITS:
            key = (OPENFAAS if words == OPENFAAS else KNATIVE) + "target"
            raise InvalidSetting(
                f"{said['metric'].text if 'metric' in said else 'hpa'} needs {key}: {_UNITS[metric]} per replica"
            )
        return 200.0 if metric is Metric.RPS and words == KNATIVE else 50.0
    if metric is Metric.CPU and given.key.startswith(KNATIVE):
        request = spec.requests.cpu if spec.requests is not None else None
        if not request:
            raise InvalidSetting(f"{given.key}={given.text!r} is a percentage of requests.cpu, which is not set")
        try:
            return float(given.value) / 100 * cpu_cores(request) * 1000
        except InvalidQuantity as error:
            raise InvalidSetting(f"requests.cpu: {error}") from None
    return float(given.value)


def _utilisation_of(said: dict[str, _Said], metric: Metric, words: str) -> float:
    if "proportion" in said:
        return float(said["proportion"].value)
    if "percent" in said:
        return float(said["percent"].value) / 100
    if words == OPENFAAS:
        return 0.9
    return 1.0 if metric in _UNITS else 0.7


def _zero_of(said: dict[str, _Said], window_s: float) -> tuple[bool, float, bool]:
    """Return whether zero is allowed, after how many idle seconds, and whether that is to be learnt."""
    least, flag = said.get("min"), said.get("zero")
    at_least_none = least is not None and least.value == 0
    if flag is not None and not flag.value and at_least_none:
        raise _contradiction(flag, said["min"])
    zero = at_least_none or (flag is not None and flag.value)
    learn = said["learn"].value if "learn" in said else True
    if "zero_after" in said:
        return zero, float(said["zero_after"].value), False
    if "retention" in said or (at_least_none and flag is None and said["min"].key.startswith(KNATIVE)):
        return zero, window_s + (said["retention"].value if "retention" in said else 0.0), False
    return zero, ScaleSettings().zero_after_s, zero and learn


def _check(settings: ScaleSettings, said: dict[str, _Said]) -> None:
    def names(setting: str) -> str:
        return f"{said[setting].key}={said[setting].text!r}"

    low, high = settings.min_replicas, settings.max_replicas
    limit = names("max") if "max" in said else f"the default max {high}"
    if low > high:
        raise InvalidSetting(f"{names('min')} is above {limit}")
    for setting, count in (("initial", settings.initial_replicas), ("activation", settings.activation_replicas)):
        if setting in said and count > high:
            raise InvalidSetting(f"{names(setting)} is above {limit}")
    if too_many := next((entry for entry in settings.schedule if entry.replicas > high), None):
        raise InvalidSetting(f"{said['schedule'].key}: {too_many.replicas} replicas are above {limit}")
