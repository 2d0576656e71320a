"""Policies side by side: each meets the same calls, once for each seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Final

import msgspec

from autoscaler.simulator.engine import Engine
from autoscaler.simulator.measures import Figures, Measures, Timeline
from autoscaler.simulator.policy import Policy
from autoscaler.simulator.trace import Trace

FIGURES: Final = tuple(field.name for field in msgspec.structs.fields(Figures))


@dataclass(frozen=True)
class Result:
    """What one policy did: `runs` has the figures of each seed, `timeline` what happened when, summed over functions, first
    seed.
    """

    policy: Policy
    runs: tuple[Figures, ...]
    timeline: Timeline

    def mean(self, figure: str) -> float:
        """Return a figure's mean over the seeds."""
        return fmean(getattr(run, figure) for run in self.runs)

    def least(self, figure: str) -> float:
        """Return a figure's smallest value over the seeds."""
        return float(min(getattr(run, figure) for run in self.runs))

    def most(self, figure: str) -> float:
        """Return a figure's largest value over the seeds."""
        return float(max(getattr(run, figure) for run in self.runs))


@dataclass(frozen=True)
class Comparison:
    """Results in the order of the policies."""

    trace: Trace
    seeds: tuple[int, ...]
    results: tuple[Result, ...]


def compare(
    trace: Trace,
    policies: Sequence[Policy],
    seeds: Sequence[int],
    *,
    jobs: int = 1,
    progress: Callable[[float], object] = lambda share: None,
) -> Comparison:
    """Run every policy over every function with every seed. `progress` gets the share that is done, from 0 to 1.

    With `jobs` above 1 so many processes share the work; the figures are the same. Raises
    orchestration.settings.InvalidSetting.
    """
    for policy in policies:
        policy.settings()
    units = [(w, p, s) for w in range(len(trace.workloads)) for s in range(len(seeds)) for p in range(len(policies))]
    sums: dict[tuple[int, int], Measures] = {}
    for done, ((_, p, s), measures) in enumerate(zip(units, _run(trace, policies, seeds, units, jobs), strict=True), start=1):
        if (p, s) in sums:
            sums[p, s].merge(measures)
        else:
            sums[p, s] = measures
        progress(done / len(units))
    results = [
        Result(policy, tuple(sums[p, s].figures() for s in range(len(seeds))), sums[p, 0].timeline)
        for p, policy in enumerate(policies)
    ]
    return Comparison(trace, tuple(seeds), tuple(results))


Unit = tuple[int, int, int]
"""Which function, which policy, which seed."""


def _run(
    trace: Trace, policies: Sequence[Policy], seeds: Sequence[int], units: Sequence[Unit], jobs: int
) -> Iterator[Measures]:
    one = partial(_simulate, trace, tuple(policies), tuple(seeds))
    if jobs <= 1:
        yield from map(one, units)
        return
    with ProcessPoolExecutor(jobs, initializer=_begin, initargs=(one,)) as pool:
        yield from pool.map(_continue, units, chunksize=len(policies))


def _simulate(trace: Trace, policies: Sequence[Policy], seeds: Sequence[int], unit: Unit) -> Measures:
    workload, policy, seed = trace.workloads[unit[0]], policies[unit[1]], seeds[unit[2]]
    return Engine(workload, policy.controller(workload, trace), policy.model(), trace, seed).run()


_share: list[Callable[[Unit], Measures]] = []
"""What a helping process was given when it began; the trace goes to it once, not with each unit."""


def _begin(one: Callable[[Unit], Measures]) -> None:
    _share[:] = [one]


def _continue(unit: Unit) -> Measures:
    return _share[0](unit)
