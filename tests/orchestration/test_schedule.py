from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestration import cron
from orchestration.schedule import MOST_ENTRIES, InvalidSchedule, ScheduledFloor, floor_at, parse_schedule

WORKDAYS = "0 8 * * 1-5 | 0 18 * * 1-5 | 5 | Europe/Berlin"
MINUTE = timedelta(minutes=1)


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def test_entries_stand_on_lines_or_between_semicolons() -> None:
    workdays = ScheduledFloor("0 8 * * 1-5", "0 18 * * 1-5", 5, "Europe/Berlin")
    nights = ScheduledFloor("0 22 * * *", "0 4 * * *", 2, "UTC")
    assert parse_schedule(WORKDAYS) == (workdays,)
    assert parse_schedule(f"{WORKDAYS}\n\n  0 22 * * *|0 4 * * *|2 \n") == (workdays, nights)
    assert parse_schedule(f"{WORKDAYS}; 0 22 * * * | 0 4 * * * | 2;") == (workdays, nights)
    assert parse_schedule(" \n ; ") == ()


def test_the_schedule_in_the_documentation_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs/autoscaling.md").read_text()
    written = page.partition("com.pinnace.scale.schedule: |\n")[2].partition("```")[0]
    assert [entry.replicas for entry in parse_schedule(written)] == [5, 8]


@pytest.mark.parametrize(
    ("start", "first", "second"),  # from 1 January 2026, a Thursday
    [
        ("0 8 L * *", "2026-01-31", "2026-02-28"),
        ("0 8 * * 5L", "2026-01-30", "2026-02-27"),
        ("0 8 * * 1#2", "2026-01-12", "2026-02-09"),
        ("0 8 * FEB MON,Tue", "2026-02-02", "2026-02-03"),
        ("0 8 */10 * 1-5", "2026-01-01", "2026-01-21"),  # both: one begins with *
        ("0 8 13 * 5", "2026-01-02", "2026-01-09"),  # either
    ],
)
def test_days_are_those_of_cron(start: str, first: str, second: str) -> None:
    schedule = parse_schedule(f"{start} | 0 9 * * * | 1")
    now, starts = at("2026-01-01T00:00"), list[str]()
    while len(starts) < 2:
        floor, _, until = floor_at(schedule, now)
        if not floor:
            starts.append(datetime.fromtimestamp(until, UTC).isoformat())
        now = until
    assert starts == [f"{first}T08:00:00+00:00", f"{second}T08:00:00+00:00"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0 8 * * *", "has 1 parts: START | END | REPLICAS"),
        ("0 8 * * * | 0 9 * * * | 1 | UTC | x", "has 5 parts"),
        ("99 8 * * * | 0 9 * * * | 1", "start '99 8 * * *': the minute cannot be"),
        ("0 8 * * * | 0 9 * * MO | 1", "end '0 9 * * MO': the day-of-week cannot be"),
        ("0 0 8 * * * | 0 9 * * * | 1", "has 6 fields, not five: minute hour day month weekday, such as"),
        ("@daily | 0 9 * * * | 1", "has 1 fields, not five"),
        ("0 8 30 2 * | 0 9 * * * | 1", "the day-of-month cannot be"),
        ("0 8 */20 * 1L | 0 9 * * * | 1", "never comes"),
        ("0 8 * * * | 0 9 * * * | many", "replicas 'many': a whole number from 0 to 10000"),
        ("0 8 * * * | 0 9 * * * | -1", "a whole number"),
        ("0 8 * * * | 0 9 * * * | ²", "a whole number"),
        ("0 8 * * * | 0 9 * * * | 10001", "a whole number"),
        ("0 8 * * * | 0 9 * * * |" + "9" * 5000, "a whole number"),
        ("0 8 * * * | 0 9 * * * | 1 | Berlin", "zone 'Berlin' is not known here: an IANA name such as Europe/Berlin"),
        ("0 8 * * * | 0 9 * * * | 1 | Europe", "is not known here"),
        ("0 8 * * * | 0 9 * * * | 1 | ../../etc/passwd", "is not known here"),
        ("0 8 * * * | 0 9 * * * | 1 | " + "Z" * 5000, "is not known here"),
        ("0 8 * * * | 0 9 * * * | 1 |", "zone '' is not known here"),
        ("0 8 * * * | 0 8 * * * | 1", "would never end"),
        ("0 8 * * 0,2 | 00 8 * * 2,7 | 1", "would never end"),
        ("* * * * * | 0 18 * * * | 1", "would never end"),
        (f"{','.join(['0'] * 60)} 8 * * * | 0 9 * * * | 1", "has 127 characters: at most 100"),
        (";".join([WORKDAYS] * (MOST_ENTRIES + 1)), "51 entries: at most 50"),
    ],
)
def test_what_cannot_be_is_said(text: str, complaint: str) -> None:
    with pytest.raises(InvalidSchedule) as error:
        parse_schedule(text)
    assert complaint in str(error.value)
    assert len(str(error.value)) < 400


