"""What the autoscaler costs: one second of load over many functions, and what each idle one holds.

    python -m benchmarks.autoscaler [--functions 1000 10000 100000] [--active 0.1] [--rounds 7]

For each size a tenth of the functions have load: every second an edge tells of each, and each is decided upon once; a tick is
that second's work, from the first sample to the last decision. The others are idle. The decisions are checked: after a
minute of 3 calls at a time and an aim of 0.7 every active function must have 5 replicas, every idle one its floor.
The yardstick is a bare loop that makes a sample for each function and counts it in a dict.
Memory is that of idle functions, after they had load once, by tracemalloc.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import Sequence
from typing import Any, Final, cast

from autoscaler.scaler import Scaler
from autoscaler.starts import StartLimits
from orchestration.events import FunctionChanged, ReplicaChanged
from orchestration.function import Function
from orchestration.load import LoadSample
from orchestration.names import FunctionId
from orchestration.orchestrator import FunctionStatus, Orchestrator
from orchestration.replica import Replica, ReplicaState
from orchestration.rollout import Condition, Phase, deploy
from orchestration.spec import FunctionSpec

LABELS: Final = {"com.pinnace.concurrency": "1", "com.openfaas.scale.zero": "true"}
CALLS: Final = 3.0
NEED: Final = 5  # ceil(3 / 0.7)
NO_LIMITS: Final = StartLimits(1_000_000, 1_000_000)
READY: Final = Condition(Phase.READY)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Place:
    """As much of an orchestrator as a scaler asks: it holds counts, takes writes at once, and its replicas start at once."""

    def __init__(self) -> None:
        self.functions: dict[FunctionId, Function] = {}
        self.counts: dict[FunctionId, int] = {}
        self.events: list[ReplicaChanged] = []

    def add(self, function: Function) -> None:
        self.functions[function.id], self.counts[function.id] = function, 0
        self.count(function.id, 1)

    def count(self, function: FunctionId, replicas: int) -> None:
        before, revision = self.counts[function], self.functions[function].newest.name
        state = ReplicaState.RUNNING if replicas > before else ReplicaState.STOPPED
        for number in range(min(before, replicas), max(before, replicas)):
            replica = Replica(
                id=f"{revision}-{number}", namespace=function.namespace, function=function.name, revision=revision, state=state
            )
            self.events.append(ReplicaChanged(replica))
        self.counts[function] = replicas

    def status(self, function: FunctionId) -> FunctionStatus:
        count = self.counts[function]
        return FunctionStatus(function=self.functions[function], replicas=count, available=count, instances=(), condition=READY)

    async def scale(self, revision: tuple[str, str], replicas: int, *, victims: Sequence[str] = ()) -> None:
        self.count(FunctionId(revision[0], revision[1].rpartition("-")[0]), replicas)


def told(function: Function, calls: float) -> LoadSample:
    """One second's sample of an edge."""
    return LoadSample(
        edge="edge",
        namespace=function.id.namespace,
        function=function.id.name,
        revision=function.newest.name,
        at=0.0,
        interval_s=1.0,
        concurrency=calls,
        arrivals=round(calls),
        in_flight=round(calls),
        queued=0,
    )


async def settled(scaler: Scaler, place: Place) -> None:
    for _ in range(4):
        await asyncio.sleep(0)
        events, place.events = place.events, []
        for event in events:
            scaler.apply(event)


async def second(scaler: Scaler, place: Place, clock: Clock, functions: list[Function], calls: float) -> float:
    """Let one second of load pass; returns the seconds of work."""
    samples = [told(function, calls) for function in functions]
    clock.now += 1.0
    began = time.perf_counter()
    for sample in samples:
        scaler.sample(sample)
    await settled(scaler, place)
    return time.perf_counter() - began


def yardstick(functions: list[Function]) -> float:
    """The same number of look-ups and structs."""
    table = {function.id: 0 for function in functions}
    began = time.perf_counter()
    for function in functions:
        sample = told(function, CALLS)
        table[FunctionId(sample.namespace, sample.function)] += sample.in_flight
    return time.perf_counter() - began


async def measure(count: int, share: float, rounds: int) -> tuple[float, float, float, float]:
    """Return seconds of one tick (median and worst), of the yardstick, and bytes an idle function holds."""
    clock, place = Clock(), Place()
    functions = [
        deploy(None, FunctionSpec(service=f"f{number}", image="x", labels=LABELS), "sha256:a", 0.0) for number in range(count)
    ]
    for function in functions:
        place.add(function)
    gc.collect()
    tracemalloc.start()
    async with Scaler(cast("Orchestrator", cast("Any", place)), clock, lambda: 1.7e9 + clock.now, limits=NO_LIMITS) as scaler:
        for function in functions:
            scaler.apply(FunctionChanged(function))
        await settled(scaler, place)
        await settled(scaler, place)
        await second(scaler, place, clock, functions, 1.0)
        await second(scaler, place, clock, functions, 0.0)
        clock.now += 70
        scaler.ring()
        await settled(scaler, place)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        active = functions[: round(count * share)]
        for _ in range(60):
            await second(scaler, place, clock, active, CALLS)
        ticks = [await second(scaler, place, clock, active, CALLS) for _ in range(rounds)]
        wrong = [f for f in active if place.counts[f.id] != NEED] + [
            f for f in functions[len(active) :] if place.counts[f.id] != 1
        ]
        assert not wrong, f"{len(wrong)} functions have not what they need, {wrong[0].id}: {place.counts[wrong[0].id]}"
    base = statistics.median(yardstick(active) for _ in range(rounds))
    return statistics.median(ticks), max(ticks), base, held / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--functions", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--active", type=float, default=0.1, help="which part has load")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print(f"{'functions':>10}{'active':>8}{'tick ms':>9}{'worst':>8}{'µs each':>9}{'÷ bare loop':>13}{'bytes idle':>12}")
    for count in options.functions:
        tick_s, worst_s, base_s, held = asyncio.run(measure(count, options.active, options.rounds))
        active = round(count * options.active)
        print(
            f"{count:>10,}{active:>8,}{tick_s * 1e3:>9.1f}{worst_s * 1e3:>8.1f}{tick_s / active * 1e6:>9.1f}"
            f"{tick_s / base_s:>13.0f}{held:>12,.0f}"
        )
    print("goals: 10,000 functions with 1,000 active: a tick ≤ 100 ms; an idle function ≤ 4,096 bytes; linear growth")


if __name__ == "__main__":
    main()
