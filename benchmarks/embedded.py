"""How long deploys take, and what 200 functions at zero cost, on a platform started for it.

    python -m benchmarks.embedded [--rounds 5] [--functions 200]

The yardstick for a deploy is what no Python platform can go below: starting a bare interpreter in a new virtual
environment (`python -I -c pass`) the three times that a deploy needs one (the command, the build, the replica). Every
deploy is proven by a call that must return the code of that round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.end_to_end.platform import Platform, running, until

HANDLER = "{imports}def handle(event, context):\n    return {answer!r}\n"


def timed(action: Callable[[], object]) -> float:
    """Return how many seconds `action` took."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def interpreter_s(rounds: int) -> float:
    """Median seconds of a bare start of this interpreter."""
    return statistics.median(
        timed(lambda: subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)) for _ in range(rounds)
    )


def deploy_s(platform: Platform, name: str, answer: str, imports: str = "", requirements: str = "") -> float:
    """Seconds of `faas deploy` from the command's start until it returned; the next call must give `answer`."""
    took = timed(lambda: platform.deploy(name, HANDLER.format(imports=imports, answer=answer), requirements=requirements))
    got = platform.call(name).text
    assert got == answer, f"{name} answers {got!r}, not {answer!r}: the deploy was not measured"
    return took


def rss_mib(pid: int) -> float:
    """Resident memory of one process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024


def descendants(pid: int) -> list[int]:
    """Ids of every process below `pid`."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--functions", type=int, default=200)
    options = parser.parse_args()
    rows: list[tuple[str, list[float], str]] = []
    with tempfile.TemporaryDirectory() as home, running(Path(home)) as platform:
        floor = 3 * interpreter_s(9)
        new = [deploy_s(platform, f"plain-{n}", f"plain {n}") for n in range(options.rounds)]
        rows.append(("deploy, no dependencies", new, "≤ 2 s"))
        again = [deploy_s(platform, "plain-0", f"again {n}") for n in range(options.rounds)]
        rows.append(("redeploy of changed code", again, "≤ 1 s"))
        first = [deploy_s(platform, "wants", "first", "import requests\n", "requests==2.32.5\n")]
        rows.append(("deploy with requests, first time", first, "≤ 15 s"))
        known = [
            deploy_s(platform, f"wants-{n}", "known", "import requests\n", "requests==2.32.5\n") for n in range(options.rounds)
        ]
        rows.append(("deploy with requests, layer known", known, "≤ 2 s"))

        print(f"bare interpreter, three starts: {floor * 1000:.0f} ms\n")
        print(f"{'':36}{'median':>9}{'min':>9}{'max':>9}{'x floor':>9}   goal")
        for name, times, goal in rows:
            middle = statistics.median(times)
            print(f"{name:36}{middle:>8.2f}s{min(times):>8.2f}s{max(times):>8.2f}s{middle / floor:>9.1f}   {goal}")

        assert platform.process is not None
        before = rss_mib(platform.process.pid)
        for name in (f"plain-{n}" for n in range(options.rounds)):
            platform.scale(name, 0)
        for n in range(options.rounds):
            platform.scale(f"wants-{n}", 0)
        platform.scale("wants", 0)
        spec = platform.details("plain-0")["spec"]
        present = 2 * options.rounds + 1
        for n in range(options.functions - present):
            body = {"service": f"zero-{n}", "image": spec["image"]}
            assert platform.request("POST", "/system/functions", json.dumps(body)).status == 202
            until(lambda n=n: platform.status(f"zero-{n}").get("availableReplicas"), within_s=60)  # type: ignore[misc]
            platform.scale(f"zero-{n}", 0)
        until(lambda: not any(f.get("replicas") for f in platform.request("GET", "/system/functions").json()))
        until(lambda: len(descendants(platform.process.pid)) <= 2, within_s=60)  # type: ignore[union-attr]
        listing = [timed(lambda: platform.request("GET", "/system/functions")) * 1000 for _ in range(21)]
        count = len(platform.request("GET", "/system/functions").json())
        others = {pid: rss_mib(pid) for pid in descendants(platform.process.pid)}
        after = rss_mib(platform.process.pid)
        print(f"\n{count} functions at zero: platform {after:.0f} MiB (was {before:.0f} with {present}); goal ≤ 150")
        print(f"  further processes: {', '.join(f'{mib:.0f} MiB' for mib in others.values()) or 'none'}")
        print(f"  list: median {statistics.median(listing):.1f} ms, max {max(listing):.1f} ms; goal ≤ 50")


if __name__ == "__main__":
    main()
