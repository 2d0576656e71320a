"""A gradual rollout: calls move to a new revision in steps, and all of them back at once when it does worse than the old one.

What a function's annotations ask for is `GradualSettings`; where a rollout stands is `GradualRollout`, which is durable: a
platform that starts again goes on with the step that it was at, from that step's beginning. `verdict` compares what was
counted during a step, and knows no clock.
"""

from __future__ import annotations

from itertools import pairwise
from math import sqrt
from typing import Final

import msgspec

from orchestration.duration import format_duration
from orchestration.settings import InvalidSetting, parse_setting_s
from orchestration.spec import FunctionSpec
from telemetry.histogram import Histogram

PREFIX: Final = "com.pinnace.rollout."
DURATION_KEY: Final = PREFIX + "duration"
STEPS_KEY: Final = PREFIX + "steps"
ABORT_KEY: Final = PREFIX + "abort-on"
KNATIVE_DURATION_KEY: Final = "serving.knative.dev/rollout-duration"

DEFAULT_STEPS: Final = (5, 25, 50)
MOST_STEPS: Final = 50
LONGEST_S: Final = 7 * 24 * 3600.0

Z: Final = 2.576
"""Of a 99 % interval: a step is judged each second, so that 95 % would abort good revisions by chance."""
LEAST_FAILURES: Final = 3
LEAST_CALLS: Final = 20
SLOWER: Final = 1.5
TAIL: Final = 0.05


class GradualSettings(msgspec.Struct, frozen=True):
    """`duration_s` from the first call on the new revision to the last on the old one; 0: at once. `steps` are percentages of
    the calls, each held for the same time; all calls follow the last. What aborts: `errors`, `latency`."""

    duration_s: float = 0.0
    steps: tuple[int, ...] = DEFAULT_STEPS
    errors: bool = True
    latency: bool = True

    @property
    def step_s(self) -> float:
        """How long each step is held, in seconds."""
        return self.duration_s / len(self.steps)


class GradualRollout(msgspec.Struct, frozen=True, rename="camel"):
    """`revision` gets `percent` of the calls that are on their way to it; it is at step number `step` (from 0) since `since`
    (Unix seconds)."""

    revision: str
    step: int
    percent: int
    since: float


class Outcomes(msgspec.Struct, frozen=True):
    """What a revision did: calls by how long its replicas took (`durations`, over `bounds_s`), `failed` of them with a status
    of 5xx."""

    failed: int
    durations: Histogram
    bounds_s: tuple[float, ...]

    @property
    def calls(self) -> int:
        return self.durations.count


def gradual_settings(spec: FunctionSpec) -> GradualSettings:
    """Return what annotations (or labels) say of rollouts. Raises InvalidSetting."""
    said = {**spec.labels, **spec.annotations}
    settings = GradualSettings()
    for key in (KNATIVE_DURATION_KEY, DURATION_KEY):  # ours wins
        if key in said:
            duration_s = parse_setting_s(key, said[key])
            if duration_s > LONGEST_S:
                raise InvalidSetting(f"{key}={said[key]!r}: at most {format_duration(LONGEST_S)}")
            settings = msgspec.structs.replace(settings, duration_s=duration_s)
    if STEPS_KEY in said:
        settings = msgspec.structs.replace(settings, steps=_steps(said[STEPS_KEY]))
    if ABORT_KEY in said:
        words = {word.strip() for word in said[ABORT_KEY].split(",")} - {""}
        if not words or not words <= {"errors", "latency", "nothing"} or ("nothing" in words and len(words) > 1):
            raise InvalidSetting(f"{ABORT_KEY}={said[ABORT_KEY][:40]!r}: errors, latency, both with a comma, or nothing")
        settings = msgspec.structs.replace(settings, errors="errors" in words, latency="latency" in words)
    if settings.duration_s and settings.step_s < 1:
        raise InvalidSetting(
            f"{len(settings.steps)} steps in {format_duration(settings.duration_s)}: each needs a second at least"
        )
    return settings


