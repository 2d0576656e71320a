from __future__ import annotations

from datetime import datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.cron import NAMES, InvalidCron, check_timer, following, instants_after, instants_before, latest, time_zone

BERLIN = time_zone("Europe/Berlin")
UTC = time_zone("UTC")


def at(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin"), fold=fold).timestamp()


def shown(instants: list[float]) -> list[str]:
    return [datetime.fromtimestamp(i, BERLIN).strftime("%d %H:%M:%S") for i in instants]


@pytest.mark.parametrize("expression", ["*/5 * * * *", "30 */5 * * * *", "@every 90s", "@every 1h30m", *NAMES])
def test_what_timers_take(expression: str) -> None:
    check_timer(expression, "it")
    assert following(expression, UTC, 0.0) > 0


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("* * * *", "it '* * * *' has 4 fields, not five (or six with seconds first): minute hour"),
        ("", "has 0 fields"),
        ("61 * * * *", "the minute cannot be: minute hour"),
        ("61 * * * * *", "the second cannot be: second minute hour day month weekday, such as 30 0 8"),
        ("@reboot", "one of @yearly"),
        ("@every", "is not a duration"),
        ("@every 1.5s", "whole seconds, from 1s to 8784h"),
        ("@every 0s", "whole seconds"),
        ("@every 10000h", "whole seconds"),
        ("0 0 30 2 *", "cannot be"),
        ("* " * 60, "at most 100"),
    ],
)
def test_what_they_do_not_take(expression: str, complaint: str) -> None:
    with pytest.raises(InvalidCron) as error:
        check_timer(expression, "it")
    assert complaint in str(error.value)


@given(st.text(alphabet="0123456789*/-,#LW@everyhoudms \n", max_size=30))
def test_any_text_is_an_expression_or_is_refused(expression: str) -> None:
    try:
        check_timer(expression, "it")
    except InvalidCron:
        return
    assert following(expression.strip(), BERLIN, 1e9) > 1e9


def test_every_is_the_multiples_of_a_time() -> None:
    assert list(islice(instants_after("@every 90s", UTC, 100.5), 3)) == [180.0, 270.0, 360.0]
    assert following("@every 90s", UTC, 180.0) == 270.0
    assert latest("@every 90s", UTC, 180.0) == 180.0
    assert latest("@every 90s", UTC, 179.9) == 90.0


def test_what_a_change_skips_happens_right_after_and_once() -> None:
    # On 29 March 2026 Berlin's clock goes from 02:00 to 03:00.
    before = at("2026-03-29T01:50")
    assert shown(list(islice(instants_after("15,45 2 * * *", BERLIN, before), 2))) == ["29 03:00:00", "30 02:15:00"]
    assert shown(list(islice(instants_after("*/30 * * * *", BERLIN, before), 2))) == ["29 03:00:00", "29 03:30:00"]
    # with seconds there is no such rule: what is not shown is not
    assert shown([following("0 15 2 * * *", BERLIN, before)]) == ["30 02:15:00"]


def test_what_a_change_repeats_happens_once_unless_it_follows_the_clock() -> None:
    # On 25 October 2026 Berlin's clock goes from 03:00 back to 02:00.
    before = at("2026-10-25T01:59")
    first, second = at("2026-10-25T02:15"), at("2026-10-25T02:15", fold=1)
    assert second - first == 3600
    assert list(islice(instants_after("15 2 * * *", BERLIN, before), 2)) == [first, at("2026-10-26T02:15")]
    assert list(islice(instants_after("15 * * * *", BERLIN, before), 2)) == [first, second]
    assert list(islice(instants_after("0 15 2 * * *", BERLIN, before), 2)) == [first, second]


@settings(deadline=None, max_examples=50)
@given(
    expression=st.sampled_from(
        [
            "15,45 2 * * *",
            "*/20 * * * *",
            "0 2-3 * * *",
            "@hourly",
            "@every 77s",
            "*/30 0 */2 * * *",
            "5 3 29 3 *",
            "30 2 * * 0",
        ]
    ),
    change=st.sampled_from(["2026-03-29T02:00", "2026-10-25T02:00"]),
    start=st.integers(-30_000, 30_000),
    hours=st.integers(1, 12),
)
def test_back_and_forth_are_the_same_instants(expression: str, change: str, start: int, hours: int) -> None:
    begin = at(change) + start
    end = begin + hours * 3600
    forth = []
    for instant in instants_after(expression, BERLIN, begin):
        if instant > end:
            break
        forth.append(instant)
    back = []
    for instant in instants_before(expression, BERLIN, end):
        if instant <= begin:
            break
        back.append(instant)
    assert forth == back[::-1]
    assert forth == sorted(set(forth))
