"""A function's figures over time, at three resolutions, each kept for as long as people look back at it.

    every 1 s for 5 minutes · every 10 s for an hour · every 5 minutes for a day

A row says what happened during a step, and is made only when something did: a function that nobody calls costs nothing. A
row has 40 bytes, so a function that is called all day has 40 KB. Percentiles are computed from the step's own buckets, not
from averages of shorter steps.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from gateway.edge.tally import BOUNDS_S, Tally
from gateway.monitor.percentiles import percentile


class Tier(NamedTuple):
    """A resolution: the length of a step, and how many are kept."""

    step_s: int
    steps: int

    @property
    def span_s(self) -> int:
        return self.step_s * self.steps


Rows = Mapping[Tier, "array[int]"]
"""Rows of some resolutions, one after the other: the end of the step (Unix seconds), and nine figures."""

TIERS: Final = (Tier(1, 300), Tier(10, 360), Tier(300, 288))
RECENT_STEPS: Final = 60
RATE_S: Final = 10

ROW_FIELDS: Final = 10
_CALLS: Final = 1
_NOTHING: Final = (1 << 32) - 1
_MOST: Final = _NOTHING - 1
_SLACK_ROWS: Final = 32
_MINUTE: Final = 1  # the tier whose steps a minute is counted in
_MINUTE_STEPS: Final = 6


class Level(NamedTuple):
    """What is true at a moment: calls at replicas, calls that wait, replicas that are ready."""

    in_flight: int = 0
    waiting: int = 0
    ready: int = 0


def errors(tally: Tally) -> int:
    """Return how many calls ended with a status of 5xx."""
    return sum(durations.count for code, durations in tally.by_code.items() if 500 <= code <= 599)


def percentile_s(tally: Tally, part: float) -> float | None:
    """Return how long the `part` of all calls took at most; None when there were none."""
    buckets = [sum(column) for column in zip(*(d.buckets for d in tally.by_code.values()), strict=True)]
    return percentile(BOUNDS_S, buckets, part)


class History(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One entry in each list for each step of `stepS` seconds in which something happened; `at` is its end (Unix seconds).

    Steps that are left out had no calls, and as many replicas as the step before. `errors` are calls that ended with a status
    of 5xx, `cold` those that waited for a replica to start. `inFlight` and `waiting` are the most at a time, `ready` how many
    replicas were ready at the end. Percentiles are milliseconds, null where no call ended. Steps are kept for `spanS`.
    """

    step_s: int
    span_s: int
    now: float
    at: list[int]
    calls: list[int]
    errors: list[int]
    cold: list[int]
    in_flight: list[int]
    waiting: list[int]
    ready: list[int]
    p50_ms: list[float | None]
    p95_ms: list[float | None]
    p99_ms: list[float | None]


class _Steps:
    """The rows of one tier, and the step that goes on: `base` are the counts at its beginning, `most` what was seen in it.
    The last `fresh` rows are not written down yet."""

    __slots__ = ("base", "fresh", "most", "ready", "rows", "slot", "tier")

    def __init__(self, tier: Tier, now: float, base: Tally, rows: array[int]) -> None:
        self.tier = tier
        self.slot = int(now) // tier.step_s
        self.base = base
        self.most = Level()
        self.ready = 0
        self.rows = rows
        self.fresh = 0

    def pending(self, tally: Tally, level: Level) -> bool:
        """Whether the step that goes on will leave a row."""
        counted = (tally.completed, tally.cold) != (self.base.completed, self.base.cold)
        return counted or self.most[:2] != (0, 0) or level.ready != self.ready

    def close(self, slot: int, tally: Tally, level: Level) -> None:
        """The step is over: `tally` are those at its end."""
        if self.pending(tally, level):
            added = tally.since(self.base)
            figures = (added.completed, errors(added), added.cold, self.most.in_flight, self.most.waiting, level.ready)
            times = (_microseconds(percentile_s(added, part)) for part in (0.5, 0.95, 0.99))
            self.rows.extend((slot * self.tier.step_s, *(min(_MOST, max(0, figure)) for figure in figures), *times))
            self.fresh += 1
            if len(self.rows) > (self.tier.steps + _SLACK_ROWS) * ROW_FIELDS:
                del self.rows[: _SLACK_ROWS * ROW_FIELDS]
        self.slot, self.base, self.most, self.ready = slot, tally, Level(), level.ready

    def after(self, moment: float) -> int:
        """Return where the rows begin that ended after `moment`."""
        low, high = 0, len(self.rows) // ROW_FIELDS
        while low < high:
            middle = (low + high) // 2
            if self.rows[middle * ROW_FIELDS] > moment:
                high = middle
            else:
                low = middle + 1
        return low * ROW_FIELDS


