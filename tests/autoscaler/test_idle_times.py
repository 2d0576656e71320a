from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.idle_times import BINS, EDGES, LONGEST_S, MEMORY, IdleTimes

idle_times = st.lists(st.floats(0, 2 * LONGEST_S), max_size=60)


def known(seconds: list[float]) -> IdleTimes:
    times = IdleTimes()
    for second in seconds:
        times.add(second)
    return times


def bin_of(seconds: float) -> int:
    return next(i for i in range(BINS) if seconds < EDGES[i + 1])


def test_bins_go_from_a_second_to_a_day_in_steps_of_a_tenth() -> None:
    assert (EDGES[0], EDGES[-1], BINS) == (1.0, 86400.0, 120)
    assert all(1 < high / low < 1.1 + 1e-9 for low, high in pairwise(EDGES))


def test_unknown_idle_times_last_as_long_again_as_often_as_not() -> None:
    for seconds in (600, 3600, 12 * 3600):
        lasts = 1.0
        for i, chance in enumerate(IdleTimes().chances()):
            if seconds <= EDGES[i] < 2 * seconds:
                lasts *= 1 - chance
        assert 0.4 < lasts < 0.6


@settings(deadline=None)
@given(idle_times)
def test_chances_are_probabilities(seconds: list[float]) -> None:
    chances = known(seconds).chances()
    assert len(chances) == BINS
    assert all(0 <= chance <= 1 for chance in chances)


@settings(deadline=None)
@given(st.floats(5, 20 * 3600), st.integers(10, 100))
def test_what_always_happened_is_nearly_certain(seconds: float, times: int) -> None:
    lasts_until, lasts = 1.0, 1.0
    for i, chance in enumerate(known([seconds] * times).chances()):
        if EDGES[i + 1] < seconds * 0.85:
            lasts_until *= 1 - chance
        if EDGES[i] < seconds * 1.15:
            lasts *= 1 - chance
    assert lasts_until > 0.5
    assert lasts < 0.1


def test_below_a_second_nothing_is_counted() -> None:
    times = known([0.0, 0.5, 0.99])
    assert times.count == 0
    assert times.chances() == IdleTimes().chances()


def test_beyond_a_day_an_idle_time_ends_in_no_bin_but_passes_all() -> None:
    times = known([30 * LONGEST_S] * 20)
    assert times.count == 20
    assert all(chance < prior / 20 for chance, prior in zip(times.chances(), IdleTimes().chances(), strict=True))


def test_a_burst_takes_nothing_from_what_is_known_of_the_nights() -> None:
    nights = [12 * 3600.0, 12.1 * 3600.0, 11.9 * 3600.0]
    before, after = known(nights).chances(), known([*nights, *([2.0] * 5000)]).chances()
    assert after[bin_of(60) :] == before[bin_of(60) :]


def test_old_idle_times_fade() -> None:
    old, new = bin_of(300), bin_of(1800)
    changed = [300.0] * 500 + [1800.0] * 150
    chances = known(changed).chances()
    assert chances[old] < 0.02
    assert chances[new] > 0.2
    assert max(known(changed)._reached) <= MEMORY + 0.001


@settings(deadline=None)
@given(idle_times)
def test_dumps_read_back(seconds: list[float]) -> None:
    times = known(seconds)
    again = IdleTimes.load(*times.dump())
    assert (again.chances(), again.count, again.dump()) == (times.chances(), times.count, times.dump())


@pytest.mark.parametrize(
    "dump",
    [
        (0, b"1234", b"1234"),
        (1, b"", b""),
        (-1, b"", b""),
        (1, b"12", b"34"),
        (1, known([5.0]).dump()[1], b""),
        (1, b"\xff\xff\xff\xff", b"\xff\xff\xff\xff"),  # not a number
        (1, known([5.0]).dump()[2], known([5.0]).dump()[1]),  # more ended than came
        (1, bytes(4 * (BINS + 1)), bytes(4 * (BINS + 1))),
        (1, known([5.0]).dump()[1] * 2, known([5.0]).dump()[2]),
    ],
)
def test_what_was_never_dumped_is_refused(dump: tuple[int, bytes, bytes]) -> None:
    with pytest.raises(ValueError):
        IdleTimes.load(*dump)
