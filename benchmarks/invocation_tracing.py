"""What tracing costs: one edge for each share of calls that is traced, over the same origin in the same run.

    python -m benchmarks.invocation_tracing [--rounds 9] [--seconds 1]

`off` has no collector. The others export to one that reads and counts (a process of its own, as it would be elsewhere), with
0, 5 and 100 % of the calls traced. They take turns within each round; ratios are to `off` of the same round. The exporting
process shares the machine with all others here, so requests/s hold its cost as well as the edge's; its CPU time is told for
each traced call. How many spans arrived is counted by the collector: three for each traced call, or they were dropped.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from benchmarks.invocation import spread, verdict
from benchmarks.invocation_lab import Case, Lab, Run, Target, Wrong, cpu_s, end, free_port, lab

CASE: Final = Case("GET", "2b", 50)
SHARES: Final = {"off": None, "0 %": 0.0, "5 %": 0.05, "100 %": 1.0}
GOALS: Final = {"0 %": 0.98, "5 %": 0.85}
"""Least requests/s beside `off`."""
SPANS_OF_A_CALL: Final = 3


class Collector(BaseHTTPRequestHandler):
    """Takes what is exported, and counts the spans for `GET /`."""

    protocol_version = "HTTP/1.1"
    spans = 0

    def do_POST(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        told = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        Collector.spans += sum(len(scope.spans) for resource in told.resource_spans for scope in resource.scope_spans)
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(b"%d" % Collector.spans)

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


class Traced:
    """An edge of which a share of the calls is traced, with its exporting process and its collector."""

    def __init__(self, stack: contextlib.ExitStack, name: str, folder: Path, share: float | None) -> None:
        command = [sys.executable, "-m", "benchmarks.invocation_edge", str(folder / "origin")]
        self._collector = 0
        if share is not None:
            self._collector = free_port()
            serving = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.invocation_tracing", "--collect", str(self._collector)]
            )
            stack.callback(end, serving)
            listening(self._collector)
            command += ["--otlp", f"http://127.0.0.1:{self._collector}", "--trace-ratio", str(share)]
        edge = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        stack.callback(end, edge)
        assert edge.stdout is not None
        self.target = Target(name, int(edge.stdout.readline()), "/function/echo", edge.pid)
        self.share = share
        self.exporter_us: list[float] = []
        self.arrived: list[float] = []

    def load(self, bench: Lab, seconds: float) -> Run:
        """Load it, and wait until its spans have arrived."""
        if self.share is None:
            return bench.load(self.target, CASE, seconds)
        exporter, spans = int(children(self.target.pid)[0]), self._spans()
        before = cpu_s(exporter)
        run = bench.load(self.target, CASE, seconds)
        arrived = self._settled(spans)
        traced = arrived / SPANS_OF_A_CALL
        if traced:
            self.exporter_us.append((cpu_s(exporter) - before) / traced * 1e6)
        if self.share:
            self.arrived.append(traced / (run.rps * seconds * self.share))
        return run

    def _settled(self, before: int) -> int:
        last, deadline = -1, time.monotonic() + 20
        while (now := self._spans() - before) != last and time.monotonic() < deadline:
            last = now
            time.sleep(1.2)
        return now

    def _spans(self) -> int:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._collector, timeout=10)) as connection:
            connection.request("GET", "/")
            return int(connection.getresponse().read())


def children(pid: int) -> list[str]:
    """The processes that a process has started, at least one."""
    deadline = time.monotonic() + 10
    while not (found := Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        if time.monotonic() > deadline:
            raise Wrong("there is no exporting process")
        time.sleep(0.05)
    return found


def listening(port: int) -> None:
    """Return when somebody listens on the port. Raises Wrong."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise Wrong("the collector does not listen")


def table(edges: dict[str, Traced], rounds: list[dict[str, Run]]) -> Iterator[str]:
    """Tell all shares, a line for each."""
    yield f"{'traced':8}{'requests/s':>12}{'÷ off':>18}{'edge CPU µs':>13}{'÷ off':>18}{'exporter µs':>13}{'arrived':>9}"
    for name, edge in edges.items():
        rps, cpu = (statistics.median(getattr(r[name], field) for r in rounds) for field in ("rps", "cpu_us"))
        line = f"{name:8}{rps:>12,.0f}{spread([r[name].rps / r['off'].rps for r in rounds]):>18}{cpu:>13.1f}"
        line += f"{spread([r[name].cpu_us / r['off'].cpu_us for r in rounds]):>18}"
        if edge.arrived:
            line += f"{statistics.median(edge.exporter_us):>13.0f}{statistics.median(edge.arrived):>9.2f}"
        yield line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each run")
    parser.add_argument("--collect", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.collect:
        os.nice(5)
        ThreadingHTTPServer(("127.0.0.1", options.collect), Collector).serve_forever()
    with tempfile.TemporaryDirectory(prefix="inv") as folder, lab(Path(folder)) as bench, contextlib.ExitStack() as stack:
        edges = {name: Traced(stack, name, Path(folder), share) for name, share in SHARES.items()}
        for edge in edges.values():
            edge.target.probe(CASE)
        names, rounds = list(edges), []
        for number in range(options.rounds):
            turn = names[number % len(names) :] + names[: number % len(names)]
            rounds.append({name: edges[name].load(bench, options.seconds) for name in turn})
        print("\n".join(table(edges, rounds)))
        for name, least in GOALS.items():
            cpu = statistics.median(r["off"].cpu_us / r[name].cpu_us for r in rounds)
            rps = statistics.median(r[name].rps / r["off"].rps for r in rounds)
            print(f"with {name} traced, of the requests without, at least {least}:")
            print(f"  an edge with a core to itself (by its CPU time): {cpu:.3f} {verdict(cpu >= least)}")
            print(f"  all on this machine: {rps:.3f} {verdict(rps >= least)}")


if __name__ == "__main__":
    main()
