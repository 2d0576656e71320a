"""Traffic made up by rule: `KIND:NAME=VALUE,…`, such as `step:from=1,to=50,at=1m,length=5m,run=100ms`.

| kind | calls come |
|---|---|
| `poisson` | at `rate` a second, by chance |
| `step` | at `from` a second, at `to` from `at` on |
| `ramp` | at `from` a second, rising evenly to `to` at the end |
| `diurnal` | between `from` and `to` a second, one wave each `period` |
| `burst` | `calls` at one moment, `at`, and again each `every` (0: once) |
| `clients` | from `clients` clients, from `at` until `until`, that wait for each answer and `think` before they call again |

All but `burst` and `clients` come by chance (a Poisson process whose rate changes). `functions` makes several alike.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import cos, inf, pi
from random import Random
from typing import Final

from autoscaler.simulator.distribution import Distribution, InvalidDistribution
from autoscaler.simulator.trace import DEFAULT_MEMORY_MIB, Call, Calls, InvalidTrace, Source, Trace, random_for
from orchestration.duration import InvalidDuration, parse_duration_s

REFUSED_PAUSE_S: Final = 1.0
"""A client that was refused calls again after so long: what `Retry-After` tells it."""
MOST_FUNCTIONS: Final = 100_000

DEFAULTS: Final[Mapping[str, Mapping[str, str]]] = {
    "poisson": {"rate": "10"},
    "step": {"from": "1", "to": "50", "at": "1m"},
    "ramp": {"from": "0", "to": "50"},
    "diurnal": {"from": "0", "to": "5", "period": "24h", "length": "48h"},
    "burst": {"calls": "100", "at": "10s", "every": "0s"},
    "clients": {"clients": "100", "at": "10s", "until": "70s", "think": "0s", "length": "3m"},
}
"""What each kind has of its own, and what holds where nothing is said."""
SHARED: Final[Mapping[str, str]] = {
    "length": "5m",
    "run": "100ms",
    "memory": f"{DEFAULT_MEMORY_MIB:g}",
    "functions": "1",
    "trigger": "http",
}
_DURATIONS: Final = frozenset({"at", "until", "every", "period", "think", "length"})
_TEXTS: Final = frozenset({"run", "trigger"})


@dataclass(frozen=True)
class Rate:
    """A workload with `rate` calls a second at a time, never more than `highest`."""

    function: str
    trigger: str
    memory_mib: float
    runs: Distribution
    length_s: float
    highest: float
    rate: Callable[[float], float]

    def source(self, seed: int) -> Calls:
        return Calls(self._calls(random_for(seed, self.function)))

    def _calls(self, random: Random) -> Iterator[Call]:
        """Thinning (Lewis and Shedler 1979): as many candidates as at the highest rate, each kept with the share that holds
        then.
        """
        if self.highest <= 0:
            return
        now = 0.0
        while (now := now + random.expovariate(self.highest)) < self.length_s:
            if random.random() * self.highest < self.rate(now):
                yield now, self.runs.draw(random)


@dataclass(frozen=True)
class Burst:
    """A workload of `calls` at one moment, and again each `every_s`."""

    function: str
    trigger: str
    memory_mib: float
    runs: Distribution
    length_s: float
    calls: int
    at: float
    every_s: float

    def source(self, seed: int) -> Calls:
        return Calls(self._calls(random_for(seed, self.function)))

    def _calls(self, random: Random) -> Iterator[Call]:
        moment = self.at
        while moment < self.length_s:
            for _ in range(self.calls):
                yield moment, self.runs.draw(random)
            moment = moment + self.every_s if self.every_s else inf


@dataclass(frozen=True)
class Clients:
    """A workload of clients that wait for their answers: it slows down with the function."""

    function: str
    trigger: str
    memory_mib: float
    runs: Distribution
    clients: int
    at: float
    until: float
    think_s: float

    def source(self, seed: int) -> Source:
        return _Waiting(self, random_for(seed, self.function))


class _Waiting:
    """The clients' calls: each client's next one is known when its last one has ended."""

    def __init__(self, clients: Clients, random: Random) -> None:
        self._clients = clients
        self._random = random
        self._due = [clients.at] * clients.clients if clients.at < clients.until else []
        self.next_at = self._due[0] if self._due else inf

    def take(self) -> float:
        heapq.heappop(self._due)
        self.next_at = self._due[0] if self._due else inf
        return self._clients.runs.draw(self._random)

    def ended(self, now: float, *, served: bool) -> None:
        again = now + (self._clients.think_s if served else REFUSED_PAUSE_S)
        if again < self._clients.until:
            heapq.heappush(self._due, again)
            self.next_at = self._due[0]


def is_synthetic(text: str) -> bool:
    """Whether `text` names one of the kinds."""
    return text.partition(":")[0] in DEFAULTS


def make(text: str) -> Trace:
    """Return the trace that `text` describes. Raises InvalidTrace."""
    kind, _, rest = text.partition(":")
    if kind not in DEFAULTS:
        raise InvalidTrace(text, f"no such traffic; there are {', '.join(DEFAULTS)}")
    given = {**SHARED, **DEFAULTS[kind]}
    for part in filter(None, (p.strip() for p in rest.split(","))):
        name, _, value = part.partition("=")
        percentile = name[:1] == "p" and name[1:2].isdigit()
        if name not in given and not percentile:
            raise InvalidTrace(text, f"{kind} has no {name!r}; there are {', '.join(given)}")
        if percentile:  # run=p50=100ms,p99=1s: the comma is the value's
            given["run"] += "," + part
            continue
        given[name] = value
    values = {name: _value(text, name, value) for name, value in given.items() if name not in _TEXTS}
    try:
        runs = Distribution.parse(given["run"])
    except InvalidDistribution as error:
        raise InvalidTrace(text, str(error), column="run") from None
    if runs.mean_s <= 0:
        raise InvalidTrace(text, "a call runs for more than 0", column="run")
    if not 1 <= values["functions"] <= MOST_FUNCTIONS:
        raise InvalidTrace(text, f"1 to {MOST_FUNCTIONS:,}", column="functions")
    if values["length"] <= 0:
        raise InvalidTrace(text, "more than 0 is wanted", column="length")
    names = [kind if values["functions"] == 1 else f"{kind}-{i + 1}" for i in range(int(values["functions"]))]
    made = [_workload(kind, name, values, runs, given["trigger"]) for name in names]
    return Trace(text, values["length"], made)


def _workload(kind: str, name: str, values: Mapping[str, float], runs: Distribution, trigger: str) -> Rate | Burst | Clients:
    length_s, memory = values["length"], values["memory"]
    if kind == "burst":
        return Burst(name, trigger, memory, runs, length_s, int(values["calls"]), values["at"], values["every"])
    if kind == "clients":
        until = min(values["until"], length_s)
        return Clients(name, trigger, memory, runs, int(values["clients"]), values["at"], until, values["think"])
    if kind == "poisson":
        return Rate(name, trigger, memory, runs, length_s, values["rate"], _Level(values["rate"], values["rate"], 0.0))
    low, high = values["from"], values["to"]
    if kind == "step":
        return Rate(name, trigger, memory, runs, length_s, max(low, high), _Level(low, high, values["at"]))
    if kind == "ramp":
        return Rate(name, trigger, memory, runs, length_s, max(low, high), _Slope(low, high, length_s))
    return Rate(name, trigger, memory, runs, length_s, max(low, high), _Wave(low, high, values["period"] or 86400.0))


@dataclass(frozen=True)
class _Level:
    """`before` until `at`, then `after`."""

    before: float
    after: float
    at: float

    def __call__(self, now: float) -> float:
        return self.after if now >= self.at else self.before


@dataclass(frozen=True)
class _Slope:
    first: float
    last: float
    length_s: float

    def __call__(self, now: float) -> float:
        return self.first + (self.last - self.first) * now / self.length_s


@dataclass(frozen=True)
class _Wave:
    """Lowest at the beginning of each period, highest in its middle."""

    low: float
    high: float
    period_s: float

    def __call__(self, now: float) -> float:
        return self.low + (self.high - self.low) * (1 - cos(2 * pi * now / self.period_s)) / 2


def _value(text: str, name: str, value: str) -> float:
    if name in _DURATIONS:
        try:
            return parse_duration_s(value)
        except InvalidDuration as error:
            raise InvalidTrace(text, str(error), column=name) from None
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e9:
        raise InvalidTrace(text, f"{value[:40]!r} is not a number of at least 0", column=name)
    return number
