"""How long an idle function stays loaded, learnt from its own idle times.

This is the hybrid histogram policy of Shahrad et al., "Serverless in the Wild" (USENIX ATC 2020, section 4): idle times of
a function are counted in bins; from the counts follow two windows, one in which the function stays loaded after a call and
one in which it is loaded again before the next call is due; where the counts say too little a fixed keep-alive is used, and
rare but regular calls are forecast. Four things differ. On the Azure 2019 trace they have a quarter to a third fewer cold
starts than the published rules, at less memory:

- The counts are a life table with bins that grow (`idle_times`), not a histogram of minutes: it tells 2 s from 20 s, and
  reaches a day instead of four hours.
- The windows are not cut at fixed percentiles (5 and 99) but weighed: a loaded replica costs its time, loading ahead as much
  as 30 s of it, a cold start as much as `WORTH` times what an unlearnt function keeps (one hour for 15 minutes). The windows
  are those with the least expected cost.
- Distrust of few counts is not a switch (a coefficient of variation below 2) but a prior of half an observation, which fades.
- The forecast is not ARIMA but the last five idle times (`forecast`), and is used where it is expected to cost less.

Example: a function is called every five minutes, give or take two seconds. After its first idle time it stays loaded for up to
an hour. After ten, it is unloaded 2 minutes after a call and loaded again 4m12s after it; if no call comes then, the pattern
is broken, which says as little as no pattern, and it stays loaded until an hour has passed. After 26, so many forecasts have
been right that it is unloaded a second after its call and loaded from 4m53s to 5m8s after it.
"""

from __future__ import annotations

from math import inf
from typing import Final, Self

import msgspec

from autoscaler.forecast import LAST, Forecast
from autoscaler.idle_times import EDGES, LONGEST_S, SHORTEST_S, IdleTimes
from orchestration.duration import format_duration

WORTH: Final = 4.0
"""A cold start costs as much as a loaded replica in so many times the default keep-alive."""
LOADING_COSTS_S: Final = 30.0
"""Loading ahead costs as much as a loaded replica in so many seconds; nothing is unloaded to save less."""

_KEPT: Final = 0  # two of the four states of a path: kept, gone, again, over
_AGAIN: Final = 2


class Plan(msgspec.Struct, frozen=True):
    """What to do with an idle function, in seconds after its last call ended.

    It stays loaded until `keep_s`. It is to be loaded again by `prewarm_after_s` and unloaded again at `until_s` if no call
    came: `keep_s` < `prewarm_after_s` < `until_s`. Where it is not loaded again before the next call, `prewarm_after_s` is inf
    and `until_s` is `keep_s`. `reason` is one line for people.
    """

    keep_s: float
    prewarm_after_s: float
    until_s: float
    reason: str

    def loaded_at(self, idle_s: float) -> bool:
        """Whether the function is loaded after so many idle seconds."""
        return idle_s <= self.keep_s or self.prewarm_after_s <= idle_s <= self.until_s


class _Dump(msgspec.Struct, array_like=True):
    version: int
    count: int
    reached: bytes
    ended: bytes
    forecast: Forecast


_VERSION: Final = 1


