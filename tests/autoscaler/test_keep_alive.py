from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from itertools import product
from math import inf

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.idle_times import EDGES, IdleTimes
from autoscaler.keep_alive import LOADING_COSTS_S, WORTH, KeepAlive, Plan, _windows

DEFAULT_S = 900.0
HOUR = 3600.0


def learnt(*idle_times: float) -> KeepAlive:
    keep_alive = KeepAlive()
    for seconds in idle_times:
        keep_alive.idle(seconds)
    return keep_alive


def loaded_s(plan: Plan, idle_s: float) -> float:
    again = max(0.0, min(plan.until_s, idle_s) - plan.prewarm_after_s) if plan.prewarm_after_s < idle_s else 0.0
    return min(plan.keep_s, idle_s) + again


def replayed(idle_times: list[float], keep_alive: KeepAlive | None) -> tuple[int, float]:
    """Cold starts and loaded seconds with `keep_alive`, or with ten minutes for everything."""
    cold, seconds = 0, 0.0
    for idle_s in idle_times:
        plan = Plan(600, inf, 600, "") if keep_alive is None else keep_alive.plan(DEFAULT_S)
        cold += not plan.loaded_at(idle_s)
        seconds += loaded_s(plan, idle_s)
        if keep_alive is not None:
            keep_alive.idle(idle_s)
    return cold, seconds


def test_nothing_known_is_the_default() -> None:
    assert KeepAlive().plan(DEFAULT_S) == Plan(900, inf, 900, "no idle time known yet: 15m")
    assert learnt(0.2, 0.9).plan(60).keep_s == 60


def test_every_five_minutes() -> None:
    random.seed(5)
    idle_times = [300 + random.uniform(-1, 1) for _ in range(100)]
    cold, seconds = replayed(idle_times, keep_alive := KeepAlive())
    plan = keep_alive.plan(DEFAULT_S)
    assert cold == 0
    assert seconds < 0.3 * replayed(idle_times, None)[1]
    assert plan.keep_s == 1
    assert 290 < plan.prewarm_after_s < 299
    assert 301 < plan.until_s < 310
    assert plan.reason == "the last 5 idle times say: again after 4m55s to 5m5s"


def test_every_half_hour_with_jitter() -> None:
    random.seed(30)
    idle_times = [1800 + random.uniform(-180, 180) for _ in range(50)]
    cold, seconds = replayed(idle_times, keep_alive := KeepAlive())
    plan = keep_alive.plan(DEFAULT_S)
    assert cold == 1  # the first, 30 minutes where 15 are kept
    assert seconds < 1.2 * replayed(idle_times, None)[1]  # ten minutes have 50 cold starts
    assert plan.keep_s < 60
    assert 1200 < plan.prewarm_after_s < 1620
    assert plan.loaded_at(1980)


def test_plans_say_what_they_rest_on() -> None:
    early, later = learnt(*([300, 290] * 2)).plan(DEFAULT_S), learnt(*([300, 280, 320] * 5)).plan(DEFAULT_S)
    assert early.reason == "4 idle times known: about 99 % end within 1h"
    assert later.reason == "15 idle times known: about 96 % end within 1m6s or between 3m49s and 1h"


def test_one_idle_time_is_enough_to_wait_for_the_next() -> None:
    plan = learnt(2700).plan(DEFAULT_S)
    assert plan.loaded_at(2700)
    assert plan.reason.startswith("1 idle time known")


def test_a_busy_function_stays_loaded_between_its_calls() -> None:
    random.seed(1)
    idle_times = [random.expovariate(1 / 20) for _ in range(2000)]
    cold, _ = replayed(idle_times, KeepAlive())
    assert cold == 0


def test_what_has_no_rhythm_and_is_rare_is_unloaded_soon() -> None:
    random.seed(2)
    idle_times = [random.expovariate(1 / (6 * HOUR)) for _ in range(200)]
    cold, seconds = replayed(idle_times, KeepAlive())
    fixed_cold, fixed_seconds = replayed(idle_times, None)
    assert (cold + seconds / HOUR) < 1.1 * (fixed_cold + fixed_seconds / HOUR)
    assert learnt(*idle_times).plan(DEFAULT_S).keep_s < 600


