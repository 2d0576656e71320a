"""How long a call takes that finds its function at zero, and what being ready for it costs.

    python -m benchmarks.cold_start calls [--level none stem zygote] [--handler empty …] [--calls 200]
    python -m benchmarks.cold_start burst [--functions 50]        that many functions at zero are called at once
    python -m benchmarks.cold_start churn [--starts 1000]         starts in a row, and what they leave behind
    python -m benchmarks.cold_start density [--replicas 500]      memory of that many warm replicas of one function
    python -m benchmarks.cold_start zero [--functions 1000]       memory of that many functions at zero, no zygotes kept

Levels: `none` (label com.pinnace.zygote=false: fork and exec), `stem` (`--zygote-memory-percent 0`: a fork of the
dependency set's process, which then imports the handler), `zygote` (a fork of the revision's). Before each call zero is
proven from /proc: below the keeper there are only stems and zygotes, and nobody listens on a socket of a function. Every
other call is the first that its function ever gets. The clock runs from the first byte of the request to the last of the
response, on a new connection.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import http.client
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.end_to_end.platform import Platform, running, until


class Handler(NamedTuple):
    source: str
    requirements: str = ""
    lang: str = "python3-http"


HANDLERS = {
    "empty": Handler("def handle(event, context):\n    return 'ok'\n"),
    "pydantic": Handler(
        "import pydantic\nimport requests\n\ndef handle(event, context):\n    return 'ok'\n", "requests\npydantic\n"
    ),
    "fastapi": Handler(
        "from fastapi import FastAPI\napp = FastAPI()\n\n@app.post('/')\ndef answer():\n    return 'ok'\n",
        "fastapi\n",
        "python3-asgi",
    ),
    "numpy": Handler("import numpy\n\ndef handle(event, context):\n    return str(numpy.arange(3).sum())\n", "numpy\n"),
}
LEVELS = {"none": (), "stem": ("--zygote-memory-percent", "0"), "zygote": ()}
WAITING = {"keeper", "stem", "zygote"}


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def below(pid: int) -> list[int]:
    """Every process below `pid`."""
    found = []
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    for child in map(int, children):
        found += [child, *below(child)]
    return found


def keeper(platform: Platform) -> int:
    """The platform's keeper: its child that is no build worker, and ends with it."""
    assert platform.process is not None
    (found,) = [
        pid
        for pid in below(platform.process.pid)
        if b"orchestration.local.keeper.main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return found


def pss_kib(pid: int, field: str = "Pss:") -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(field))


def uss_kib(pid: int) -> int:
    return pss_kib(pid, "Private_Clean:") + pss_kib(pid, "Private_Dirty:")


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def listeners(platform: Platform) -> list[str]:
    """The Unix sockets on which replicas listen: named by a number, in the platform's folder."""
    with contextlib.closing(sqlite3.connect(platform.data / "state.db")) as database:
        (instance,) = database.execute("SELECT value FROM facts WHERE name = 'instance'").fetchone()
    found = []
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        name = fields[7] if len(fields) > 7 else ""
        if (
            fields[3] == "00010000"
            and f"/pinnace-{instance}/" in name
            and all(c in "0123456789abcdef" for c in Path(name).stem)
        ):
            found.append(name)
    return found


def prove_zero(platform: Platform, above: int) -> None:
    """Wait until nothing is left of any replica; raises AssertionError when that does not come about."""
    until(lambda: all(comm(pid) in WAITING for pid in below(above)), within_s=30, every_s=0.01)
    until(lambda: not listeners(platform), within_s=30, every_s=0.01)


def call_s(platform: Platform, name: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=60)
    connection.connect()
    began = time.perf_counter()
    connection.request("POST", f"/function/{name}", b"x")
    response = connection.getresponse()
    body = response.read()
    took = time.perf_counter() - began
    connection.close()
    assert response.status == 200, (response.status, body)
    return took


