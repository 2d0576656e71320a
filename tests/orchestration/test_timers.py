from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.settings import InvalidSetting
from orchestration.spec import FunctionSpec
from orchestration.timers import KEYS, Due, Missed, Timer, TimerSettings, due, is_timer_key, timer_settings

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()
MINUTE = 60.0


def spec(annotations: dict[str, str], labels: dict[str, str] | None = None) -> FunctionSpec:
    return FunctionSpec(service="tick", image="tick", annotations=annotations, labels=labels or {})


def settings_of(**annotations: str) -> TimerSettings:
    keys = {"topic": "topic", "schedule": "schedule"}
    return timer_settings(spec({keys.get(k, f"com.pinnace.timer.{k}"): v for k, v in annotations.items()}))


def test_openfaas_words_make_timers() -> None:
    assert settings_of(topic="cron-function", schedule="*/5 * * * *") == TimerSettings((Timer("*/5 * * * *"),))
    two = settings_of(topic="kafka, cron-function", schedule=" 0 8  * * 1-5 ; @hourly;;", zone="Europe/Berlin")
    assert two.timers == (Timer("0 8 * * 1-5", "Europe/Berlin"), Timer("@hourly", "Europe/Berlin"))


def test_the_same_expression_twice_is_one_timer() -> None:
    assert settings_of(topic="cron-function", schedule="@hourly; @hourly").timers == (Timer("@hourly"),)


def test_without_the_topic_a_schedule_is_nobodys() -> None:
    assert settings_of(schedule="whatever a user keeps there") == TimerSettings()
    assert settings_of(topic="cron-function-2", schedule="x") == TimerSettings()


def test_annotations_win_over_labels() -> None:
    both = spec({"schedule": "@daily"}, {"topic": "cron-function", "schedule": "@hourly"})
    assert timer_settings(both).timers == (Timer("@daily"),)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({}, "topic=cron-function needs schedule with a cron expression"),
        ({"schedule": ";"}, "needs schedule"),
        ({"schedule": "@hourly; 61 * * * *"}, "schedule: expression 2 '61 * * * *': the minute cannot be"),
        ({"schedule": "CRON_TZ=Europe/Berlin 0 8 * * *"}, "com.pinnace.timer.zone is where the time zone goes"),
        ({"schedule": "@hourly", "zone": "Berlin"}, "com.pinnace.timer.zone: zone 'Berlin' is not known here"),
        ({"schedule": "@hourly", "missed": "twice"}, "com.pinnace.timer.missed='twice': skip, once, all"),
        ({"schedule": "@hourly", "overlap": "maybe"}, "com.pinnace.timer.overlap='maybe': true or false"),
        ({"schedule": ";".join(f"{m} * * * *" for m in range(51))}, "51 expressions: at most 50"),
    ],
)
def test_what_cannot_be_is_said(said: dict[str, str], complaint: str) -> None:
    with pytest.raises(InvalidSetting) as error:
        settings_of(topic="cron-function", **said)
    assert complaint in str(error.value)


def test_the_keys_of_the_documentation_are_those_of_timers() -> None:
    assert all(is_timer_key(known.key) for known in KEYS)
    assert not is_timer_key("com.pinnace.scale.schedule")


@pytest.mark.parametrize("missed", list(Missed))
def test_a_run_is_made_when_its_time_comes_and_not_before(missed: Missed) -> None:
    timer = Timer("*/5 * * * *")
    assert due(timer, NOON - 1, NOON - 0.001, missed) == Due((), 0)
    assert due(timer, NOON - 1, NOON, missed) == Due((NOON,), 0)
    assert due(timer, NOON - 1, NOON + 29, missed) == Due((NOON,), 0)
    assert due(timer, NOON, NOON + 29, missed) == Due((), 0)


@pytest.mark.parametrize(
    ("missed", "runs", "left"),
    [(Missed.SKIP, [], 3), (Missed.ONCE, [-1], 2), (Missed.ALL, [-11, -6, -1], 0)],
)
def test_what_was_missed_is_left_out_made_once_or_all(missed: Missed, runs: list[int], left: int) -> None:
    now = NOON + MINUTE  # the platform ended 14 minutes before, and runs again a minute after the last run
    timer = Timer("*/5 * * * *")
    made = due(timer, NOON - 14 * MINUTE, now, missed)
    assert made == Due(tuple(now + m * MINUTE for m in runs), left)


def test_a_run_on_time_stands_for_those_missed_before_it() -> None:
    assert due(Timer("* * * * *"), NOON - 600, NOON + 1, Missed.ONCE) == Due((NOON,), 9)
    assert due(Timer("* * * * *"), NOON - 600, NOON + 1, Missed.SKIP) == Due((NOON,), 9)


def test_of_a_year_of_seconds_a_bounded_number_is_made_up_for() -> None:
    timer, year = Timer("* * * * * *"), 365 * 86400
    assert due(timer, NOON - year, NOON, Missed.ALL).runs == tuple(NOON - 99 + i for i in range(100))
    assert due(timer, NOON - year, NOON, Missed.ONCE) == Due((NOON,), 99)


@settings(deadline=None)
@given(
    expression=st.sampled_from(["*/7 * * * *", "@every 50s", "3 * * * *", "*/10 * * * * *"]),
    looks=st.lists(st.floats(0.5, 400), min_size=1, max_size=30),
)
def test_however_often_one_looks_each_run_is_made_exactly_once(expression: str, looks: list[float]) -> None:
    timer, since, now = Timer(expression), NOON, NOON
    made: list[float] = []
    for step in looks:
        now += step
        found = due(timer, since, now, Missed.ALL)
        made += found.runs
        since = now
    assert made == timer.until(NOON, now, 10_000)


def test_next_runs_are_told() -> None:
    assert Timer("0 12 * * *").coming(NOON, 2) == [NOON + 86400, NOON + 2 * 86400]
    assert Timer("0 12 * * *", "America/New_York").next_after(NOON) == NOON + 4 * 3600
