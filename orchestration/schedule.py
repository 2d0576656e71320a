"""Floors by the clock: how many replicas a function keeps at least between two times of a calendar.

A schedule is a few entries, one a line or separated by `;`:

    0 8 * * 1-5 | 0 18 * * 1-5 | 5 | Europe/Berlin

From each instant of the first cron expression until the next instant of the second one the floor is 5. The entry is in
force when its latest start is no earlier than its latest end; so nothing needs to be remembered, and a platform that was
down at the start is right when it comes back. Where a start and an end fall on the same instant the start wins.

Cron expressions have Debian cron's five fields and its rule for clock changes (crontab(5)): a fixed time that a change
skips happens right after it, one that a change repeats happens once; expressions whose minute or hour begins with `*`
follow the clock as it is shown.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from math import inf
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from cronsim import CronSim

MOST_ENTRIES: Final = 50
LONGEST_EXPRESSION: Final = 100
LONGEST_ZONE: Final = 64  # the longest IANA name has 32 characters
HIGHEST_FLOOR: Final = 10_000

_FORM: Final = "START | END | REPLICAS or START | END | REPLICAS | ZONE"
_EXAMPLE: Final = "0 8 * * 1-5 | 0 18 * * 1-5 | 5 | Europe/Berlin"
_SOME_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)  # what fires at all fires within 40 years of any time


class InvalidSchedule(ValueError):
    """Not a schedule; the message names the text, the place in it, and what would be right."""


class ScheduledFloor(msgspec.Struct, frozen=True, rename="camel"):
    """At least `replicas` (≥ 0) from each instant of the cron expression `start` to the next one of `end`, in an IANA `zone`.

    0 is no floor; it is allowed because it says something beside others and in tables that people keep.
    """

    start: str
    end: str
    replicas: int
    zone: str = "UTC"


def parse_schedule(text: str) -> tuple[ScheduledFloor, ...]:
    """Return the entries of `text` in order; none for an empty one. Raises InvalidSchedule."""
    lines = [line.strip() for line in text.replace(";", "\n").splitlines()]
    entries = [line for line in lines if line]
    if len(entries) > MOST_ENTRIES:
        raise InvalidSchedule(f"a schedule of {len(entries)} entries: at most {MOST_ENTRIES}")
    return tuple(_entry(number, entry) for number, entry in enumerate(entries, 1))


def floor_at(schedule: tuple[ScheduledFloor, ...], now: float) -> tuple[int, ScheduledFloor | None, float]:
    """Return what `schedule` (of `parse_schedule`) says at `now`, in Unix seconds.

    The floor, the entry that gives it (the largest wins, of equal ones the first; None: no entry is in force), and the Unix
    second of the next start or end of an entry, until which the answer stays the same (inf: none). An entry costs about
    0.1 ms, rare dates 1 ms, so callers keep the answer until then.
    """
    winner, change = None, inf
    for entry in schedule:
        zone = _zone(entry.zone)
        started, ended = _latest(entry.start, zone, now), _latest(entry.end, zone, now)
        in_force = started > -inf and started >= ended
        if in_force and (winner is None or entry.replicas > winner.replicas):
            winner = entry
        change = min(change, _next(entry.end if in_force else entry.start, zone, now))
    return (winner.replicas if winner else 0), winner, change


def _entry(number: int, text: str) -> ScheduledFloor:
    place = f"entry {number} of the schedule, {_short(text)}"
    parts = [part.strip() for part in text.split("|")]
    if len(parts) not in (3, 4):
        raise InvalidSchedule(f"{place}, has {len(parts)} parts: {_FORM}, such as {_EXAMPLE}")
    zone = parts[3] if len(parts) == 4 else "UTC"
    try:
        start, end = _checked(parts[0], "start"), _checked(parts[1], "end")
        replicas = _count(parts[2])
        _zone(zone)
        if _never_ends(start, end):
            raise InvalidSchedule(f"start {parts[0]!r} and end {parts[1]!r} are the same instants, so that it would never end")
    except InvalidSchedule as error:
        raise InvalidSchedule(f"{place}: {error}") from None
    return ScheduledFloor(parts[0], parts[1], replicas, zone)


def _checked(expression: str, what: str) -> CronSim:
    """Return the parsed expression. Raises InvalidSchedule unless it is five fields that fire some time."""
    from cronsim import CronSim, CronSimError

    form = "minute hour day month weekday, such as 0 8 * * 1-5"
    if len(expression) > LONGEST_EXPRESSION:
        raise InvalidSchedule(f"{what} has {len(expression)} characters: at most {LONGEST_EXPRESSION}")
    fields = len(expression.split())
    if fields != 5:
        raise InvalidSchedule(f"{what} {expression!r} has {fields} fields, not five: {form}")
    try:
        parsed = CronSim(expression, _SOME_TIME)
    except CronSimError as error:
        problem = str(error).removeprefix("Bad ")
        raise InvalidSchedule(f"{what} {expression!r}: the {problem} cannot be: {form}") from None
    if next(CronSim(expression, _SOME_TIME), None) is None:
        raise InvalidSchedule(f"{what} {expression!r} never comes: no day is like that")
    return parsed


def _never_ends(start: CronSim, end: CronSim) -> bool:
    """Whether every end is a start too (which then wins)."""
    return start.day_and == end.day_and and (
        end.minutes <= start.minutes
        and end.hours <= start.hours
        and end.days <= start.days
        and end.months <= start.months
        and _weekdays(end) <= _weekdays(start)
    )


def _weekdays(cron: CronSim) -> set[object]:
    return {0 if day == 7 else day for day in cron.weekdays}  # both are Sunday


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) > HIGHEST_FLOOR:
        raise InvalidSchedule(f"replicas {_short(text)}: a whole number from 0 to {HIGHEST_FLOOR}")
    return int(text)


@functools.lru_cache(maxsize=1024)
def _zone(name: str) -> tzinfo:
    """Return the zone called `name`. Raises InvalidSchedule."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        if len(name) > LONGEST_ZONE:
            raise ZoneInfoNotFoundError
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        unknown = f"zone {_short(name)} is not known here: an IANA name such as Europe/Berlin, or nothing for UTC"
    try:
        ZoneInfo("Europe/Berlin")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        unknown = f"zone {_short(name)}: this machine has no time zones; install tzdata (apt-get install tzdata) or use UTC"
    raise InvalidSchedule(unknown)