def deploy_image(platform: Platform, name: str, image: str, labels: dict[str, str]) -> None:
    """Deploy an image under another name, and let it go to zero once it was ready; it is never called."""
    body = {"service": name, "image": image, "labels": {"com.openfaas.scale.zero": "true", **labels}}
    assert platform.request("POST", "/system/functions", json.dumps(body)).status == 202
    until(lambda: platform.status(name).get("availableReplicas"), within_s=60)
    platform.scale(name, 0)


def image_of(platform: Platform, name: str) -> str:
    return str(platform.details(name)["spec"]["image"])


def percentiles(times: list[float]) -> str:
    ordered = sorted(time * 1000 for time in times)
    at = [ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.95, 0.99)]
    return "".join(f"{value:9.1f}" for value in at)


@contextlib.contextmanager
def platform_of(level: str) -> Iterator[Platform]:
    with tempfile.TemporaryDirectory() as home, running(Path(home), *LEVELS[level]) as platform:
        yield platform


def calls(options: argparse.Namespace) -> None:
    print(f"{'ms':32}{'p50':>9}{'p95':>9}{'p99':>9}   waits in memory")
    yardsticks()
    for level in options.level:
        for handler in options.handler:
            times, memory = cold_calls(level, HANDLERS[handler], options.calls)
            print(f"{level + ', ' + handler:32}{percentiles(times)}   {memory}", flush=True)


def yardsticks() -> None:
    def interpreter() -> None:
        subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    for name, action in (("python -I -c pass", interpreter), ("a bare fork", fork)):
        print(f"{name:32}{percentiles([timed(action) for _ in range(100)])}", flush=True)


