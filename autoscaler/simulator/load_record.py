"""Calls made again from what edges told about the load, second by second: live traffic, to be replayed.

A sample says exactly how many calls came, how many were there at its end, and the integral of their number. From one to the
next follows how many ended; calls end in the order in which they began, as near as one can tell. Within a sample the calls
that came are spread evenly, and those that ended are placed so that the integral comes out right. A sample that was told
because a call came has its calls at its end: there the integral says how long before.

What calls waited is taken off what they ran, as far as the number of waiting calls at the samples' ends tells. That is where
this is least sure: of a time in which much waited, the counts are exact and the running times are not.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from autoscaler.simulator.trace import DEFAULT_MEMORY_MIB, InvalidTrace, Listed, Trace
from orchestration.load_history import LoadHistory

SHORTEST_RUN_S: Final = 0.0005


@dataclass
class _Sums:
    """Moments at which calls came, began and ended, each list in order."""

    came: list[float]
    began: list[float]
    ended: list[float]


def read(path: Path) -> Trace:
    """Return the trace in a file that holds a LoadHistory as JSON. Raises InvalidTrace."""
    try:
        history = msgspec.json.decode(path.read_bytes(), type=LoadHistory)
    except OSError as error:
        raise InvalidTrace(path, f"cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise InvalidTrace(path, f"is not a function's recorded load: {error}") from None
    return trace_of(history, path.stem, f"load in {path.name}")


def trace_of(history: LoadHistory, function: str, origin: str, memory_mib: float = DEFAULT_MEMORY_MIB) -> Trace:
    """Return the trace of one function's recorded load. Raises InvalidTrace where there is none, or it contradicts itself."""
    columns = (
        history.interval_s,
        history.concurrency,
        history.arrivals,
        history.in_flight,
        history.queued,
        history.edge,
    )
    if any(len(column) != len(history.at) for column in columns):
        raise InvalidTrace(origin, "its lists are not equally long")
    starts, runs = array("d"), array("d")
    for begin, run_s in _calls(history):
        starts.append(begin)
        runs.append(run_s)
    if not starts:
        raise InvalidTrace(origin, f"no call of {function} is recorded")
    first = min(history.at[0] - history.interval_s[0], starts[0])
    first = max(first, starts[0] - 1.0)  # what was idle before the first call is nothing to replay
    length_s = max(1.0, history.at[-1] - first)
    placed = array("d", (start - first for start in starts))
    return Trace(origin, length_s, [Listed(function, placed, runs, memory_mib=memory_mib)], first)


def _calls(history: LoadHistory) -> list[tuple[float, float]]:
    calls = []
    for edge in dict.fromkeys(history.edge):
        sums = _moments(history, edge)
        last = history.at[-1]
        for i, came in enumerate(sums.came):
            began = max(came, sums.began[i] if i < len(sums.began) else last)
            ended = sums.ended[i] if i < len(sums.ended) else last
            calls.append((came, max(SHORTEST_RUN_S, ended - began)))
    return sorted(calls)


def _moments(history: LoadHistory, edge: int) -> _Sums:
    sums = _Sums([], [], [])
    level = queued = 0
    for i, at in enumerate(history.at):
        if history.edge[i] != edge:
            continue
        length_s, came = history.interval_s[i], history.arrivals[i]
        now_level = history.in_flight[i] + history.queued[i]
        if not sums.came and not level and now_level > came:  # recorded from the middle on: what was there already came before
            level = now_level - came
            sums.came += [at - length_s] * level
            sums.began += [at - length_s] * level
        area = history.concurrency[i] * length_s
        ended = max(0, level + came - now_level)
        arrivals = _arrivals(at, length_s, area - level * length_s, came, ended)
        missing = level * length_s + sum(at - moment for moment in arrivals) - area
        if came and ended and not 0 <= missing <= ended * length_s:  # so they came earlier, or later
            missing = min(max(missing, 0.0), ended * length_s)
            arrivals = _spread(at, length_s, (area + missing - level * length_s) / came, came)
        departures = _spread(at, length_s, missing / ended, ended) if ended else []
        sums.came += arrivals
        sums.ended += departures
        begun = len(sums.came) - history.queued[i] - len(sums.began)
        # Where none waited, a call begins when it comes; where some do, when another ends, or on a replica that is new.
        at_once = departures[:begun] if queued else arrivals[:begun]
        new = begun - len(at_once)
        sums.began += sorted([*at_once, *(at - length_s + (n + 0.5) * length_s / new for n in range(new))])
        level, queued = now_level, history.queued[i]
    return sums


def _arrivals(at: float, length_s: float, area: float, count: int, ended: int) -> list[float]:
    """Return when `count` calls came in the `length_s` seconds before `at`; `area` is what they add to the integral."""
    if not count:
        return []
    if not ended:  # nothing but they changed the integral: it says how long before the end they came, in the mean
        return _spread(at, length_s, area / count, count)
    span_s = min(length_s, 1.0)
    return [at - span_s + (n + 0.5) * span_s / count for n in range(count)]


def _spread(at: float, length_s: float, before_s: float, count: int) -> list[float]:
    """Return `count` moments within the `length_s` seconds before `at`, evenly, `before_s` before it in the mean."""
    before_s = min(length_s, max(0.0, before_s))
    half_s = min(before_s, length_s - before_s)
    return [at - before_s - half_s + (n + 0.5) * 2 * half_s / count for n in range(count)]
