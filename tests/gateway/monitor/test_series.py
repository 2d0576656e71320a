from __future__ import annotations

import pytest

from gateway.edge.tally import Tally
from gateway.monitor.series import TIERS, Level, Series, errors

SECOND, TEN, FIVE_MINUTES = TIERS
ONE = Level(ready=1)
START = 1_700_000_100.0  # a whole number of every step


class Clocked:
    """A series that is looked at each second."""

    def __init__(self) -> None:
        self.now = START
        self.tally = Tally()
        self.series = Series(START, Tally())

    def second(self, calls: int = 0, *, code: int = 200, took_s: float = 0.004, level: Level = ONE) -> bool:
        """A second passes in which calls end."""
        for _ in range(calls):
            self.tally.count(code, took_s)
        self.now += 1
        return self.series.look(self.now, self.tally, level)


def test_each_second_with_calls_leaves_a_row_with_its_own_percentiles() -> None:
    it = Clocked()
    it.second(10, took_s=0.004)
    it.second(4, code=503, took_s=0.2)
    history = it.series.history(it.now, SECOND)
    assert history.at == [START + 1, START + 2]
    assert (history.calls, history.errors) == ([10, 4], [0, 4])
    assert history.p50_ms == [pytest.approx(3.75), pytest.approx(175)]
    assert history.ready == [1, 1]


def test_seconds_in_which_nothing_happens_leave_none() -> None:
    it = Clocked()
    it.second(1)
    for _ in range(20):
        it.second()
    it.second(1)
    assert it.series.history(it.now, SECOND).at == [START + 1, START + 22]


def test_a_change_of_replicas_leaves_a_row_without_calls() -> None:
    it = Clocked()
    it.second(level=Level(ready=0))
    it.second(level=Level(ready=3))
    it.second(level=Level(ready=3))
    history = it.series.history(it.now, SECOND)
    assert (history.at, history.ready, history.calls) == ([START + 2], [3], [0])
    assert history.p99_ms == [None]


def test_longer_steps_add_up_and_take_percentiles_of_their_own() -> None:
    it = Clocked()
    for number in range(10):
        it.second(9, took_s=0.004)
        if number == 4:
            it.tally.count(200, 0.8)
            it.tally.waited(0.3, cold=True)
    history = it.series.history(it.now, TEN)
    assert (history.at, history.calls, history.cold) == ([START + 10], [91], [1])
    assert history.p95_ms[0] == pytest.approx(4.9, abs=0.05)
    assert history.p99_ms[0] == pytest.approx(545), "the slow call is one in 91: the 99th lies in its bucket"


def test_levels_are_the_most_that_was_seen_in_the_step() -> None:
    it = Clocked()
    for level in (Level(3, 0, 1), Level(7, 40, 1), Level(1, 0, 1)):
        it.second(1, level=level)
    for _ in range(7):
        it.second(1)
    history = it.series.history(it.now, TEN)
    assert (history.in_flight, history.waiting) == ([7], [40])


def test_it_need_not_be_looked_at_once_everything_is_written() -> None:
    it = Clocked()
    assert it.second(1)
    looks = 1
    while it.second():
        looks += 1
    assert looks <= FIVE_MINUTES.step_s
    assert it.series.history(it.now, FIVE_MINUTES).calls == [1]
    assert not it.second()


def test_the_last_minute_and_the_rate_forget() -> None:
    it = Clocked()
    for _ in range(30):
        it.second(2)
    assert it.series.rate(it.now) == 2.0
    assert it.series.minute(it.now, it.tally).completed == 60
    for _ in range(61):
        it.second()
    assert it.series.rate(it.now) == 0.0
    assert it.series.minute(it.now, it.tally).completed == 0
    it.now += 10_000  # nobody looks at a quiet function
    it.second(5, code=500)
    minute = it.series.minute(it.now, it.tally)
    assert (minute.completed, errors(minute)) == (5, 5)


def test_recent_calls_stand_at_their_seconds() -> None:
    it = Clocked()
    it.second(7)
    it.second()
    it.second(2)
    assert it.series.recent(it.now)[-4:] == [0, 7, 0, 2]
    for _ in range(60):
        it.second()
    assert it.series.recent(it.now) == []


def test_what_is_kept_is_bounded() -> None:
    it = Clocked()
    for _ in range(SECOND.steps * 3):
        it.second(1)
    history = it.series.history(it.now, SECOND)
    assert len(history.at) == SECOND.steps + 1, "one more says how many replicas there were when the window began"
    assert it.series.size_bytes < 40 * (SECOND.steps + 200)
    it.series.trim(it.now, halve=True)
    assert len(it.series.history(it.now, SECOND).at) <= SECOND.steps // 2 + 40
    it.series.trim(it.now + 10 * SECOND.span_s)
    assert len(it.series.history(it.now + 10 * SECOND.span_s, SECOND).at) == 1