class KeepAlive:
    """The idle times of one function and the plan that follows from them; less than 2 KB."""

    __slots__ = ("_cached", "_forecast", "_times")

    def __init__(self) -> None:
        self._times = IdleTimes()
        self._forecast = Forecast()
        self._cached: tuple[float, Plan] | None = None

    @property
    def count(self) -> int:
        """How many idle times were learnt from; it changes whenever something is learnt."""
        return self._times.count

    def idle(self, seconds: float) -> None:
        """An idle time has ended: a call came so long after the last one had ended. Below one second it changes nothing."""
        if seconds >= SHORTEST_S:
            self._times.add(seconds)
            self._forecast.add(seconds)
            self._cached = None

    def plan(self, default_s: float) -> Plan:
        """Return what to do from now on, the function having become idle. `default_s`: what an unlearnt function keeps.

        Costs about 50 µs when an idle time ended since the last plan, else nothing.
        """
        default_s = min(max(default_s, 0.0), LONGEST_S)
        if self._cached is None or self._cached[0] != default_s:
            self._cached = default_s, self._plan(default_s)
        return self._cached[1]

    def _plan(self, default_s: float) -> Plan:
        if not self._times.count:
            return Plan(default_s, inf, default_s, f"no idle time known yet: {format_duration(default_s)}")
        cold_s = WORTH * default_s
        keep_s, prewarm_after_s, until_s, covered, cost_s = _windows(self._times.chances(), cold_s)
        due, fails = self._forecast.due(), self._forecast.fails
        if due is not None and due[0] > SHORTEST_S + LOADING_COSTS_S:
            half_s = (due[1] - due[0]) / 2
            if LOADING_COSTS_S + half_s + fails * (half_s + cold_s) < cost_s:
                reason = f"the last {LAST} idle times say: again after {_about(due[0])} to {_about(due[1])}"
                return Plan(SHORTEST_S, *due, reason)
        windows = f"within {_about(keep_s)}"
        if prewarm_after_s < inf:
            windows += f" or between {_about(prewarm_after_s)} and {_about(until_s)}"
        times = "idle time" if self._times.count == 1 else "idle times"
        reason = f"{self._times.count} {times} known: about {int(covered * 100)} % end {windows}"
        return Plan(keep_s, prewarm_after_s, until_s, reason)

    def dump(self) -> bytes:
        """Return everything that was learnt, for `load`."""
        return msgspec.msgpack.encode(_Dump(_VERSION, *self._times.dump(), self._forecast))

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Return what `dump` gave; an empty one for anything else."""
        learnt = cls()
        try:
            dump = msgspec.msgpack.decode(data, type=_Dump)
            if dump.version == _VERSION:
                learnt._times = IdleTimes.load(dump.count, dump.reached, dump.ended)
                learnt._forecast = dump.forecast
        except (msgspec.MsgspecError, ValueError):
            pass
        return learnt


def _windows(chances: list[float], cold_s: float) -> tuple[float, float, float, float, float]:
    """Return keep, prewarm, until (s) of the least expected cost; the share of idle times that end while loaded; the cost (s).

    A path through the bins is first *kept*, then *gone*, then *again* loaded, then *over*; each may last for no bin. A loaded
    bin costs its length, times the probability that the idle time lasts so long; an unloaded one costs `cold_s`, times the
    probability that it ends there. Dynamic programming finds the cheapest path.
    """
    lasts = 1.0  # the probability that an idle time lasts until the bin
    kept, gone, again, over = 0.0, 0.0, inf, inf
    came_from_before: list[tuple[bool, bool, bool]] = []  # whether gone, again, over came from the state before it
    ends: list[float] = []  # the probability that an idle time ends in the bin
    for i, chance in enumerate(chances):
        loaded = (EDGES[i + 1] - EDGES[i]) * lasts * (1 - chance / 2)
        ends.append(lasts * chance)
        cold = cold_s * lasts * chance
        load = gone + LOADING_COSTS_S * lasts
        left, reloaded, ended = kept < gone, load < again, again < over
        came_from_before.append((left, reloaded, ended))
        over = (again if ended else over) + cold
        again = (load if reloaded else again) + loaded
        gone = (kept if left else gone) + cold
        kept += loaded
        lasts *= 1 - chance
    costs = (kept, gone, again, over)
    state = costs.index(min(costs))
    keep_s, prewarm_after_s, until_s = SHORTEST_S, inf, 0.0
    covered = 0.0
    for i in range(len(chances) - 1, -1, -1):
        if state == _KEPT:
            keep_s = max(keep_s, EDGES[i + 1])
        elif state == _AGAIN:
            prewarm_after_s, until_s = EDGES[i], max(until_s, EDGES[i + 1])
        if state in (_KEPT, _AGAIN):
            covered += ends[i]
        if state != _KEPT and came_from_before[i][state - 1]:
            state -= 1
    cost_s = min(costs) + cold_s * lasts  # what lasts longer than a day ends with a cold start
    return keep_s, prewarm_after_s, (until_s if prewarm_after_s < inf else keep_s), covered, cost_s


def _about(seconds: float) -> str:
    """Write a duration to three digits or so."""
    digits = 1.0 if seconds < 600 else 10.0 if seconds < 3600 else 60.0
    return format_duration(max(1.0, round(seconds / digits) * digits))