def _steps(text: str) -> tuple[int, ...]:
    parts = [part.strip().removesuffix("%").strip() for part in text.split(",")]
    wrong = InvalidSetting(f"{STEPS_KEY}={text[:80]!r}: rising percentages from 1 to 99, such as 5,25,50")
    if not all(part.isascii() and part.isdigit() and len(part) < 3 for part in parts) or len(parts) > MOST_STEPS:
        raise wrong
    steps = tuple(int(part) for part in parts)
    if steps[0] < 1 or any(later <= earlier for earlier, later in pairwise(steps)):
        raise wrong
    return steps


def verdict(old: Outcomes, new: Outcomes, settings: GradualSettings) -> str:
    """Return why the new revision is worse than the old one, in one line; empty where that is not shown.

    *Errors*: at least LEAST_FAILURES calls failed, and the whole Wilson interval (99 %; Wilson 1927) of its error rate lies
    above the old one's. Example: 3 of 3 failed beside 0 of 60; 3 of 30 beside 0 of 600; but not 3 of 60 beside 0 of 60.

    *Latency*: both had LEAST_CALLS calls, and with the same confidence more than 5 % of its calls took longer than SLOWER
    times the old one's p95 (rounded up to the next bound that durations are counted by), so that its p95 is above that, and
    a larger part than of the old one's: of a revision of which 6 % are slow, 20 calls may show none, and the next 20 four.

    Too few calls show nothing: then the step is passed.
    """
    if settings.errors and (why := _more_errors(old, new)):
        return why
    return _slower(old, new) if settings.latency else ""


def _more_errors(old: Outcomes, new: Outcomes) -> str:
    if new.failed < LEAST_FAILURES or wilson(new.failed, new.calls)[0] <= wilson(old.failed, old.calls)[1]:
        return ""
    before = f"{old.failed} of {old.calls}" if old.calls else "no calls"
    return f"{new.failed} of {new.calls} calls failed ({_percent(new.failed / new.calls)}), {before} on the old revision"


def _slower(old: Outcomes, new: Outcomes) -> str:
    if min(old.calls, new.calls) < LEAST_CALLS:
        return ""
    p95_s = quantile_s(old.durations, old.bounds_s, 1 - TAIL)
    place = next((i for i, bound in enumerate(old.bounds_s) if bound >= SLOWER * p95_s), None)
    if place is None:
        return ""  # the old one's slowest are beyond what is told apart
    slow, before = sum(new.durations.buckets[place + 1 :]), sum(old.durations.buckets[place + 1 :])
    if wilson(slow, new.calls)[0] <= max(TAIL, wilson(before, old.calls)[1]):
        return ""
    now_s = quantile_s(new.durations, new.bounds_s, 1 - TAIL)
    return f"p95 is {_duration(now_s)} over {new.calls} calls, {_duration(p95_s)} on the old revision"


def wilson(hits: int, calls: int, z: float = Z) -> tuple[float, float]:
    """Return the score interval of a rate seen as `hits` of `calls` (Wilson 1927); all that is possible where none was."""
    if not calls:
        return 0.0, 1.0
    rate, square = hits / calls, z * z
    middle = rate + square / (2 * calls)
    half = z * sqrt((rate * (1 - rate) + square / (4 * calls)) / calls)
    return max(0.0, (middle - half) / (1 + square / calls)), min(1.0, (middle + half) / (1 + square / calls))


def quantile_s(durations: Histogram, bounds_s: tuple[float, ...], quantile: float) -> float:
    """Return a quantile, evenly spread within its bucket; of what is beyond the last bound, that bound."""
    wanted = durations.count * quantile
    below = 0.0
    for place, bound in enumerate(bounds_s):
        count = durations.buckets[place]
        if count and below + count >= wanted:
            low = bounds_s[place - 1] if place else 0.0
            return low + (bound - low) * (wanted - below) / count
        below += count
    return bounds_s[-1]


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def _duration(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"
