"""Jobs that wait go in equal parts, none smaller than its sync is worth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.asynchronous.parts import LEAST, MOST, Parts


def parts_of(job_us: float, sync_ms: float) -> Parts:
    parts = Parts()
    parts.saw(100, 100 * job_us / 1e6, sync_ms / 1e3)
    return parts


@pytest.mark.parametrize(
    ("job_us", "sync_ms", "waiting", "size"),
    [
        (8, 0.3, 256, 128),  # a quick disk: two parts keep both threads at work
        (8, 0.9, 256, 128),
        (8, 1.5, 256, 256),  # a part's work, 1 ms, is not worth a sync of 1.5 ms
        (8, 30.0, 256, 256),
        (8, 0.3, 300, 150),
        (8, 0.3, 200, 200),  # half of it is too little
        (8, 0.3, 1, 1),
        (8, 30.0, 1000, 500),  # whatever the disk takes
        (8, 30.0, 513, 257),
    ],
)
def test_the_quicker_the_disk_the_smaller_the_parts(job_us: float, sync_ms: float, waiting: int, size: int) -> None:
    assert parts_of(job_us, sync_ms).size(waiting) == size


def test_at_first_all_that_waits_goes_together() -> None:
    assert Parts().size(300) == 300


def test_what_commits_take_is_learnt_and_unlearnt() -> None:
    parts = parts_of(8, 0.3)
    for _ in range(30):
        parts.saw(256, 256 * 8e-6, 20e-3)
    assert parts.size(256) == 256
    for _ in range(30):
        parts.saw(256, 256 * 8e-6, 0.3e-3)
    assert parts.size(256) == 128


@given(st.floats(0.1, 1e4), st.floats(0, 1e3), st.integers(1, 20_000))
def test_parts_are_as_large_as_the_bounds_say(job_us: float, sync_ms: float, waiting: int) -> None:
    size = parts_of(job_us, sync_ms).size(waiting)
    assert min(waiting, LEAST) <= size <= MOST