def test_what_is_regular_and_rare_is_forecast() -> None:
    day = 24 * HOUR
    plan = learnt(day - 40, day, day + 20, day - 5, day).plan(DEFAULT_S)
    assert plan.keep_s == 1
    assert day - 600 < plan.prewarm_after_s < day - 160
    assert day + 140 < plan.until_s < day + 600
    assert plan.reason == "the last 5 idle times say: again after 23h52m to 24h8m"
    assert not learnt(day - 40, day, day + 2 * HOUR, day - 5, day).plan(DEFAULT_S).loaded_at(day)


def test_a_function_that_only_seems_regular_is_found_out() -> None:
    seems = ([120.0] * 6 + [20.0]) * 30
    cold, _ = replayed(seems, keep_alive := KeepAlive())
    assert cold < 12
    assert keep_alive.plan(DEFAULT_S).loaded_at(20)


def test_a_changed_pattern_is_learnt_anew_in_a_few_calls() -> None:
    often, seldom = [300.0] * 300, [2400.0] * 300
    cold, _ = replayed(often + seldom, KeepAlive())
    assert cold <= 1
    cold, _ = replayed(seldom + often, KeepAlive())
    assert 1 <= cold <= 8
    assert not learnt(*often, *seldom).plan(DEFAULT_S).loaded_at(1000)


def test_nights_between_bursts_are_not_waited_for_and_the_lunch_break_is() -> None:
    day = [2.0] * 200 + [1500.0] + [2.0] * 200 + [14 * HOUR]
    plan = learnt(*(day * 10)).plan(DEFAULT_S)
    assert plan.loaded_at(5)
    assert plan.loaded_at(1500)
    assert not plan.loaded_at(2 * HOUR)


def test_a_platform_of_many_kinds_has_fewer_cold_starts_in_less_time_than_with_ten_minutes() -> None:
    def calls(generator: random.Random) -> Iterator[list[float]]:
        for period in (60, 120, 300, 300, 600, 900, 900, 1800, 1800, 3600):
            yield [period + generator.uniform(-5, 5) for _ in range(int(8 * HOUR / period))]
        for mean in (5, 60, 300, 900, 1800, 7200):
            yield [generator.expovariate(1 / mean) for _ in range(min(2000, int(8 * HOUR / mean)))]
        yield [generator.uniform(0, 3) if i % 50 else HOUR for i in range(1, 400)]

    cold, seconds, fixed_cold, fixed_seconds = 0, 0.0, 0, 0.0
    for idle_times in calls(random.Random(7)):
        learnt_result, fixed_result = replayed(idle_times, KeepAlive()), replayed(idle_times, None)
        cold, seconds = cold + learnt_result[0], seconds + learnt_result[1]
        fixed_cold, fixed_seconds = fixed_cold + fixed_result[0], fixed_seconds + fixed_result[1]
    assert cold < fixed_cold / 2
    assert seconds < fixed_seconds


idle_times = st.lists(st.floats(0, 50 * HOUR) | st.floats(0, 400) | st.sampled_from([300.0, 1800.0, 86400.0]), max_size=40)


@settings(deadline=None)
@given(idle_times, st.floats(0, 1e6))
def test_plans_are_in_order(times: list[float], default_s: float) -> None:
    plan = learnt(*times).plan(default_s)
    assert 0 <= plan.keep_s <= plan.until_s < inf
    if plan.prewarm_after_s == inf:
        assert plan.until_s == plan.keep_s
    else:
        assert plan.keep_s < plan.prewarm_after_s < plan.until_s
    assert plan.reason


@settings(deadline=None)
@given(st.floats(1, 2 * HOUR), st.integers(1, 60))
def test_an_idle_time_that_always_was_so_is_covered(seconds: float, times: int) -> None:
    assert learnt(*([seconds] * times)).plan(DEFAULT_S).loaded_at(seconds)


