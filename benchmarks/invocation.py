"""The way of a call, measured beside nginx and HAProxy over the same origin in the same run.

    python -m benchmarks.invocation [--rounds 9] [--seconds 1] [--rate 4000] [--quick | --function-only]

Direct, nginx, HAProxy and Pinnace's edge take turns within each round, each one process, wrk with one thread; ratios are
those within a round, their median and range over the rounds. Every answer is checked: wrk's errors, the bytes it got,
the origin's count of requests, and a probe of each target before and after. A round in which direct is below twice
nginx is dropped, as wrk or the origin, not the proxy, was then what limited it; where too few are left, ratios of
requests/s are marked and only CPU time says something.

CPU time of a proxy is user and system time of its process over the requests done. nginx and HAProxy pass requests on as
they are; Pinnace also gives each call an id, counts it by code and duration, integrates load, holds a concurrency limit.
`no head twice` sends each request, and gets each answer, with a header of its own: nothing can be remembered; a browser's
heads have 13 fields, a traceparent and a cookie of their own among them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.invocation_lab import Case, Lab, Run, Target, Wrong, lab
from benchmarks.invocation_rate import Latencies, at_rate
from tests.end_to_end.platform import running

CASES: Final = [
    Case("GET", "2b", 50),
    Case("GET", "2b", 1),
    Case("GET", "2b", 50, "fresh"),
    Case("GET", "2b", 50, "browser"),
    Case("GET", "10k", 50),
    Case("GET", "10k", 1),
    Case("GET", "1m", 50),
    Case("GET", "1m", 1),
    Case("POST", "2b", 50),
    Case("POST", "2b", 1),
    Case("POST", "10k", 50),
    Case("POST", "10k", 1),
    Case("POST", "1m", 50),
    Case("POST", "1m", 1),
]
QUICK: Final = CASES[:4]
HANDLER: Final = "def handle(event, context):\n    return {'statusCode': 200, 'body': 'ok'}\n"

Round = dict[str, Run]


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def verdict(met: bool) -> str:
    """How a goal is told."""
    return "met" if met else "MISSED"


def probes(targets: dict[str, Target], cases: list[Case]) -> None:
    """Ask each target for everything once. Raises Wrong."""
    for target in targets.values():
        for case in cases:
            target.probe(case)


def rounds(bench: Lab, cases: list[Case], count: int, seconds: float) -> dict[Case, list[Round]]:
    """Load every target with every case, `count` times; who comes first changes from round to round."""
    done: dict[Case, list[Round]] = {case: [] for case in cases}
    targets = list(bench.targets.values())
    for number in range(count):
        for case in cases:
            turn = targets[number % len(targets) :] + targets[: number % len(targets)]
            done[case].append({target.name: bench.load(target, case, seconds) for target in turn})
    return done


def counted(all_rounds: list[Round]) -> tuple[list[Round], int]:
    """Return the rounds that count, and how many have direct below twice nginx: these are dropped unless most are such."""
    valid = [r for r in all_rounds if r["direct"].rps >= 2 * r["nginx"].rps]
    return (valid if len(valid) * 2 > len(all_rounds) else all_rounds), len(all_rounds) - len(valid)


def table(case: Case, all_rounds: list[Round]) -> Iterator[str]:
    """Tell one case, a line for each target."""
    shown, dropped = counted(all_rounds)
    enough = len(shown) + dropped == len(all_rounds)
    note = f"; {dropped} of {len(all_rounds)} rounds have direct below twice nginx: " if dropped else ""
    if dropped:
        note += "dropped" if enough else "kept and marked *, as too few would be left"
    yield f"\n{case}{note}"
    mark = "" if enough else "*"
    for name in all_rounds[0]:
        runs = [r[name] for r in shown]
        rps, p50, p99, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
        line = f"  {name:8}{rps:>10,.0f}/s{p50:>9,.0f}{p99:>9,.0f}"
        if name != "direct":
            line += f"{cpu:>10.1f}{spread([r[name].rps / r['nginx'].rps for r in shown]) + mark:>20}"
            line += f"{spread([r[name].cpu_us / r['nginx'].cpu_us for r in shown]):>19}"
        yield line


def goals(done: dict[Case, list[Round]]) -> Iterator[str]:
    """Tell what was to be reached and what was: with heads that come again, and without."""
    for case in (CASES[0], CASES[2], CASES[3]):
        pairs, _ = counted(done[case])
        rps = statistics.median(r["Pinnace"].rps / r["nginx"].rps for r in pairs)
        cpu = statistics.median(r["Pinnace"].cpu_us / r["nginx"].cpu_us for r in pairs)
        yield f"{case} ({len(pairs)} pairs)"
        yield f"  CPU per request ≤ 1.6 x nginx's (stretch 1.2): {cpu:.2f} {verdict(cpu <= 1.6)}"
        yield f"  requests/s ≥ 0.6 x nginx's (stretch 0.75): {rps:.2f} {verdict(rps >= 0.6)}"
    added = statistics.median(r["Pinnace"].p50_us - r["direct"].p50_us for r in done[CASES[1]])
    yield f"added p50 at one connection ≤ 120 µs: {added:.0f} µs {verdict(added <= 120)}"


def fixed_rate(bench: Lab, rate: float, count: int, seconds: float) -> Iterator[str]:
    """Tell latencies below saturation."""
    yield f"\nGET 2 B at {rate:,.0f}/s, 50 connections, from when each call was due (µs; medians of {count} rounds)"
    yield f"  {'':8}{'p50':>9}{'p99':>9}{'p99.9':>9}   generator late at its p99"
    targets = list(bench.targets.values())
    took: dict[str, list[Latencies]] = {target.name: [] for target in targets}
    for _ in range(count):
        for target in targets:
            path = f"{target.prefix}/2b"
            took[target.name].append(at_rate(target.port, path, b"ok", rate=rate, seconds=seconds, connections=50))
    for name, rows in took.items():
        p50, p99, p999, late = (statistics.median(column) for column in zip(*rows, strict=True))
        yield f"  {name:8}{p50:>9,.0f}{p99:>9,.0f}{p999:>9,.0f}{late:>9,.0f}"


def runtime(bench: Lab, count: int, seconds: float) -> Iterator[str]:
    """Tell what a whole platform with a Python function does beside nginx over the static origin."""
    case = CASES[0]
    with tempfile.TemporaryDirectory(prefix="inv") as home, running(Path(home), "--no-auth") as platform:
        platform.deploy("echo", HANDLER, "--label", "com.openfaas.scale.min=1")
        assert platform.process is not None
        function = Target("function", platform.port, "/function/echo", platform.process.pid)
        function.probe(case)
        pairs = []
        for _ in range(count):
            ours = bench.load(function, case, seconds, at_origin=False)
            pairs.append((ours, bench.load(bench.targets["nginx"], case, seconds)))
        function.probe(case)
    ratio = statistics.median(ours.rps / theirs.rps for ours, theirs in pairs)
    yield "\nA trivial sync Python handler through `faas serve`, beside nginx over the static origin, 50 connections"
    yield (
        f"  function {statistics.median(ours.rps for ours, _ in pairs):,.0f}/s, "
        f"p50 {statistics.median(ours.p50_us for ours, _ in pairs):,.0f} µs, "
        f"p99 {statistics.median(ours.p99_us for ours, _ in pairs):,.0f} µs; "
        f"nginx {statistics.median(theirs.rps for _, theirs in pairs):,.0f}/s"
    )
    yield f"  ratio ≥ 0.3: {spread([ours.rps / theirs.rps for ours, theirs in pairs])} {verdict(ratio >= 0.3)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each run")
    parser.add_argument("--rate", type=float, default=4000.0, help="calls a second for latency below saturation")
    parser.add_argument("--quick", action="store_true", help="four cases, three rounds")
    parser.add_argument("--function-only", action="store_true", help="only a Python function through the whole platform")
    options = parser.parse_args()
    cases, count = (QUICK, 3) if options.quick else (CASES, options.rounds)
    with tempfile.TemporaryDirectory(prefix="inv") as folder, lab(Path(folder)) as bench:
        try:
            if options.function_only:
                print("\n".join(runtime(bench, options.rounds, 2 * options.seconds)))
                return
            probes(bench.targets, cases)
            done = rounds(bench, cases, count, options.seconds)
            heading = (
                f"  {'':8}{'requests':>12}{'p50 µs':>9}{'p99 µs':>9}{'CPU µs':>10}{'req/s ÷ nginx':>20}{'CPU ÷ nginx':>19}"
            )
            print(f"medians of {count} rounds of {options.seconds:g} s, ratios with their range\n{heading}")
            for case in cases:
                print("\n".join(table(case, done[case])))
            for line in fixed_rate(bench, options.rate, min(count, 5), 2 * options.seconds):
                print(line)
            for line in runtime(bench, count, 2 * options.seconds):
                print(line)
            probes(bench.targets, cases)
            print("\ngoals\n  " + "\n  ".join(goals(done)))
        except Wrong as error:
            print(f"nothing of this counts: {error}")


if __name__ == "__main__":
    main()
