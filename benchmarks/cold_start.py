"""How long a call takes that finds its function at zero, and what being ready for it costs.

    python -m benchmarks.cold_start calls [--level none stem zygote] [--handler empty …] [--calls 200]
    python -m benchmarks.cold_start burst [--functions 50]        that many functions at zero are called at once
    python -m benchmarks.cold_start churn [--starts 1000]         starts in a row, three times, and what they leave behind
    python -m benchmarks.cold_start density [--replicas 500]      memory of that many warm replicas of one function
    python -m benchmarks.cold_start zero [--functions 1000]       memory of that many functions at zero, no zygotes kept
    python -m benchmarks.cold_start --quick                       all of them small, in less than two minutes

Levels: `none` (label com.pinnace.zygote=false: fork and exec), `stem` (`--zygote-memory-percent 0`: a fork of the
dependency set's process, which then imports the handler), `zygote` (a fork of the revision's). Before each call zero is
proven from /proc: below the keeper there are only stems and zygotes, and nobody listens on a socket of a function. Every
other call is the first that its function ever gets. The clock runs from the first byte of the request to the last of the
response, on a new connection. A handler answers how long its own import took, wherever it was imported.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.cold_start_lab import (
    below,
    call_s,
    children,
    cpu_s,
    deploy_image,
    descriptors,
    image_of,
    keeper,
    percentile,
    percentiles,
    processes,
    prove_zero,
    pss_kib,
    remove,
    uss_kib,
    verdict,
    waiting_memory,
)
from tests.end_to_end.platform import Platform, running, until

_TIMED = "import time\nbegan = time.perf_counter()\n{imports}\nTOOK = str(time.perf_counter() - began)\n\n{answer}"
_HANDLE = "def handle(event, context):\n    return TOOK\n"
_APP = "@app.post('/')\ndef answer():\n    return Response(TOOK)\n"


class Handler(NamedTuple):
    source: str
    requirements: str = ""
    lang: str = "python3-http"


HANDLERS = {
    "empty": Handler(_TIMED.format(imports="", answer=_HANDLE)),
    "pydantic": Handler(_TIMED.format(imports="import pydantic, requests", answer=_HANDLE), "requests\npydantic\n"),
    "fastapi": Handler(
        _TIMED.format(imports="from fastapi import FastAPI, Response\napp = FastAPI()", answer=_APP),
        "fastapi\n",
        "python3-asgi",
    ),
    "numpy": Handler(_TIMED.format(imports="import numpy", answer=_HANDLE), "numpy\n"),
}
LEVELS = {"none": (), "stem": ("--zygote-memory-percent", "0"), "zygote": ()}
UNTOUCHED = {"com.pinnace.zygote": "false"}
GOALS_MS = {("zygote", "empty"): {0.5: 10, 0.99: 30}, ("zygote", "fastapi"): {0.5: 25}}
STEM_BEYOND_IMPORT_MS = 50
GREW_AT_MOST_KIB = 512
CHURNED = 4
AT_ONCE = 10


@contextlib.contextmanager
def platform_of(level: str, home: Path | None = None) -> Iterator[Platform]:
    with contextlib.ExitStack() as stack:
        folder = home or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield stack.enter_context(running(folder, *LEVELS[level]))


# Calls that find zero.


def calls(options: argparse.Namespace) -> None:
    print(f"{'ms':22}{'p50':>9}{'p95':>9}{'p99':>9}{'import':>9}   waits in memory; goals")
    yardsticks()
    with tempfile.TemporaryDirectory() as home:
        with platform_of("none", Path(home)) as platform:
            images = {}
            for handler in options.handler:
                wanted = HANDLERS[handler]
                platform.deploy(handler, wanted.source, requirements=wanted.requirements, lang=wanted.lang)
                images[handler] = image_of(platform, handler)
                remove(platform, handler)
        for level in options.level:
            with platform_of(level, Path(home)) as platform:
                for handler, image in images.items():
                    found, imports, memory = cold_calls(platform, image, UNTOUCHED if level == "none" else {}, options.calls)
                    import_ms = 1000 * statistics.median(imports)
                    goals = _goals(level, handler, found, imports)
                    print(f"{level + ', ' + handler:22}{percentiles(found)}{import_ms:9.1f}   {memory}{goals}", flush=True)


def _goals(level: str, handler: str, found: list[float], imports: list[float]) -> str:
    said = []
    for part, most_ms in GOALS_MS.get((level, handler), {}).items():
        said.append(f"p{100 * part:.0f} ≤ {most_ms}: {verdict(met=1000 * percentile(found, part) <= most_ms)}")
    if level == "stem":
        beyond_ms = 1000 * statistics.median(took - imported for took, imported in zip(found, imports, strict=True))
        met = verdict(met=beyond_ms <= STEM_BEYOND_IMPORT_MS)
        said.append(f"p50 beyond the import, {beyond_ms:.1f}, ≤ {STEM_BEYOND_IMPORT_MS}: {met}")
    return "; " + ", ".join(said) if said else ""


def yardsticks() -> None:
    def interpreter() -> None:
        subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    for name, action in (("python -I -c pass", interpreter), ("a bare fork", fork)):
        print(f"{name:22}{percentiles([timed(action) for _ in range(100)])}", flush=True)


def timed(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def cold_calls(platform: Platform, image: str, labels: dict[str, str], count: int) -> tuple[list[float], list[float], str]:
    """Return what each call took and what the import in its process, or in its zygote, took (s); what waited in memory."""
    chance = random.Random(1)
    above = keeper(platform)
    deploy_image(platform, "again", image, labels)
    found: list[tuple[float, float]] = []
    memory = ""
    for number in range(count):
        name = "again"
        if number % 2:
            name = f"first-{number}"
            deploy_image(platform, name, image, labels)
        prove_zero(platform, above)
        time.sleep(chance.uniform(0.02, 0.3))
        prove_zero(platform, above)
        took, imported = call_s(platform, name)
        found.append((took, float(imported)))
        memory = waiting_memory(above)
        platform.scale(name, 0)
        if number % 2:
            prove_zero(platform, above)
            remove(platform, name)
    remove(platform, "again")
    prove_zero(platform, above)
    return [took for took, _ in found], [imported for _, imported in found], memory


def burst(options: argparse.Namespace) -> None:
    with platform_of("zygote") as platform:
        above = keeper(platform)
        platform.deploy("burst-0", HANDLERS["empty"].source)
        image = image_of(platform, "burst-0")
        platform.scale("burst-0", 0)
        names = ["burst-0", *(f"burst-{n}" for n in range(1, options.functions))]
        for name in names[1:]:
            deploy_image(platform, name, image, {})
        for _ in range(options.rounds):
            prove_zero(platform, above)
            with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
                times = [took for took, _ in pool.map(lambda name: call_s(platform, name), names)]
            met = verdict(met=percentile(times, 0.99) <= 0.5)
            print(
                f"{len(names)} functions at zero at once: p50, p95, p99 ms {percentiles(times)}   p99 ≤ 500: {met}", flush=True
            )
            for name in names:
                platform.scale(name, 0)


# Many starts.


def churn(options: argparse.Namespace) -> None:
    """Four functions at the same time, up by ten and down to zero, again and again; three times as many starts as asked for.

    Before that come `warm` ones: what is remembered of the last 1,024 starts grows until there were so many.
    """
    with platform_of("zygote") as platform:
        above = keeper(platform)
        names = [f"churn-{n}" for n in range(CHURNED)]
        platform.deploy(names[0], HANDLERS["empty"].source)
        image = image_of(platform, names[0])
        platform.scale(names[0], 0)
        for name in names[1:]:
            deploy_image(platform, name, image, {})
        zygotes = {name: _zygote(platform, above, name) for name in names}

        def up_and_down(name: str, times: int) -> None:
            for _ in range(times):
                platform.scale(name, AT_ONCE)
                # The processes are counted without asking the platform, whose CPU that would take.
                until(lambda: len(children(zygotes[name])) == AT_ONCE, every_s=0.005)
                until(lambda: platform.status(name).get("availableReplicas") == AT_ONCE, every_s=0.02)
                platform.scale(name, 0)
                until(lambda: not children(zygotes[name]), every_s=0.005)

        def starts(count: int) -> None:
            with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
                list(pool.map(up_and_down, names, [count // AT_ONCE // len(names)] * len(names)))

        starts(options.warm)
        held = [_held(platform, above)]
        for _ in range(3):
            spent = {pid: cpu_s(pid) for pid in processes(platform, above)}
            took = timed(lambda: starts(options.starts))
            held.append(_held(platform, above))
            rate = options.starts / took
            print(f"{options.starts} starts in {took:.1f} s: {rate:.0f}/s   ≥ 150: {verdict(met=rate >= 150)}")
            cpu: dict[str, float] = {}
            for pid, what in processes(platform, above).items():
                cpu[what] = cpu.get(what, 0.0) + 1000 * (cpu_s(pid) - spent[pid]) / options.starts
            parts = ", ".join(f"{what} {ms:.1f}" for what, ms in cpu.items())
            print(f"  CPU of a start and a stop, ms: {sum(cpu.values()):.1f} ({parts}; forks with their zygote)", flush=True)
        for what in held[0]:
            print(f"  {what:22}" + "".join(f"{each[what]:>9}" for each in held))
        same = all(held[0][what] == held[-1][what] for what in ("processes", "descriptors"))
        grew = held[-1]["PSS KiB, all"] - held[-2]["PSS KiB, all"]
        print(f"  no process, no descriptor more: {verdict(met=same)}; memory in the last third {grew:+} KiB, "
              f"≤ {GREW_AT_MOST_KIB}: {verdict(met=grew <= GREW_AT_MOST_KIB)}")  # fmt: skip


def _zygote(platform: Platform, above: int, name: str) -> int:
    """The zygote of a function: what forks its replica."""
    platform.scale(name, 1)
    until(lambda: platform.status(name).get("availableReplicas") == 1)
    (replica,) = platform.pids(name)
    (found,) = [pid for pid in below(above) if replica in children(pid)]
    platform.scale(name, 0)
    return found


def _held(platform: Platform, above: int) -> dict[str, int]:
    prove_zero(platform, above)
    time.sleep(2)  # what was freed late, connections among it
    found = processes(platform, above)
    memory: dict[str, int] = {}
    for pid, what in found.items():
        memory[f"PSS KiB, {what}"] = memory.get(f"PSS KiB, {what}", 0) + pss_kib(pid)
    return {
        "processes": len(found),
        "descriptors": sum(map(descriptors, found)),
        **memory,
        "PSS KiB, all": sum(memory.values()),
    }


# Memory.


def density(options: argparse.Namespace) -> None:
    with platform_of("zygote") as platform:
        above = keeper(platform)
        platform.deploy("dense", HANDLERS["empty"].source, "--label", "com.openfaas.scale.max=1000")
        platform.scale("dense", options.replicas)
        until(lambda: platform.status("dense").get("availableReplicas") == options.replicas, within_s=120)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: call_s(platform, "dense"), range(10 * options.replicas)))
        unique = [uss_kib(pid) / 1024 for pid in platform.pids("dense")]
        print(f"{len(unique)} warm replicas, unique memory each: median {statistics.median(unique):.2f} MiB, max "
              f"{max(unique):.2f}   ≤ 4: {verdict(met=max(unique) <= 4)}; {waiting_memory(above)}")  # fmt: skip


def zero(options: argparse.Namespace) -> None:
    with platform_of("stem") as platform:
        above = keeper(platform)
        platform.deploy("zero-0", HANDLERS["empty"].source)
        image = image_of(platform, "zero-0")
        platform.scale("zero-0", 0)
        for number in range(1, options.functions):
            deploy_image(platform, f"zero-{number}", image, {})
        prove_zero(platform, above)
        found = processes(platform, above)
        mib = sum(map(pss_kib, found)) / 1024
        met = verdict(met=mib <= 200)
        print(f"{options.functions} functions at zero: {mib:.0f} MiB PSS in {len(found)} processes   ≤ 200: {met}")
        print("  " + ", ".join(f"{what} {pss_kib(pid) / 1024:.0f} MiB" for pid, what in found.items()))


COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], None], dict[str, int], dict[str, int]]] = {
    # what it runs, its sizes, its sizes when quick
    "calls": (calls, {"calls": 200}, {"calls": 4}),
    "burst": (burst, {"functions": 50, "rounds": 3}, {"functions": 20, "rounds": 1}),
    "churn": (churn, {"starts": 1000, "warm": 1200}, {"starts": 400, "warm": 1200}),
    "density": (density, {"replicas": 500}, {"replicas": 50}),
    "zero": (zero, {"functions": 1000}, {"functions": 20}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="all of them, small")
    what = parser.add_subparsers(dest="command")
    for name, (_, sizes, _) in COMMANDS.items():
        one = what.add_parser(name)
        for size, default in sizes.items():
            one.add_argument(f"--{size}", type=int, default=default)
        if name == "calls":
            one.add_argument("--level", nargs="+", choices=list(LEVELS), default=list(LEVELS))
            one.add_argument("--handler", nargs="+", choices=list(HANDLERS), default=list(HANDLERS))
    options = parser.parse_args()
    if options.command:
        COMMANDS[options.command][0](options)
    elif options.quick:
        for run, _, sizes in COMMANDS.values():
            run(argparse.Namespace(level=list(LEVELS), handler=list(HANDLERS), **sizes))
    else:
        parser.error("say what to measure, or --quick")


if __name__ == "__main__":
    main()
