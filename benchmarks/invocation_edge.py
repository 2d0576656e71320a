"""Pinnace's edge alone in a process, with one function whose replica is the Unix socket given. Prints its port.

    python -m benchmarks.invocation_edge SOCKET

What a call meets is what it meets in `faas serve`: ids, counters, load samples and a concurrency limit are on.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import uvloop

from gateway.edge.edge import Edge
from gateway.edge.settings import EdgeSettings
from orchestration.events import FunctionChanged, ReplicaChanged
from orchestration.replica import Endpoint, Replica, ReplicaState
from orchestration.rollout import deploy
from orchestration.spec import FunctionSpec

FUNCTION = "echo"
LIMIT = "1000"


async def serve(socket: str) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    endpoint = Endpoint(unix=socket)
    function = deploy(None, FunctionSpec(service=FUNCTION, image="x", env_vars={"max_inflight": LIMIT}), "sha256:0", 0.0)
    replica = Replica(
        id="r0",
        namespace=function.id.namespace,
        function=FUNCTION,
        revision=function.newest.name,
        state=ReplicaState.RUNNING,
        endpoint=endpoint,
    )
    ignored = [lambda sample: None, lambda replica_id: None]
    async with Edge(EdgeSettings(port=0), control=endpoint, on_load=ignored[0], on_released=ignored[1]) as edge:
        edge.apply(FunctionChanged(function))
        edge.apply(ReplicaChanged(replica))
        print(edge.port, flush=True)
        await stop.wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
