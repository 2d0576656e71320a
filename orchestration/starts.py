"""How replicas started: what each phase of a start took, the last ones of each function, and counts of all."""

from __future__ import annotations

import bisect
import collections
from collections.abc import Callable
from typing import Literal

import msgspec

from orchestration.names import FunctionId

Kind = Literal["zygote", "stem", "exec"]
PHASES = ("placed", "prepared", "made", "ready")
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
REMEMBERED = 20
LEAST_S = 0.000_05
"""What takes less than 50 µs is no part of its own."""


class Start(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One start that came to its end: the replica is Running, or `failed` says in one line why not.

    It was decided `at` (Unix seconds). `kind` is what the process is made of: a fork of the revision's zygote, a fork of the
    dependency set's stem, or fork and exec. The phases follow one another, in seconds: `placed_s` waiting for a place
    among the starting ones, `prepared_s` waiting for the zygote to have imported the handler, `made_s` for the process to
    be, `ready_s` until it could take calls (by `stem` and `exec` it imports the handler in that time).
    """

    replica: str
    revision: str
    kind: Kind
    at: float
    placed_s: float
    prepared_s: float
    made_s: float
    ready_s: float
    failed: str = ""

    @property
    def total_s(self) -> float:
        return self.placed_s + self.prepared_s + self.made_s + self.ready_s

    def phase_s(self, phase: str) -> float:
        """Return what one of `PHASES` took."""
        return {"placed": self.placed_s, "prepared": self.prepared_s, "made": self.made_s, "ready": self.ready_s}[phase]


def parts(start: Start) -> list[tuple[str, float]]:
    """Return the parts of a start that took time, `(name, seconds)`, in order, by what happened in them.

    `place` and `import` (by the zygote) are waits; then `fork` or `spawn`; at last `ready`, or `import` where the process
    imports the handler itself.
    """
    own = start.kind != "zygote"
    named = [
        ("place", start.placed_s),
        ("import", start.prepared_s),
        ("spawn" if start.kind == "exec" else "fork", start.made_s),
        ("import" if own else "ready", start.ready_s),
    ]
    return [(name, seconds) for name, seconds in named if seconds >= LEAST_S]


class Stopwatch:
    """Times the phases of one start, decided `at` (Unix seconds). `steady` gives seconds that only grow."""

    def __init__(self, replica: str, revision: str, at: float, steady: Callable[[], float]) -> None:
        self._replica = replica
        self._revision = revision
        self._at = at
        self._steady = steady
        self._last = steady()
        self._took = dict.fromkeys(PHASES, 0.0)
        self.kind: Kind = "exec"

    def over(self, phase: str) -> None:
        """The phase, one of `PHASES`, has ended."""
        now = self._steady()
        self._took[phase], self._last = now - self._last, now

    def start(self, failed: str = "") -> Start:
        """Return what was timed."""
        took = {f"{phase}_s": round(seconds, 6) for phase, seconds in self._took.items()}
        return Start(
            replica=self._replica, revision=self._revision, kind=self.kind, at=self._at, failed=failed, **took
        )  # fmt: skip


class Histogram:
    """Counts by duration, as plain integers: `counts[i]` is how many took at most `BOUNDS_S[i]`, the last one how many longer.

    Not cumulative. `sum_s` is what all took together.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect.bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds


class StartBook:
    """Remembers the last `REMEMBERED` starts of each function; counts all.

    `histograms` are by `(kind, phase)`, of starts that succeeded; `failures` are by kind.
    """

    def __init__(self) -> None:
        self.histograms: dict[tuple[Kind, str], Histogram] = {}
        self.failures: dict[Kind, int] = {}
        self._last: dict[FunctionId, collections.deque[Start]] = {}

    def add(self, function: FunctionId, start: Start) -> None:
        self._last.setdefault(function, collections.deque(maxlen=REMEMBERED)).append(start)
        if start.failed:
            self.failures[start.kind] = self.failures.get(start.kind, 0) + 1
            return
        for phase in PHASES:
            self.histograms.setdefault((start.kind, phase), Histogram()).add(start.phase_s(phase))

    def last(self, function: FunctionId) -> tuple[Start, ...]:
        """Return the function's last starts, the latest first."""
        return tuple(reversed(self._last.get(function, ())))

    def forget(self, function: FunctionId) -> None:
        """The function was removed."""
        self._last.pop(function, None)