def test_the_complaint_names_the_entry() -> None:
    with pytest.raises(InvalidSchedule, match=r"^entry 2 of the schedule, '0 8 x \* \* \| 0 9 \* \* \* \| 1': start '0 8 x"):
        parse_schedule(f"{WORKDAYS}; 0 8 x * * | 0 9 * * * | 1")


def test_a_machine_without_zones_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> ZoneInfo:
        raise ZoneInfoNotFoundError(name)

    cron.time_zone.cache_clear()
    monkeypatch.setattr("zoneinfo.ZoneInfo", nothing)
    with pytest.raises(InvalidSchedule, match=r"this machine has no time zones; install tzdata"):
        parse_schedule(WORKDAYS)
    assert len(parse_schedule("0 8 * * * | 0 9 * * * | 1 | UTC")) == 1


@settings(deadline=None)
@given(st.text(alphabet="0123456789*/-,#LW|; \nMONFE", max_size=60))
def test_any_text_is_a_schedule_or_is_refused(text: str) -> None:
    try:
        schedule = parse_schedule(text)
    except InvalidSchedule:
        return
    floor_at(schedule, at("2026-03-04T05:06"))


@pytest.mark.parametrize(
    ("now", "floor", "change"),
    [
        ("2026-03-02T07:59:59.9", 0, "2026-03-02T08:00"),  # a Monday
        ("2026-03-02T08:00", 5, "2026-03-02T18:00"),
        ("2026-03-02T17:59:59", 5, "2026-03-02T18:00"),
        ("2026-03-02T18:00", 0, "2026-03-03T08:00"),
        ("2026-03-06T18:00", 0, "2026-03-09T08:00"),  # over the weekend
    ],
)
def test_the_floor_holds_from_start_to_end(now: str, floor: int, change: str) -> None:
    schedule = parse_schedule(WORKDAYS)
    assert floor_at(schedule, at(now, "Europe/Berlin")) == (
        floor,
        schedule[0] if floor else None,
        at(change, "Europe/Berlin"),
    )


def test_the_largest_floor_wins_and_names_its_entry() -> None:
    day, noon, also = parse_schedule("0 8 * * * | 0 18 * * * | 2; 0 12 * * * | 0 13 * * * | 5; 30 11 * * * | 0 20 * * * | 2")
    schedule = (day, noon, also)
    assert floor_at(schedule, at("2026-01-05T11:45")) == (2, day, at("2026-01-05T12:00"))
    assert floor_at(schedule, at("2026-01-05T12:30")) == (5, noon, at("2026-01-05T13:00"))
    assert floor_at(schedule, at("2026-01-05T18:30")) == (2, also, at("2026-01-05T20:00"))
    assert floor_at(schedule, at("2026-01-05T21:00")) == (0, None, at("2026-01-06T08:00"))


def test_no_schedule_never_changes() -> None:
    assert floor_at((), at("2026-01-05T11:45")) == (0, None, inf)


def test_a_floor_of_nought_is_an_entry_like_others() -> None:
    (nought,) = schedule = parse_schedule("0 8 * * * | 0 18 * * * | 0")
    assert floor_at(schedule, at("2026-01-05T09:00")) == (0, nought, at("2026-01-05T18:00"))


def test_where_start_and_end_fall_together_the_start_wins() -> None:
    (entry,) = schedule = parse_schedule("0 8 * * * | 0 8,18 * * 1-5 | 3")
    saturday = "2026-01-03"
    assert floor_at(schedule, at(f"{saturday}T08:00"))[1] == entry
    assert floor_at(schedule, at("2026-01-04T23:00"))[1] == entry  # nothing ends it before Monday's 18:00
    assert floor_at(schedule, at("2026-01-05T08:00"))[1] == entry
    assert floor_at(schedule, at("2026-01-05T18:00"))[1] is None


def test_a_time_that_the_clock_skips_comes_right_after() -> None:
    # On 29 March 2026 Berlin's clock goes from 02:00 to 03:00.
    (entry,) = schedule = parse_schedule("30 2 * * * | 0 4 * * * | 1 | Europe/Berlin")
    three = at("2026-03-29T03:00", "Europe/Berlin")
    assert floor_at(schedule, three - 1) == (0, None, three)
    assert floor_at(schedule, three)[1] == entry
    assert floor_at(schedule, three + 3599)[1] == entry
    assert floor_at(schedule, three + 3600)[1] is None


def test_a_time_that_comes_twice_counts_once() -> None:
    # On 25 October 2026 Berlin's clock goes from 03:00 back to 02:00.
    (entry,) = schedule = parse_schedule("15 2 * * * | 45 2 * * * | 1 | Europe/Berlin")
    first, end = at("2026-10-25T02:15", "Europe/Berlin"), at("2026-10-25T02:45", "Europe/Berlin")
    tomorrow = at("2026-10-26T02:15", "Europe/Berlin")
    assert floor_at(schedule, first) == (1, entry, end)
    assert floor_at(schedule, end) == (0, None, tomorrow)
    for wall in ("02:00", "02:15", "02:30", "02:45", "02:59"):  # the second time around
        assert floor_at(schedule, at(f"2026-10-25T{wall}", "Europe/Berlin", fold=1)) == (0, None, tomorrow), wall