class Series:
    """One function's rows, those of `earlier` before its own. `look` is to be called each second until it returns False."""

    __slots__ = ("_minute", "_steps")

    def __init__(self, now: float, tally: Tally, earlier: Rows | None = None) -> None:
        base = tally.copy()
        self._steps = [_Steps(tier, now, base, (earlier or {}).get(tier) or array("I")) for tier in TIERS]
        self._minute: deque[tuple[float, Tally]] = deque([(now, base)], maxlen=_MINUTE_STEPS + 1)

    def look(self, now: float, tally: Tally, level: Level) -> bool:
        """Take notice of what is true at `now` (Unix seconds). Return whether something is still to be written."""
        copy: Tally | None = None
        more = False
        for number, steps in enumerate(self._steps):
            # What is seen now happened since the last look, so it belongs to the step that ends.
            steps.most = Level(max(steps.most[0], level[0]), max(steps.most[1], level[1]))
            slot = int(now) // steps.tier.step_s
            if slot != steps.slot:
                copy = copy or tally.copy()
                steps.close(slot, copy, level)
                if number == _MINUTE:
                    self._minute.append((now, copy))
            more = more or steps.pending(tally, level)
        return more

    def minute(self, now: float, tally: Tally) -> Tally:
        """Return what was counted in the last 50 to 60 seconds."""
        begun = (base for at, base in reversed(self._minute) if at <= now - (_MINUTE_STEPS - 1) * TIERS[_MINUTE].step_s)
        return tally.since(next(begun, self._minute[0][1]))

    def rate(self, now: float) -> float:
        """Return how many calls ended per second, over the last RATE_S whole seconds."""
        return sum(self._recent(now, RATE_S)) / RATE_S

    def recent(self, now: float) -> list[int]:
        """Return how many calls ended in each of the last RECENT_STEPS whole seconds, oldest first; empty when none did."""
        found = self._recent(now, RECENT_STEPS)
        return found if any(found) else []

    def _recent(self, now: float, seconds: int) -> list[int]:
        steps, last = self._steps[0], int(now)
        found = [0] * seconds
        for i in range(steps.after(last - seconds), len(steps.rows), ROW_FIELDS):
            place = seconds - 1 - (last - steps.rows[i])
            if 0 <= place < seconds:
                found[place] += steps.rows[i + _CALLS]
        return found

    def history(self, now: float, tier: Tier) -> History:
        """Return a tier's rows; the last one before the window too, which says how many replicas there were when it began."""
        steps = next(steps for steps in self._steps if steps.tier == tier)
        rows = steps.rows[max(0, steps.after(now - tier.span_s) - ROW_FIELDS) :]
        columns = [list(rows[field::ROW_FIELDS]) for field in range(ROW_FIELDS)]
        at, calls, errors, cold, in_flight, waiting, ready, *times = columns
        p50, p95, p99 = ([None if t == _NOTHING else t / 1000 for t in column] for column in times)
        return History(
            step_s=tier.step_s,
            span_s=tier.span_s,
            now=now,
            at=at,
            calls=calls,
            errors=errors,
            cold=cold,
            in_flight=in_flight,
            waiting=waiting,
            ready=ready,
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
        )

    def fresh(self) -> Rows:
        """Return the rows that are not written down yet."""
        return {s.tier: s.rows[max(0, len(s.rows) - s.fresh * ROW_FIELDS) :] for s in self._steps if s.fresh and s.rows}

    def written(self, rows: Rows) -> None:
        """These are written down now."""
        for steps in self._steps:
            steps.fresh = max(0, steps.fresh - len(rows.get(steps.tier, ())) // ROW_FIELDS)

    @property
    def size_bytes(self) -> int:
        return sum(len(steps.rows) * steps.rows.itemsize for steps in self._steps)

    def trim(self, now: float, *, halve: bool = False) -> None:
        """Let go of rows that nobody looks back at any more, and of the older half of the others when room is short."""
        for steps in self._steps:
            gone = max(0, steps.after(now - steps.tier.span_s) - ROW_FIELDS)
            if halve:
                gone = max(gone, len(steps.rows) // ROW_FIELDS // 2 * ROW_FIELDS)
            if gone:
                del steps.rows[:gone]


def empty(now: float, tier: Tier) -> History:
    """Return the history of a function of which nothing is known."""
    return Series(now, Tally()).history(now, tier)


def _microseconds(seconds: float | None) -> int:
    return _NOTHING if seconds is None else min(_MOST, round(seconds * 1e6))
