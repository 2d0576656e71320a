"""A trace: functions, and the calls that come to each.

`Workload` is one function's. Its calls are made when they are needed and again for each policy, from a seed, so that a
trace of millions of calls needs no more memory than its file's figures.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from random import Random
from typing import Final, Protocol

Call = tuple[float, float]
"""When it comes, in seconds since the trace's start, and how long it runs, in seconds."""

TIMER: Final = "timer"
"""The trigger of calls that the platform itself makes, and so knows of before they come."""
DEFAULT_MEMORY_MIB: Final = 128.0
"""What a replica holds where a trace does not say: a small Python handler with its libraries."""
MOST_CALLS: Final = 20_000_000
"""Files that list each call are held at 16 bytes a call: this is 320 MB."""


class InvalidTrace(ValueError):
    """A file that is not what it should be; the message says where (file, line, column) and what would be right."""

    def __init__(self, path: Path | str, what: str, *, line: int = 0, column: str = "") -> None:
        where = f"{path}" + (f", line {line}" if line else "") + (f", column {column}" if column else "")
        super().__init__(f"{where}: {what}")


class Source(Protocol):
    """Calls as the engine takes them. `next_at` is when the next one comes; inf: none, unless another ends first."""

    next_at: float

    def take(self) -> float:
        """Return how many seconds the call that comes at `next_at` runs, and move on to the next."""

    def ended(self, now: float, *, served: bool) -> None:
        """A call that was taken is over."""


class Workload(Protocol):
    """What comes to one function. `trigger` is the data set's word (`http`, `timer` …)."""

    @property
    def function(self) -> str: ...
    @property
    def trigger(self) -> str: ...
    @property
    def memory_mib(self) -> float: ...
    def source(self, seed: int) -> Source:
        """Return the calls; the same for the same seed."""


@dataclass(frozen=True)
class Trace:
    """`length_s` is how long replicas are counted; calls come before that. `origin` names where it is from, for people."""

    origin: str
    length_s: float
    workloads: Sequence[Workload]
    starts_at: float = 0.0
    """Unix seconds of the trace's beginning, for schedules; 0 where it is not known."""


class Calls:
    """Calls that come whatever happens to those before them. `calls` are in the order in which they come."""

    __slots__ = ("_calls", "_runs_s", "next_at")

    def __init__(self, calls: Iterator[Call]) -> None:
        self._calls = calls
        self.next_at, self._runs_s = next(calls, (inf, 0.0))

    def take(self) -> float:
        runs_s = self._runs_s
        self.next_at, self._runs_s = next(self._calls, (inf, 0.0))
        return runs_s

    def ended(self, now: float, *, served: bool) -> None:
        pass


@dataclass(frozen=True)
class Listed:
    """A workload whose calls are all known: `starts` and `runs_s` belong together and are in order of start."""

    function: str
    starts: array[float]
    runs_s: array[float]
    trigger: str = ""
    memory_mib: float = DEFAULT_MEMORY_MIB

    def source(self, seed: int) -> Calls:
        return Calls(zip(self.starts, self.runs_s, strict=True))


class Listing:
    """Gathers listed calls in any order, function by function; times are whatever seconds the file counts in."""

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._functions: dict[tuple[str, str], tuple[array[float], array[float]]] = {}
        self._calls = 0

    def add(self, function: str, start: float, runs_s: float, trigger: str = "") -> None:
        """Note one call. Raises InvalidTrace when there are too many."""
        self._calls += 1
        if self._calls > MOST_CALLS:
            raise InvalidTrace(self._path, f"more than {MOST_CALLS:,} calls: cut it into shorter traces")
        starts, runs = self._functions.setdefault((function, trigger), (array("d"), array("d")))
        starts.append(start)
        runs.append(runs_s)

    def trace(self, origin: str, *, dated: bool = False) -> Trace:
        """Return the trace, which begins with its first call. `dated`: times are Unix seconds. Raises InvalidTrace when
        empty.
        """
        if not self._calls:
            raise InvalidTrace(self._path, "no call is in it")
        first = min(min(starts) for starts, _ in self._functions.values())
        last = max(s + r for starts, runs in self._functions.values() for s, r in zip(starts, runs, strict=True))
        workloads = []
        for (function, trigger), (starts, runs) in sorted(self._functions.items()):
            order = sorted(range(len(starts)), key=starts.__getitem__)
            placed = array("d", (starts[i] - first for i in order))
            workloads.append(Listed(function, placed, array("d", (runs[i] for i in order)), trigger))
        return Trace(origin, max(1.0, last - first), workloads, first if dated else 0.0)


def random_for(seed: int, *what: object) -> Random:
    """Return a generator that gives the same numbers for the same seed and the same names, on every machine."""
    return Random("/".join(str(part) for part in (seed, *what)))  # noqa: S311  # a simulation keeps no secret
