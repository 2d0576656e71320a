"""Asynchronous calls over HTTP: what a submission costs, and one that is also carried out, on a real embedded platform.

    python -m benchmarks.asynchronous_http [--rounds 3] [--seconds 4] [--connections 50]

In each round, one after the other, wrk sends the same POST of 256 bytes:

    nginx      to an nginx that answers 202 at once: the floor of any server
    called     to `/function/NAME`: a synchronous call through the same edge, to a handler that echoes
    accepted   to `/async-function/NAME` with a delay of an hour: calls that are kept and not carried out
    done       to `/async-function/NAME`, until the last of the accepted calls has ended

Rates are calls a second; of `done`, until the last one has ended. CPU is per call, of the platform's process (its event loop
apart from its other threads, which are the store's) and of the function's. Ratios are medians over the rounds of what a call
costs beside a synchronous one of the same round. At the end every accepted call must be listed, ended once, at its first
attempt, and the function must have been called as often. Needs nginx-light and wrk.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.invocation_lab import Wrong, cpu_s, free_port, only_child, start
from tests.end_to_end.platform import Platform, running, until

BODY_BYTES: Final = 256
HANDLER: Final = "def handle(event, context):\n    return event.body\n"
LATER: Final = 'wrk.headers["X-Delay-Seconds"] = "3600"'
SCRIPT: Final = """
wrk.method = "POST"; wrk.body = string.rep("b", {size}); wrk.headers["Content-Type"] = "application/json"
{more}
function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format("\\nreport {{\\"requests\\": %d, \\"us\\": %d, \\"p50\\": %d, \\"errors\\": %d}}\\n",
        summary.requests, summary.duration, latency:percentile(50), e.connect + e.read + e.write + e.status + e.timeout))
end
"""
NGINX: Final = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000;
    server {{ listen 127.0.0.1:{port}; location / {{ return 202; }} }}
}}
"""
PAGE: Final = 1000
DRAINED_WITHIN_S: Final = 120.0


class Cpu(NamedTuple):
    """Seconds of CPU: of the platform's event loop, of its other threads, of the function's process."""

    loop: float
    threads: float
    function: float

    def since(self, earlier: Cpu) -> Cpu:
        return Cpu(*(now - then for now, then in zip(self, earlier, strict=True)))

    def us_each(self, calls: int) -> Cpu:
        return Cpu(*(seconds / calls * 1e6 for seconds in self))


class Run(NamedTuple):
    """`cpu` is microseconds a call; `p50_us` until a submission was answered."""

    calls: int
    rate: float
    p50_us: float
    cpu: Cpu

    @property
    def cpu_us(self) -> float:
        return sum(self.cpu)


