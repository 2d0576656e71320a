"""Pinnace's edge alone in a process, with one function whose replica is the Unix socket given. Prints its port.

    python -m benchmarks.invocation_edge SOCKET [--limit 1000] [--at-zero] [--otlp URL --trace-ratio 0.05]

What a call meets is what it meets in `faas serve`: ids, counters, load samples and a concurrency limit are on. With
`--at-zero` the replica becomes ready at SIGUSR1. With `--otlp` calls are traced and the spans exported to that collector.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import tempfile
from pathlib import Path
from typing import Final

import uvloop

from gateway.edge.edge import Edge
from gateway.edge.settings import EdgeSettings
from orchestration.events import FunctionChanged, ReplicaChanged
from orchestration.load import LoadSample
from orchestration.replica import Endpoint, Replica, ReplicaState
from orchestration.rollout import deploy
from orchestration.spec import FunctionSpec
from telemetry.span_export import SpanExport

FUNCTION: Final = "echo"


def ignore(what: LoadSample | str) -> None:
    """Nobody scales here."""


async def serve(socket: str, limit: int, *, at_zero: bool, otlp: str, trace_ratio: float) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    endpoint = Endpoint(unix=socket)
    spec = FunctionSpec(service=FUNCTION, image="x", env_vars={"max_inflight": str(limit)})
    function = deploy(None, spec, "sha256:0", 0.0)
    replica = Replica(
        id="r0",
        namespace=function.id.namespace,
        function=FUNCTION,
        revision=function.newest.name,
        state=ReplicaState.RUNNING,
        endpoint=endpoint,
    )
    async with contextlib.AsyncExitStack() as stack:
        settings = EdgeSettings(port=0)
        if otlp:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            export = await stack.enter_async_context(SpanExport(folder / "spans", {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp}))
            settings = EdgeSettings(port=0, spans=str(export.path), trace_ratio=trace_ratio)
        edge = await stack.enter_async_context(Edge(settings, control=endpoint, on_load=ignore, on_released=ignore))
        edge.apply(FunctionChanged(function))
        if at_zero:
            loop.add_signal_handler(signal.SIGUSR1, edge.apply, ReplicaChanged(replica))
        else:
            edge.apply(ReplicaChanged(replica))
        print(edge.port, flush=True)
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("socket")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--at-zero", action="store_true")
    parser.add_argument("--otlp", default="")
    parser.add_argument("--trace-ratio", type=float, default=0.05)
    options = parser.parse_args()
    what = serve(options.socket, options.limit, at_zero=options.at_zero, otlp=options.otlp, trace_ratio=options.trace_ratio)
    uvloop.run(what)


if __name__ == "__main__":
    main()
