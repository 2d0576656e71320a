"""Floors by the clock: how many replicas a function keeps at least between two times of a calendar.

A schedule is a few entries, one a line or separated by `;`:

    0 8 * * 1-5 | 0 18 * * 1-5 | 5 | Europe/Berlin

From each instant of the first cron expression until the next instant of the second one the floor is 5. The entry is in
force when its latest start is no earlier than its latest end; so nothing needs to be remembered, and a platform that was
down at the start is right when it comes back. Where a start and an end fall on the same instant the start wins.

Cron expressions have five fields (`cron`).
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

import msgspec

from orchestration.cron import InvalidCron, check_expression, following, latest, time_zone

if TYPE_CHECKING:
    from cronsim import CronSim

MOST_ENTRIES: Final = 50
HIGHEST_FLOOR: Final = 10_000

_FORM: Final = "START | END | REPLICAS or START | END | REPLICAS | ZONE"
_EXAMPLE: Final = "0 8 * * 1-5 | 0 18 * * 1-5 | 5 | Europe/Berlin"


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
        zone = time_zone(entry.zone)
        started, ended = latest(entry.start, zone, now), latest(entry.end, zone, now)
        in_force = started > -inf and started >= ended
        if in_force and (winner is None or entry.replicas > winner.replicas):
            winner = entry
        change = min(change, following(entry.end if in_force else entry.start, zone, now))
    return (winner.replicas if winner else 0), winner, change


def _entry(number: int, text: str) -> ScheduledFloor:
    place = f"entry {number} of the schedule, {_short(text)}"
    parts = [part.strip() for part in text.split("|")]
    if len(parts) not in (3, 4):
        raise InvalidSchedule(f"{place}, has {len(parts)} parts: {_FORM}, such as {_EXAMPLE}")
    zone = parts[3] if len(parts) == 4 else "UTC"
    try:
        start, end = check_expression(parts[0], "start"), check_expression(parts[1], "end")
        replicas = _count(parts[2])
        time_zone(zone)
        if _never_ends(start, end):
            raise InvalidSchedule(f"start {parts[0]!r} and end {parts[1]!r} are the same instants, so that it would never end")
    except (InvalidSchedule, InvalidCron) as error:
        raise InvalidSchedule(f"{place}: {error}") from None
    return ScheduledFloor(parts[0], parts[1], replicas, zone)


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


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