def _latest(expression: str, zone: tzinfo, now: float) -> float:
    """Return the last instant of `expression` up to and including `now` (Unix s; -inf: none)."""
    for at in _walk(expression, zone, int(now // 1) + 1, reverse=True):
        if at <= now:
            return at
    return -inf


def _next(expression: str, zone: tzinfo, now: float) -> float:
    """Return the first instant of `expression` after `now` (Unix s; inf: none)."""
    for at in _walk(expression, zone, int(now // 1), reverse=False):
        if at > now:
            return at
    return inf


def _walk(expression: str, zone: tzinfo, origin: int, *, reverse: bool) -> Iterator[float]:
    """Instants of `expression` one after the other, away from `origin` (whole Unix s). The first few may be on the wrong side.

    Cronsim reckons fixed times by the wall clock, where the second pass through a repeated hour looks like the first. So
    going back begins as much later as the clock was set back: at the second 02:15 from 03:15, lest the first 02:45 is missed.
    """
    from cronsim import CronSim

    here = datetime.fromtimestamp(origin, zone)
    if reverse and here.fold:
        first, second = here.replace(fold=0).utcoffset(), here.utcoffset()
        here += max(timedelta(0), (first or timedelta(0)) - (second or timedelta(0)))
    for at in CronSim(expression, here, reverse):
        yield at.timestamp()


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