# A cron expression as sets of numbers, against a model that looks at every minute.

Fields = tuple[list[int] | None, list[int] | None, list[int] | None, int]
"""Minutes, hours, weekdays (None: `*`), and the step of a minute `*/step`, where minutes are None."""


def expression(fields: Fields) -> str:
    minutes, hours, days, step = fields
    minute = ",".join(map(str, minutes)) if minutes else f"*/{step}"
    return f"{minute} {','.join(map(str, hours)) if hours else '*'} * * {','.join(map(str, days)) if days else '*'}"


def matches(fields: Fields, wall: datetime) -> bool:
    minutes, hours, days, step = fields
    return (
        (wall.minute in minutes if minutes else wall.minute % step == 0)
        and (hours is None or wall.hour in hours)
        and (days is None or wall.isoweekday() % 7 in days)
    )


def instants(fields: Fields, zone: ZoneInfo, first: datetime, last: datetime) -> set[int]:
    """Unix minutes of the expression in [first, last], UTC, by crontab(5)'s rules."""
    if fields[0] is None or fields[1] is None:  # follows the clock as it is shown
        count = int((last - first) / MINUTE)
        utc = [first + i * MINUTE for i in range(count + 1)]
        return {round(t.timestamp() / 60) for t in utc if matches(fields, t.astimezone(zone))}
    wall, found = first.replace(tzinfo=None) - timedelta(days=1), set()
    while wall <= last.replace(tzinfo=None) + timedelta(days=1):
        if matches(fields, wall):
            found.add(round(shown_or_next(wall, zone).timestamp() / 60))
        wall += MINUTE
    return found


def shown_or_next(wall: datetime, zone: ZoneInfo) -> datetime:
    """When the clock first shows `wall`, or the first time after it where it is skipped."""
    while True:
        there = wall.replace(tzinfo=zone).astimezone(UTC)
        if there.astimezone(zone).replace(tzinfo=None) == wall:
            return there
        wall += MINUTE


CHANGES = [  # around a change of the clock in each zone
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Asia/Kolkata", "2026-06-10"),
    ("UTC", "2026-06-10"),
]


def some(highest: int, most: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, highest), min_size=1, max_size=most, unique=True)


crons: st.SearchStrategy[Fields] = st.tuples(
    st.none() | some(59, 3), st.none() | some(23, 3) | some(3, 2), st.none() | some(6, 4), st.sampled_from([1, 7, 20, 30])
)


@settings(max_examples=60, deadline=None)
@given(start=crons, end=crons, change=st.sampled_from(CHANGES), offset=st.integers(0, 3 * 1440), probes=st.integers(1, 60))
@example(start=([45], [2], None, 1), end=([30], [2], None, 1), change=CHANGES[1], offset=1440, probes=1)
@example(start=(None, [2], None, 20), end=([10], [2], None, 1), change=CHANGES[0], offset=1440, probes=1)
def test_floors_are_those_of_a_model_that_looks_at_every_minute(
    start: Fields, end: Fields, change: tuple[str, str], offset: int, probes: int
) -> None:
    zone_name, day = change
    zone = ZoneInfo(zone_name)
    try:
        schedule = parse_schedule(f"{expression(start)} | {expression(end)} | 3 | {zone_name}")
    except InvalidSchedule as error:
        assert "never end" in str(error)
        return
    middle = datetime.fromisoformat(day).replace(tzinfo=UTC)
    first, last = middle - timedelta(days=10), middle + timedelta(days=10)
    starts, ends = instants(start, zone, first, last), instants(end, zone, first, last)
    begin = round((middle - timedelta(days=1)).timestamp() / 60) + offset
    for minute in range(begin, begin + probes * 11, 11):
        started = max((m for m in starts if m <= minute), default=None)
        ended = max((m for m in ends if m <= minute), default=None)
        assert started is not None  # ten days before are enough for a weekday
        assert ended is not None
        in_force = started >= ended
        following = min(m for m in (ends if in_force else starts) if m > minute)
        for second in (0, 30.5):
            floor, _, until = floor_at(schedule, minute * 60 + second)
            assert (floor == 3, until) == (in_force, following * 60)


def test_the_libraries_are_loaded_only_for_functions_with_a_schedule() -> None:
    root = Path(__file__).parents[2]
    seen = subprocess.run(
        [sys.executable, "-c", "import sys, orchestration.schedule as s; s.parse_schedule(''); print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    ).stdout.split()
    assert not {"cronsim", "zoneinfo", "tzdata"} & set(seen)
