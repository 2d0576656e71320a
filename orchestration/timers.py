"""Timers of a function, in the words of OpenFaaS's cron connector, and which of their runs are due. Pure: the clock is an
argument.

    topic: cron-function
    schedule: "*/5 * * * *; 0 8 * * 1-5"
    com.pinnace.timer.zone: Europe/Berlin

A run has an instant, which its schedule names; who asks says up to which instant all is done (`since`), and is told what is to
be done until `now`. So two who ask come to the same runs, and a restart loses none. A run whose instant is further back than
ON_TIME_S was missed: the platform did not run.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from typing import Final

import msgspec

from orchestration.cron import InvalidCron, check_timer, following, instants_after, instants_before, time_zone
from orchestration.duration import format_duration
from orchestration.settings import InvalidSetting
from orchestration.spec import FunctionSpec

TOPIC_KEY: Final = "topic"
SCHEDULE_KEY: Final = "schedule"
CRON_TOPIC: Final = "cron-function"
ZONE_KEY: Final = "com.pinnace.timer.zone"
MISSED_KEY: Final = "com.pinnace.timer.missed"
OVERLAP_KEY: Final = "com.pinnace.timer.overlap"
_OURS: Final = "com.pinnace.timer."

MOST_TIMERS: Final = 50
MOST_MISSED: Final = 100
"""So many missed runs are made up for at most, the latest ones."""
ON_TIME_S: Final = 30.0
"""A run may be so late before it counts as missed: a restart of the platform, or another one taking over, takes less."""


class Missed(enum.StrEnum):
    """What becomes of runs whose time came while no platform was there."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


class Timer(msgspec.Struct, frozen=True):
    """One cron expression (`cron.check_timer`) in an IANA zone."""

    expression: str
    zone: str = "UTC"

    def next_after(self, now: float) -> float:
        """Return the first instant after `now` (Unix s; inf: none)."""
        return following(self.expression, time_zone(self.zone), now)

    def coming(self, now: float, count: int) -> list[float]:
        """Return the next `count` instants after `now` (Unix s)."""
        return list(islice(instants_after(self.expression, time_zone(self.zone), now), count))

    def until(self, since: float, now: float, most: int) -> list[float]:
        """Return the last `most` instants in (since, now], in order."""
        return list(islice(self.between(since, now), most))[::-1]

    def between(self, since: float, now: float) -> Iterator[float]:
        """Yield the instants in (since, now], the latest first. Finding one takes up to 0.1 ms."""
        return takewhile(lambda at: at > since, instants_before(self.expression, time_zone(self.zone), now))


class TimerSettings(msgspec.Struct, frozen=True):
    """`overlap`: a run may begin while the one before it has not ended."""

    timers: tuple[Timer, ...] = ()
    missed: Missed = Missed.ONCE
    overlap: bool = True


class Due(msgspec.Struct, frozen=True):
    """`runs` are the instants of the runs to make, in order; `missed` is how many others there were (up to MOST_MISSED)."""

    runs: tuple[float, ...]
    missed: int


class TimerKey(msgspec.Struct, frozen=True):
    """A label or annotation: what it `takes` and what it `means`, for the documentation."""

    key: str
    takes: str
    means: str


KEYS: Final = (
    TimerKey(TOPIC_KEY, f"`{CRON_TOPIC}`, among others separated by `,`", "the function has timers"),
    TimerKey(
        SCHEDULE_KEY,
        "cron expressions separated by `;`: five fields, six with seconds first, `@hourly` and its like, `@every 90s`",
        "when it is called",
    ),
    TimerKey(ZONE_KEY, "an IANA time zone; UTC where it is not set", "whose clock the expressions mean"),
    TimerKey(
        MISSED_KEY,
        f"`{Missed.SKIP}`, `{Missed.ONCE}` (unless set), `{Missed.ALL}`",
        f"what becomes of runs that were missed by more than {format_duration(ON_TIME_S)} because no platform ran: nothing, "
        f"the last one is made, or all are (the last {MOST_MISSED})",
    ),
    TimerKey(OVERLAP_KEY, "`true` (unless set), `false`", "false: no run while the one before has not ended; it is left out"),
)


def is_timer_key(key: str) -> bool:
    """Whether a label or annotation is about timers: it takes effect at once and makes no revision."""
    return key in (TOPIC_KEY, SCHEDULE_KEY) or key.startswith(_OURS)


def timer_settings(spec: FunctionSpec) -> TimerSettings:
    """Return what annotations (and labels, which yield to them) say; no timers without the topic. Raises InvalidSetting."""
    said = {**spec.labels, **spec.annotations}
    if CRON_TOPIC not in (topic.strip() for topic in said.get(TOPIC_KEY, "").split(",")):
        return TimerSettings()
    zone = said.get(ZONE_KEY, "").strip() or "UTC"
    try:
        time_zone(zone)
    except InvalidCron as error:
        raise InvalidSetting(f"{ZONE_KEY}: {error}") from None
    expressions = [" ".join(part.split()) for part in said.get(SCHEDULE_KEY, "").split(";")]
    expressions = list(dict.fromkeys(part for part in expressions if part))
    if not expressions:
        raise InvalidSetting(f"{TOPIC_KEY}={CRON_TOPIC} needs {SCHEDULE_KEY} with a cron expression, such as */5 * * * *")
    if len(expressions) > MOST_TIMERS:
        raise InvalidSetting(f"{SCHEDULE_KEY} has {len(expressions)} expressions: at most {MOST_TIMERS}")
    for number, expression in enumerate(expressions, 1):
        if "TZ=" in expression.partition(" ")[0]:  # as other systems have it: CRON_TZ=Europe/Berlin 0 8 * * *
            raise InvalidSetting(f"{SCHEDULE_KEY}: expression {number} {expression!r}: {ZONE_KEY} is where the time zone goes")
        try:
            check_timer(expression, f"expression {number}")
        except InvalidCron as error:
            raise InvalidSetting(f"{SCHEDULE_KEY}: {error}") from None
    return TimerSettings(tuple(Timer(e, zone) for e in expressions), _missed(said), _overlap(said))


def due(timer: Timer, since: float, now: float, missed: Missed) -> Due:
    """Return the runs to make at `now` when all up to `since` are done (Unix s).

    What is on time is made, but of a schedule with seconds only the latest run. Of what was missed: nothing (`skip`), the
    latest one where nothing is on time (`once`), or all of the last MOST_MISSED (`all`).
    """
    return due_of(timer.until(since, now, MOST_MISSED), now, missed)


def due_of(instants: Sequence[float], now: float, missed: Missed) -> Due:
    """Return what `due` does, of a timer's last instants until `now`, in order."""
    on_time = [at for at in instants if at >= now - ON_TIME_S]
    late = [at for at in instants if at < now - ON_TIME_S]
    if missed is Missed.ALL:
        return Due(tuple(instants), 0)
    runs = on_time[-1:] or (late[-1:] if missed is Missed.ONCE else [])
    return Due(tuple(runs), len(instants) - len(runs))


def _missed(said: dict[str, str]) -> Missed:
    text = said.get(MISSED_KEY, "").strip().lower() or Missed.ONCE
    try:
        return Missed(text)
    except ValueError:
        raise InvalidSetting(f"{MISSED_KEY}={text[:40]!r}: {', '.join(Missed)}") from None


def _overlap(said: dict[str, str]) -> bool:
    text = said.get(OVERLAP_KEY, "").strip().lower() or "true"
    if text not in ("true", "false"):
        raise InvalidSetting(f"{OVERLAP_KEY}={text[:40]!r}: true or false")
    return text == "true"
