"""The Azure Functions 2019 data set (Shahrad et al., "Serverless in the Wild", USENIX ATC 2020): calls per minute.

One folder with three files of one day (or of a slice of it): calls of each function minute by minute with its trigger,
percentiles of how long they ran, percentiles of the memory. What the set does not say is filled in from a seed: where in its
minute a call comes, and how long it runs. Timers are the exception: theirs come at the minute's start, several in one minute
at even distances, since that is what a timer does.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from autoscaler.simulator.columns import Row, Table
from autoscaler.simulator.distribution import Distribution, InvalidDistribution
from autoscaler.simulator.trace import DEFAULT_MEMORY_MIB, TIMER, Call, Calls, InvalidTrace, Trace, random_for

MINUTE_S: Final = 60.0
PERCENTS: Final = (0, 1, 25, 50, 75, 99, 100)
SHORTEST_RUN_S: Final = 0.0005
"""The set counts whole milliseconds; what it calls 0 ran for less than half of one."""

_FUNCTION: Final = ("HashOwner", "HashApp", "HashFunction")
_PERCENTILES: Final = tuple(f"percentile_Average_{percent}" for percent in PERCENTS)
_MEMORY: Final = "AverageAllocatedMb"


@dataclass(frozen=True)
class MinuteCounts:
    """One function's workload: `counts` of calls in each minute from the trace's start."""

    function: str
    trigger: str
    counts: array[int]
    runs: Distribution
    memory_mib: float

    def source(self, seed: int) -> Calls:
        return Calls(self._calls(seed))

    def _calls(self, seed: int) -> Iterator[Call]:
        random = random_for(seed, self.function)
        draw, uniform = self.runs.draw, random.random
        even = self.trigger == TIMER
        for minute, count in enumerate(self.counts):
            if count == 0:
                continue
            start = minute * MINUTE_S
            if even:
                offsets = [i * MINUTE_S / count for i in range(count)]
            else:
                offsets = sorted([uniform() * MINUTE_S for _ in range(count)])
            for offset in offsets:
                yield start + offset, max(SHORTEST_RUN_S, draw(random))


def read(folder: Path) -> Trace:
    """Return the trace in `folder`. Raises InvalidTrace."""
    calls = Table(_only(folder, "invocations*.csv"), (*_FUNCTION, "Trigger"))
    minutes = [name for name in calls.columns if name.isascii() and name.isdigit()]
    if not minutes:
        raise InvalidTrace(calls.path, "no column is a minute of the day (480, 481 …)", line=1)
    for before, after in itertools.pairwise(minutes):
        if int(after) != int(before) + 1:
            raise InvalidTrace(calls.path, f"minute {after} follows {before}", line=1, column=after)
    runs = _durations(_only(folder, "*durations*.csv"))
    memory = _memory(_only(folder, "*memory*.csv"))
    workloads = []
    seen: set[tuple[str, ...]] = set()
    for row in calls:
        key = tuple(row.text(name) for name in _FUNCTION)
        if key in seen:
            raise row.wrong("HashFunction", f"{key[2][:16]} has a line already")
        seen.add(key)
        if key not in runs:
            raise row.wrong("HashFunction", f"{key[2][:16]} has no line in the file of durations")
        workloads.append(
            MinuteCounts(
                function=key[2],
                trigger=row.text("Trigger"),
                counts=array("L", row.counts(minutes)),
                runs=runs[key],
                memory_mib=memory.get((key[2],), memory.get(key[:2], DEFAULT_MEMORY_MIB)),
            )
        )
    if not workloads:
        raise InvalidTrace(calls.path, "names no function")
    return Trace(f"Azure Functions 2019, {folder.name}", len(minutes) * MINUTE_S, workloads)


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise InvalidTrace(folder, f"has no file {pattern}; an Azure 2019 trace has invocations, durations and memory")
    if len(found) > 1:
        raise InvalidTrace(
            folder, f"has {len(found)} files {pattern} ({found[0].name}, {found[1].name} …): one day in a folder"
        )
    return found[0]


def _durations(path: Path) -> dict[tuple[str, ...], Distribution]:
    shares = [percent / 100 for percent in PERCENTS]
    known = {}
    for row in Table(path, (*_FUNCTION, *_PERCENTILES)):
        values = [row.number(name) / 1000 for name in _PERCENTILES]
        try:
            runs = Distribution(shares, values)
        except InvalidDistribution as error:
            raise row.wrong(_falling(row), str(error)) from None
        known[tuple(row.text(name) for name in _FUNCTION)] = runs
    return known


def _falling(row: Row) -> str:
    """Return the percentile that is below the one before it."""
    steps = itertools.pairwise(_PERCENTILES)
    return next((after for before, after in steps if row.number(after) < row.number(before)), _PERCENTILES[0])


def _memory(path: Path) -> dict[tuple[str, ...], float]:
    """Return MiB by function where the file has them by function, else by owner and app."""
    table = Table(path, ("HashOwner", "HashApp", _MEMORY))
    key = ("HashFunction",) if "HashFunction" in table.columns else ("HashOwner", "HashApp")
    return {tuple(row.text(name) for name in key): row.number(_MEMORY) for row in table}
