"""Policies: settings as a function's labels would give them, and how fast who follows them sees and acts.

| name | is |
|---|---|
| `pinnace` | the decider with its defaults, down to zero, idle times learnt |
| `pinnace-timers` | the same, and calls of timers are known before they come: the platform makes them itself |
| `fixed` | the decider, zero after 10 idle minutes, nothing learnt |
| `knative` | Knative's settings and its lag (`knative`) |
| `openfaas` | OpenFaaS's rule and its lag (`openfaas`) |

A what-if is one of these with some settings changed. Every policy meets the same calls and the same start times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from autoscaler.decider import Decider
from autoscaler.observation import PUSHED
from autoscaler.simulator.distribution import Distribution, InvalidDistribution
from autoscaler.simulator.engine import Controller, Model
from autoscaler.simulator.knative import DRAIN_S, ZERO_AFTER_S, Knative
from autoscaler.simulator.live import Live
from autoscaler.simulator.openfaas import OpenFaaS
from autoscaler.simulator.trace import TIMER, Trace, Workload
from orchestration.duration import InvalidDuration, format_duration, parse_duration_s
from orchestration.scaling import ScaleSettings
from orchestration.scaling_labels import KNATIVE, OPENFAAS, OURS, SPELLINGS, scale_settings
from orchestration.settings import CONCURRENCY_LABEL, InvalidSetting, replica_settings
from orchestration.spec import FunctionSpec

START: Final = Distribution.parse("300ms")
"""A fresh Python process of a small handler until it takes calls, measured: 260 to 310 ms."""

_MODEL_KEYS: Final = ("start", "linger", "queue-calls", "queue-timeout", "lead", "timers")


class UnknownPolicy(ValueError):
    """There is no policy or setting of that name; the message says which there are."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """`labels`, `annotations` and `env` as a function would have them. `follows` names who acts on them, `changed` what
    differs from the policy that it was made from.
    """

    name: str
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    env: Mapping[str, str] = {}
    follows: str = "pinnace"
    changed: str = ""
    start: Distribution = START
    linger_s: float = 0.0
    queue_calls: int = 10_000
    queue_timeout_s: float = 60.0
    knows_timers: bool = False
    lead_s: float = 1.0

    def spec(self) -> FunctionSpec:
        """Return a function with these settings."""
        return FunctionSpec(
            service="simulated",
            image="simulated",
            labels=dict(self.labels),
            annotations=dict(self.annotations),
            env_vars=dict(self.env),
        )

    def settings(self) -> ScaleSettings:
        """Return what the labels and annotations mean. Raises InvalidSetting, also for a metric that no trace knows."""
        settings = scale_settings(self.spec())
        if settings.metric not in PUSHED:
            raise InvalidSetting(f"{self.name}: {settings.metric} cannot be simulated: calls do not say what they use")
        return settings

    def model(self) -> Model:
        """Return what stands around the decider. Raises InvalidSetting."""
        return Model(
            start=self.start,
            limit=replica_settings(self.spec()).concurrency,
            queue_calls=self.queue_calls,
            queue_timeout_s=self.queue_timeout_s,
            linger_s=self.linger_s,
            knows_timers=self.knows_timers,
            lead_s=self.lead_s,
        )

    def controller(self, workload: Workload, trace: Trace) -> Controller:
        """Return the policy at work on one function. Raises InvalidSetting."""
        settings, limit = self.settings(), self.model().limit
        if self.knows_timers and workload.trigger == TIMER:
            # Nothing but the timer calls it, and that is known: there is nothing to wait for after its call.
            settings = msgspec.structs.replace(settings, zero_after_s=0.0, learns=False)
        return _FOLLOWERS[self.follows](Decider(settings, limit, 0.0), trace.starts_at)

    def what_if(self, text: str, name: str) -> Policy:
        """Return the policy with `KEY=VALUE,…` changed. Raises UnknownPolicy, InvalidSetting."""
        policy = self
        for part in text.split(","):
            key, equals, value = part.partition("=")
            if not equals:
                raise UnknownPolicy(f"what if {text!r}? Write KEY=VALUE, as in target=20")
            policy = policy._with(key.strip(), value.strip())
        policy = msgspec.structs.replace(policy, name=name, changed=text)
        policy.settings()
        policy.model()
        return policy

    def _with(self, key: str, value: str) -> Policy:
        if key == "concurrency":
            return msgspec.structs.replace(self, labels={**self.labels, CONCURRENCY_LABEL: value})
        if key in _MODEL_KEYS:
            return self._with_model(key, value)
        if key not in _SHORT:
            known = ", ".join(sorted((*_SHORT, "concurrency", *_MODEL_KEYS)))
            raise UnknownPolicy(f"what if {key}={value}? There is no setting {key!r}; there are {known}")
        full = _SHORT[key]
        alike = _ALIKE[full]
        labels = {k: v for k, v in self.labels.items() if k not in alike}
        annotations = {k: v for k, v in self.annotations.items() if k not in alike}
        if full == OPENFAAS + "target":  # of what is counted now: without a word about that, OpenFaaS means calls a second
            if OPENFAAS + "type" not in labels:
                labels[OPENFAAS + "type"] = self.settings().metric
            annotations.pop(KNATIVE + "metric", None)
        target = labels if full.startswith((OPENFAAS, OURS)) else annotations
        target[full] = value
        return msgspec.structs.replace(self, labels=labels, annotations=annotations)

    def _with_model(self, key: str, value: str) -> Policy:
        try:
            if key == "start":
                return msgspec.structs.replace(self, start=Distribution.parse(value))
            if key == "timers":
                if value not in ("known", "unknown"):
                    raise InvalidSetting(f"timers={value!r}: known or unknown")
                return msgspec.structs.replace(self, knows_timers=value == "known")
            if key == "queue-calls":
                if not (value.isascii() and value.isdigit()):
                    raise InvalidSetting(f"queue-calls={value!r}: a whole number")
                return msgspec.structs.replace(self, queue_calls=int(value))
            seconds = parse_duration_s(value)
        except (InvalidDistribution, InvalidDuration) as error:
            raise InvalidSetting(f"{key}: {error}") from None
        return msgspec.structs.replace(self, **{key.replace("-", "_") + "_s": seconds})

    def words(self) -> str:
        """Return in one line what it does."""
        settings = self.settings()
        idle = "learnt" if settings.learns else f"after {format_duration(settings.zero_after_s)}"
        parts = [
            f"{settings.metric} {settings.aim:g} a replica",
            f"{settings.min_replicas} to {settings.max_replicas}",
            f"zero {idle}" if settings.zero else "never zero",
            f"start {self.start}",
        ]
        if self.knows_timers:
            parts.append("timers known")
        if self.linger_s:
            parts.append(f"memory held {format_duration(self.linger_s)} longer")
        return ", ".join(parts)


_FOLLOWERS: Final[Mapping[str, Callable[[Decider, float], Controller]]] = {
    "pinnace": Live,
    "knative": Knative,
    "openfaas": OpenFaaS,
}


def _short_names() -> dict[str, str]:
    names: dict[str, str] = {}
    for prefix in (OURS, OPENFAAS, KNATIVE):  # where two have the same, the first
        for spelling in SPELLINGS:
            if spelling.key.startswith(prefix):
                names.setdefault(spelling.key.removeprefix(prefix), spelling.key)
    return names


def _alike() -> dict[str, frozenset[str]]:
    pairs = {"knative_target": "target", "percent": "proportion", "retention": "zero_after"}
    groups: dict[str, set[str]] = {}
    for spelling in SPELLINGS:
        groups.setdefault(pairs.get(spelling.setting, spelling.setting), set()).add(spelling.key)
    return {key: frozenset(keys) for keys in groups.values() for key in keys}


_SHORT: Final = _short_names()
_ALIKE: Final = _alike()

_ZERO: Final = {OPENFAAS + "zero": "true"}
POLICIES: Final[Mapping[str, Policy]] = {
    policy.name: policy
    for policy in (
        Policy(name="pinnace", labels=_ZERO),
        Policy(name="pinnace-timers", labels=_ZERO, knows_timers=True),
        Policy(name="fixed", labels={**_ZERO, OPENFAAS + "zero-duration": "10m"}),
        Policy(
            name="knative",
            labels={OPENFAAS + "zero-duration": format_duration(ZERO_AFTER_S)},
            annotations={KNATIVE + "min-scale": "0", KNATIVE + "max-scale": "0"},
            follows="knative",
            linger_s=DRAIN_S,
        ),
        Policy(
            name="openfaas", labels={**_ZERO, OPENFAAS + "target": "50", OPENFAAS + "zero-duration": "15m"}, follows="openfaas"
        ),
    )
}


def named(text: str) -> Policy:
    """Return a policy by its name. Raises UnknownPolicy."""
    if text not in POLICIES:
        raise UnknownPolicy(f"there is no policy {text!r}; there are {', '.join(POLICIES)}")
    return POLICIES[text]
