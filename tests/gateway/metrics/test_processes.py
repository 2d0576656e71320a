"""The platform's processes, as metrics."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from gateway.metrics.processes import LAG_EVERY_S, LoopLag, Processes, read
from tests.gateway.metrics.reading import samples


def test_a_process_is_read_from_proc() -> None:
    process = read(os.getpid())
    assert process is not None
    assert process.cpu_s > 0 and process.resident_bytes > 1_000_000 and process.open_files >= 3


def test_a_process_that_is_gone_is_none(tmp_path: Path) -> None:
    assert read(1, tmp_path) is None


def test_processes_are_told_by_name() -> None:
    told = samples(Processes(lambda: {"control": os.getpid(), "gone": 2**22 + 1}, LoopLag()))
    assert told["pinnace_process_resident_memory_bytes", "control"] > 1_000_000
    assert told["pinnace_process_open_fds", "control"] >= 3
    assert told["pinnace_process_cpu_seconds_total", "control"] > 0
    assert not any("gone" in sample for sample in told)


async def test_a_late_loop_is_seen() -> None:
    async with LoopLag() as lag:
        await asyncio.sleep(0)
        time.sleep(LAG_EVERY_S + 0.06)  # noqa: ASYNC251  # that is the point
        async with asyncio.timeout(20):
            while not lag.seconds.count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert lag.seconds.seconds >= 0.05
    told = samples(Processes(dict, lag))
    assert told["pinnace_control_loop_lag_seconds_count",] == lag.seconds.count