@settings(deadline=None)
@given(idle_times, st.floats(0, 7200), st.floats(0, 7200))
def test_who_keeps_longer_by_default_is_loaded_for_longer_and_has_fewer_cold_starts(
    times: list[float], one_s: float, other_s: float
) -> None:
    chances = known(times).chances()
    (less, cold_less), (more, cold_more) = (
        costs(chances, *_windows(chances, WORTH * default_s)[:3]) for default_s in sorted((one_s, other_s))
    )
    assert less <= more + 1e-3
    assert cold_less >= cold_more - 1e-6


@settings(max_examples=25, deadline=None)
@given(idle_times, st.sampled_from([60.0, 900.0]))
def test_no_other_windows_cost_less(times: list[float], default_s: float) -> None:
    chances, cold_s = known(times).chances(), WORTH * default_s
    keep_s, prewarm_s, until_s, covered, cost_s = _windows(chances, cold_s)
    loaded, cold = costs(chances, keep_s, prewarm_s, until_s)
    beyond = 1 - sum(ends(chances))
    assert cost_s == pytest.approx(loaded + cold_s * (cold + beyond))
    some = [EDGES[0], *EDGES[1::9]]
    for keep, prewarm, until in product(some, some, some):
        other = (keep, prewarm, until) if keep < prewarm < until else (keep, inf, keep)
        other_loaded, other_cold = costs(chances, *other)
        assert loaded + cold_s * cold <= (other_loaded + cold_s * other_cold) * (1 + 1e-9)
    assert covered == pytest.approx(sum(ends(chances)) - cold, abs=1e-6)


def known(times: list[float]) -> IdleTimes:
    table = IdleTimes()
    for seconds in times:
        table.add(seconds)
    return table


def ends(chances: list[float]) -> list[float]:
    lasts, result = 1.0, []
    for chance in chances:
        result.append(lasts * chance)
        lasts *= 1 - chance
    return result


def costs(chances: list[float], keep_s: float, prewarm_s: float, until_s: float) -> tuple[float, float]:
    """Expected loaded seconds (with what loading costs) and the probability of a cold start within a day."""
    loaded, cold, lasts = 0.0, 0.0, 1.0
    for i, chance in enumerate(chances):
        low, high = EDGES[i], EDGES[i + 1]
        if low == prewarm_s:
            loaded += LOADING_COSTS_S * lasts
        if high <= keep_s or prewarm_s <= low < until_s:
            loaded += (high - low) * lasts * (1 - chance / 2)
        else:
            cold += lasts * chance
        lasts *= 1 - chance
    return loaded, cold


@settings(deadline=None)
@given(idle_times)
def test_dumps_read_back(times: list[float]) -> None:
    keep_alive = learnt(*times)
    again = KeepAlive.load(keep_alive.dump())
    assert again.plan(DEFAULT_S) == keep_alive.plan(DEFAULT_S)
    assert again.dump() == keep_alive.dump()
    again.idle(77)
    keep_alive.idle(77)
    assert again.plan(DEFAULT_S) == keep_alive.plan(DEFAULT_S)


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_foreign_bytes_are_an_empty_one(data: bytes) -> None:
    assert KeepAlive.load(data).plan(DEFAULT_S) == KeepAlive().plan(DEFAULT_S)


def test_damaged_dumps_are_an_empty_one() -> None:
    good = learnt(300, 310, 320).dump()
    other_version = msgspec.msgpack.encode([99, *msgspec.msgpack.decode(good)[1:]])
    foreign_times = msgspec.msgpack.encode([*msgspec.msgpack.decode(good)[:4], [[inf], 0.0, 0.0]])
    for damaged in (good[:-1], good + b"x", good[5:], other_version, foreign_times, msgspec.msgpack.encode({"a": 1})):
        assert KeepAlive.load(damaged).dump() == KeepAlive().dump()


def test_one_function_takes_less_than_two_kilobytes() -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        everything = [learnt(*EDGES, 90000.0) for _ in range(20)]
        for keep_alive in everything:
            keep_alive.plan(DEFAULT_S)
        size = (tracemalloc.get_traced_memory()[0] - before) / len(everything)
    finally:
        tracemalloc.stop()
    assert size < 2048
    assert len(everything[0].dump()) < 1100
