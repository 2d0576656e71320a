"""Many timers that are due in the same second: how long the event loop stands still while their calls are made.

    python -m benchmarks.timers [--timers 1000] [--rounds 5]

The real loop of timers, store and book (SQLite) in one process. The clock of the timers stands at a moment at which all are
due; meanwhile a task on the same event loop looks how late it is each millisecond. `missed` is the same after four weeks away:
the runs that were missed are looked for first.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvloop

from gateway.asynchronous.calls import Receipt, Submission
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.timers.book import SqliteBook
from gateway.timers.timers import Timers
from orchestration.events import FunctionChanged
from orchestration.function import Function
from orchestration.revision import make_revision
from orchestration.spec import FunctionSpec
from orchestration.traffic import TrafficTarget

EIGHT: Final = datetime(2026, 6, 1, 6, tzinfo=UTC).timestamp()  # 08:00 in Berlin, a Monday
EVERY_S: Final = 0.001


async def lags(stop: asyncio.Event) -> list[float]:
    """Return how late each tick was, in ms."""
    found = []
    while not stop.is_set():
        before = time.perf_counter()
        await asyncio.sleep(EVERY_S)
        found.append(max(0.0, time.perf_counter() - before - EVERY_S) * 1000)
    return found


def function(number: int) -> Function:
    """Return a function that is called at 8 o'clock on working days."""
    name = f"tick-{number}"
    annotations = {
        "topic": "cron-function",
        "schedule": "0 8 * * 1-5",
        "com.pinnace.timer.zone": "Europe/Berlin",
    }
    spec = FunctionSpec(service=name, image=name, annotations=annotations)
    revision = make_revision(spec, "sha256:0", 1, 0.0)
    traffic = (TrafficTarget(revision=revision.name, percent=100),)
    return Function(spec=spec, generation=1, revisions=(revision,), traffic=traffic, created_at=1.0, updated_at=1.0)


async def measured(count: int, late_s: float) -> tuple[list[float], float, int]:
    """Return the lags while `count` timers run that were due `late_s` ago, how long that took (s), and the calls it made."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = await asyncio.to_thread(SqliteStore, folder)
        now = EIGHT - 1

        async def submit(wanted: Sequence[Submission]) -> list[Receipt]:
            return await store.submit(wanted, now)

        async def is_open(call_id: str) -> bool:
            return False

        async with SqliteBook(folder) as book:
            timers = Timers(submit, is_open, book, wall=lambda: now)
            await timers.read()
            for number in range(count):
                timers.apply(FunctionChanged(function(number)))
            await timers.turn()
            now = EIGHT + late_s
            stop = asyncio.Event()
            watching = asyncio.create_task(lags(stop))
            await asyncio.sleep(0.05)
            before = time.perf_counter()
            await timers.turn()
            took = time.perf_counter() - before
            stop.set()
            found = await watching
        await store.close()
        return found, took, timers.counts.fired


def main() -> None:
    """Print the lags of a few rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timers", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for what, late_s in (("on time", 0.0), ("missed", 28 * 86400 + 3600.0)):
        worst, nearly, times = [], [], []
        for _ in range(options.rounds):
            found, took, fired = uvloop.run(measured(options.timers, late_s))
            assert fired == options.timers, f"{fired} calls for {options.timers} timers"
            worst.append(max(found))
            nearly.append(statistics.quantiles(found, n=100)[98])
            times.append(took)
        print(f"{options.timers} timers, {what}: all made in {statistics.median(times) * 1000:.0f} ms; lag ", end="")
        print(
            f"p99 {statistics.median(nearly):.1f} ms, at most {statistics.median(worst):.1f} (of all rounds {max(worst):.1f})"
        )


if __name__ == "__main__":
    main()