def timed(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def cold_calls(level: str, handler: Handler, count: int) -> tuple[list[float], str]:
    labels = {"com.pinnace.zygote": "false"} if level == "none" else {}
    flags = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
    chance = random.Random(1)
    with platform_of(level) as platform:
        above = keeper(platform)
        platform.deploy("again", handler.source, *flags, requirements=handler.requirements, lang=handler.lang)
        platform.scale("again", 0)
        image = image_of(platform, "again")
        times = []
        memory = ""
        for number in range(count):
            name = "again"
            if number % 2:
                name = f"first-{number}"
                deploy_image(platform, name, image, labels)
            prove_zero(platform, above)
            time.sleep(chance.uniform(0.02, 0.3))
            prove_zero(platform, above)
            times.append(call_s(platform, name))
            memory = waiting_memory(above)
            platform.scale(name, 0)
            if number % 2:
                prove_zero(platform, above)
                assert platform.request("DELETE", "/system/functions", json.dumps({"functionName": name})).status == 202
    return times, memory


def waiting_memory(above: int) -> str:
    """PSS of what waits to be forked."""
    waiting = [(comm(pid), pss_kib(pid) / 1024) for pid in below(above) if comm(pid) in ("stem", "zygote")]
    return ", ".join(f"{name} {mib:.1f} MiB" for name, mib in waiting[:4]) + (
        f" and {len(waiting) - 4} more" * (len(waiting) > 4)
    )


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
                times = list(pool.map(lambda name: call_s(platform, name), names))
            print(f"{len(names)} functions at zero at once: p50, p95, p99 ms {percentiles(times)}   goal p99 ≤ 500", flush=True)
            for name in names:
                platform.scale(name, 0)


def churn(options: argparse.Namespace) -> None:
    with platform_of("zygote") as platform:
        assert platform.process is not None
        above = keeper(platform)
        names = [f"churn-{n}" for n in range(4)]
        platform.deploy(names[0], HANDLERS["empty"].source)
        image = image_of(platform, names[0])
        platform.scale(names[0], 0)
        for name in names[1:]:
            deploy_image(platform, name, image, {})

        def up_and_down(name: str, times: int) -> None:
            for _ in range(times):
                platform.scale(name, 10)
                until(lambda: platform.status(name).get("availableReplicas") == 10, every_s=0.02)
                platform.scale(name, 0)

        def starts(count: int) -> None:
            """All functions at the same time, up by 10 and down to zero."""
            with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
                list(pool.map(up_and_down, names, [count // 10 // len(names)] * len(names)))

        def held() -> dict[str, int]:
            prove_zero(platform, above)
            pids = [platform.process.pid, above, *below(above)]  # type: ignore[union-attr]
            return {
                "processes": len(pids),
                "descriptors": sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
                "PSS KiB": sum(pss_kib(pid) for pid in pids),
            }

        def spent() -> dict[str, float]:
            found: dict[str, float] = {"platform": cpu_s(platform.process.pid), "keeper": cpu_s(above)}  # type: ignore[union-attr]
            for pid in below(above):
                found[f"{comm(pid)}s and their forks"] = found.get(f"{comm(pid)}s and their forks", 0.0) + cpu_s(pid)
            return found

        starts(options.starts // 5)
        before, spent_before = held(), spent()
        took = timed(lambda: starts(options.starts))
        after, spent_after = held(), spent()
        print(f"{options.starts} starts in {took:.1f} s: {options.starts / took:.0f}/s   goal ≥ 150")
        cpu = {who: 1000 * (seconds - spent_before[who]) / options.starts for who, seconds in spent_after.items()}
        print(
            f"  CPU of a start and a stop: {sum(cpu.values()):.1f} ms ({', '.join(f'{w} {ms:.1f}' for w, ms in cpu.items())})"
        )
        for what, count in before.items():
            print(f"  {what}: {count} before, {after[what]} after")


def density(options: argparse.Namespace) -> None:
    with platform_of("zygote") as platform:
        above = keeper(platform)
        platform.deploy("dense", HANDLERS["empty"].source, "--label", "com.openfaas.scale.max=1000")
        platform.scale("dense", options.replicas)
        until(lambda: platform.status("dense").get("availableReplicas") == options.replicas, within_s=120)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: call_s(platform, "dense"), range(10 * options.replicas)))
        replicas = platform.pids("dense")
        unique = [uss_kib(pid) / 1024 for pid in replicas]
        print(f"{len(replicas)} warm replicas, unique memory each: median {statistics.median(unique):.2f} MiB, "
              f"max {max(unique):.2f} MiB   goal ≤ 4; {waiting_memory(above)}")  # fmt: skip


def zero(options: argparse.Namespace) -> None:
    with platform_of("stem") as platform:
        assert platform.process is not None
        above = keeper(platform)
        platform.deploy("zero-0", HANDLERS["empty"].source)
        image = image_of(platform, "zero-0")
        platform.scale("zero-0", 0)
        for number in range(1, options.functions):
            deploy_image(platform, f"zero-{number}", image, {})
        prove_zero(platform, above)
        mib = {pid: pss_kib(pid) / 1024 for pid in (platform.process.pid, above, *below(above))}
        print(f"{options.functions} functions at zero: {sum(mib.values()):.0f} MiB PSS in {len(mib)} processes   goal ≤ 200")
        print(f"  platform {mib[platform.process.pid]:.0f} MiB, keeper {mib[above]:.0f} MiB, {waiting_memory(above)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(required=True)
    for run, arguments in (
        (calls, {"calls": 200}),
        (burst, {"functions": 50, "rounds": 3}),
        (churn, {"starts": 1000}),
        (density, {"replicas": 500}),
        (zero, {"functions": 1000}),
    ):
        one = what.add_parser(run.__name__)
        one.set_defaults(run=run)
        for name, default in arguments.items():
            one.add_argument(f"--{name}", type=int, default=default)
        if run is calls:
            one.add_argument("--level", nargs="+", choices=list(LEVELS), default=list(LEVELS))
            one.add_argument("--handler", nargs="+", choices=list(HANDLERS), default=list(HANDLERS))
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
