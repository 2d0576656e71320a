"""Cron expressions in a time zone: what they may be, and the instants that they name.

Five fields are Debian cron's, with its rule for clock changes (crontab(5)): a fixed time that a change skips happens right
after it, one that a change repeats happens once; expressions whose minute or hour begins with `*` follow the clock as it
is shown. Timers also take six fields (seconds first), which always follow the clock as it is shown, cron's names
(`@hourly`), and `@every 90s`: the multiples of that time since 1970, so that everybody who reckons comes to the same instants.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from math import floor, inf
from typing import TYPE_CHECKING, Final

from orchestration.duration import InvalidDuration, parse_duration_s

if TYPE_CHECKING:
    from cronsim import CronSim

LONGEST_EXPRESSION: Final = 100
LONGEST_ZONE: Final = 64  # the longest IANA name has 32 characters
LONGEST_EVERY_S: Final = 366 * 86400

NAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
EVERY: Final = "@every"

_SOME_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)  # what fires at all fires within 40 years of any time
_FORM: Final = "minute hour day month weekday, such as 0 8 * * 1-5"


class InvalidCron(ValueError):
    """Not a cron expression or not a time zone; the message names the text and says what would be right."""


def check_expression(expression: str, what: str) -> CronSim:
    """Return the parsed expression. Raises InvalidCron, which calls it `what`, unless it is five fields that fire some time."""
    fields = _short_enough(expression, what)
    if fields != 5:
        raise InvalidCron(f"{what} {expression!r} has {fields} fields, not five: {_FORM}")
    return _parsed(expression, what, _FORM)


def check_timer(expression: str, what: str) -> None:
    """Raises InvalidCron, which calls it `what`, unless `expression` is one of those that timers take."""
    fields = _short_enough(expression, what)
    first, _, rest = expression.strip().partition(" ")
    if first == EVERY:
        try:
            every_s = parse_duration_s(rest)
        except InvalidDuration as error:
            raise InvalidCron(f"{what} {expression!r}: {error}") from None
        if not 1 <= every_s <= LONGEST_EVERY_S or every_s != int(every_s):
            raise InvalidCron(f"{what} {expression!r}: whole seconds, from 1s to {LONGEST_EVERY_S // 3600}h")
    elif first.startswith("@"):
        if expression.strip() not in NAMES:
            raise InvalidCron(f"{what} {expression!r}: one of {', '.join(NAMES)}, or {EVERY} with a time, such as {EVERY} 90s")
    elif fields not in (5, 6):
        raise InvalidCron(f"{what} {expression!r} has {fields} fields, not five (or six with seconds first): {_FORM}")
    else:
        _parsed(expression, what, _FORM if fields == 5 else f"second {_FORM.replace('as 0', 'as 30 0')}")


def _short_enough(expression: str, what: str) -> int:
    if len(expression) > LONGEST_EXPRESSION:
        raise InvalidCron(f"{what} has {len(expression)} characters: at most {LONGEST_EXPRESSION}")
    return len(expression.split())


def _parsed(expression: str, what: str, form: str) -> CronSim:
    from cronsim import CronSim, CronSimError

    try:
        parsed = CronSim(expression, _SOME_TIME)
    except CronSimError as error:
        problem = str(error).removeprefix("Bad ")
        raise InvalidCron(f"{what} {expression!r}: the {problem} cannot be: {form}") from None
    if next(CronSim(expression, _SOME_TIME), None) is None:
        raise InvalidCron(f"{what} {expression!r} never comes: no day is like that")
    return parsed


@functools.lru_cache(maxsize=1024)
def time_zone(name: str) -> tzinfo:
    """Return the zone called `name`. Raises InvalidCron."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        if len(name) > LONGEST_ZONE:
            raise ZoneInfoNotFoundError
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        short = repr(name if len(name) <= 60 else name[:60] + "…")
        unknown = f"zone {short} is not known here: an IANA name such as Europe/Berlin, or nothing for UTC"
    try:
        ZoneInfo("Europe/Berlin")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        unknown = f"zone {short}: this machine has no time zones; install tzdata (apt-get install tzdata) or use UTC"
    raise InvalidCron(unknown)


def latest(expression: str, zone: tzinfo, now: float) -> float:
    """Return the last instant of `expression` up to and including `now` (Unix s; -inf: none)."""
    return next(instants_before(expression, zone, now), -inf)


def following(expression: str, zone: tzinfo, now: float) -> float:
    """Return the first instant of `expression` after `now` (Unix s; inf: none)."""
    return next(instants_after(expression, zone, now), inf)


def instants_after(expression: str, zone: tzinfo, now: float) -> Iterator[float]:
    """Yield the instants of `expression` after `now`, one after the other, none twice (Unix s)."""
    last = now
    for at in _walk(expression, zone, int(now // 1), reverse=False):
        if at > last:
            last = at
            yield at


def instants_before(expression: str, zone: tzinfo, now: float) -> Iterator[float]:
    """Yield the instants of `expression` up to and including `now`, the latest first, none twice (Unix s)."""
    last = inf
    for at in _walk(expression, zone, int(now // 1) + 1, reverse=True):
        if at <= now and at < last:
            last = at
            yield at


def _walk(expression: str, zone: tzinfo, origin: int, *, reverse: bool) -> Iterator[float]:
    """Instants of `expression` one after the other, away from `origin` (whole Unix s). The first few may be on the wrong side.

    Cronsim reckons fixed times by the wall clock, where the second pass through a repeated hour looks like the first. So
    going back begins as much later as the clock was set back: at the second 02:15 from 03:15, lest the first 02:45 is missed.
    """
    if expression.startswith(EVERY):
        yield from _multiples(parse_duration_s(expression.removeprefix(EVERY)), origin, reverse=reverse)
        return
    from cronsim import CronSim

    here = datetime.fromtimestamp(origin, zone)
    if reverse and here.fold:
        first, second = here.replace(fold=0).utcoffset(), here.utcoffset()
        here += max(timedelta(0), (first or timedelta(0)) - (second or timedelta(0)))
    for at in CronSim(NAMES.get(expression, expression), here, reverse):
        yield at.timestamp()


def _multiples(every_s: float, origin: int, *, reverse: bool) -> Iterator[float]:
    number = floor(origin / every_s) + (0 if reverse else 1)
    while True:
        yield number * every_s
        number += -1 if reverse else 1