class Rig:
    """A platform with a function for each way of calling it, and the floor beside it."""

    def __init__(self, folder: Path, platform: Platform, floor_port: int, floor_pid: int, connections: int) -> None:
        self.folder, self.platform = folder, platform
        self.floor_port, self.floor_pid = floor_port, floor_pid
        self.connections = connections
        for name in ("called", "accepted", "done"):
            platform.deploy(name, HANDLER)
            assert platform.call(name, b"x").body == b"x"
        self.called_before = {name: platform.details(name)["invocationCount"] for name in ("accepted", "done")}
        self.pids = {name: platform.pids(name)[0] for name in ("called", "accepted", "done")}

    def used(self, name: str) -> Cpu:
        """Return what was used until now, of the processes that calls of this kind pass."""
        if name == "nginx":
            return Cpu(cpu_s(self.floor_pid), 0.0, 0.0)
        assert self.platform.process is not None
        pid = self.platform.process.pid
        whole, loop = cpu_s(pid), cpu_s(pid, thread=pid)
        return Cpu(loop, whole - loop, cpu_s(self.pids[name]))

    def load(self, name: str, seconds: float) -> Run:
        """Let wrk send calls of a kind, and wait until those that are to end have."""
        path = {"nginx": "/", "called": "/function/called"}.get(name, f"/async-function/{name}")
        port = self.floor_port if name == "nginx" else self.platform.port
        before, began = self.used(name), time.perf_counter()
        report = self._wrk(f"http://127.0.0.1:{port}{path}", LATER if name == "accepted" else "", seconds)
        took = report["us"] / 1e6
        if name == "done":
            until(lambda: not any(row["waiting"] or row["running"] for row in self.depth(name)), DRAINED_WITHIN_S)
            took = time.perf_counter() - began
        calls = report["requests"]
        return Run(calls, calls / took, report["p50"], self.used(name).since(before).us_each(calls))

    def depth(self, name: str) -> list[dict[str, Any]]:
        return [row for row in self.platform.request("GET", "/api/v1/async/queues").json() if row["name"] == name]

    def _wrk(self, url: str, more: str, seconds: float) -> dict[str, int]:
        script = self.folder / "post.lua"
        script.write_text(SCRIPT.format(size=BODY_BYTES, more=more))
        command = ["wrk", "-t1", f"-c{self.connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s", str(script)]
        out = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
        line = next((line for line in out.splitlines() if line.startswith("report ")), "")
        report: dict[str, int] = json.loads(line.removeprefix("report ") or "{}")
        if not report or report["errors"] or not report["requests"]:
            raise Wrong(f"{url}: {out}")
        return report

    def check(self, runs: dict[str, list[Run]]) -> None:
        """Raise Wrong unless every accepted call is there and did what it was to do, once."""
        spare = self.connections * len(runs["done"])  # what was under way when wrk left
        for name, states in (("accepted", {"waiting": 0}), ("done", {"succeeded": 1})):
            wanted = sum(run.calls for run in runs[name])
            seen: set[str] = set()
            for call in self._listed(name):
                if states.get(call["state"]) != call["attempts"] or call["id"] in seen:
                    raise Wrong(f"{name}: {call}")
                seen.add(call["id"])
            if not wanted <= len(seen) <= wanted + spare:
                raise Wrong(f"{name}: {wanted} calls were accepted, {len(seen)} are listed")
            ran = self.platform.details(name)["invocationCount"] - self.called_before[name]
            if ran != (len(seen) if name == "done" else 0):
                raise Wrong(f"{name}: {len(seen)} calls are listed, and the function was called {ran} times")

    def _listed(self, name: str) -> Iterator[dict[str, Any]]:
        before = ""
        while True:
            query = f"name={name}&limit={PAGE}" + (f"&before={before}" if before else "")
            page = self.platform.request("GET", f"/api/v1/async/calls?{query}").json()
            yield from page["calls"]
            if not (before := page["next"]):
                return


@contextlib.contextmanager
def rig(connections: int) -> Iterator[Rig]:
    """Start everything."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)  # nginx's worker may be another user
        port = free_port()
        config = folder / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, port=port))
        command = ["nginx", "-e", f"{folder}/nginx.log", "-p", str(folder), "-c", str(config)]
        floor = only_child(start(stack, command, port))
        yield Rig(folder, stack.enter_context(running(folder)), port, floor, connections)


def told(runs: dict[str, list[Run]]) -> Iterator[str]:
    """Yield the lines of the report."""

    def middle(name: str, figure: Callable[[Run], float]) -> float:
        return statistics.median(map(figure, runs[name]))

    yield f"{'':10}{'calls/s':>10}{'p50 ms':>9}{'CPU µs a call':>16}{'loop':>8}{'threads':>9}{'function':>10}{'x called':>10}"
    for name in runs:
        pairs = zip(runs[name], runs["called"], strict=True)
        ratio = statistics.median(run.cpu_us / beside.cpu_us for run, beside in pairs)
        parts = [middle(name, lambda run, part=part: run.cpu[part]) for part in range(3)]  # type: ignore[misc]
        yield (
            f"{name:10}{middle(name, lambda run: run.rate):>10,.0f}{middle(name, lambda run: run.p50_us / 1000):>9.2f}"
            f"{middle(name, lambda run: run.cpu_us):>16.1f}{parts[0]:>8.1f}{parts[1]:>9.1f}{parts[2]:>10.1f}{ratio:>10.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--connections", type=int, default=50)
    options = parser.parse_args()
    with rig(options.connections) as lab:
        kinds = ("nginx", "called", "accepted", "done")
        runs = {name: [lab.load(name, 1)] for name in kinds}  # whatever is made once is made
        for _ in range(options.rounds):
            for name in kinds:
                runs[name].append(lab.load(name, options.seconds))
        lab.check(runs)
        print("\n".join(told({name: measured for name, (_, *measured) in runs.items()})))
        print("every accepted call is listed; those to be carried out ended once, at their first attempt")


if __name__ == "__main__":
    main()
