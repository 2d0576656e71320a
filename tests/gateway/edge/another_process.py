"""A linked edge in a process of its own, which a test can stop and let go on.

What it is told comes on its stdin, as JSON in one line; it says its port, and lives until its stdin ends.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import uvloop

from gateway.edge import member, tenure
from gateway.edge.messages import ToEdge
from gateway.edge.seats import LinkedEdge
from gateway.edge.settings import EdgeSettings
from gateway.edge.tenure import Sighting
from orchestration.events import FunctionChanged, FunctionRemoved, ReplicaChanged
from orchestration.replica import Endpoint

ROOT = Path(__file__).resolve().parents[3]


class Told(msgspec.Struct):
    """`events` are in msgpack and base64; `quicker` divides the times by which tenures and looks are reckoned."""

    name: str
    secret: str
    hub: str
    control: Endpoint
    events: list[str]
    quicker: float


def hasten(quicker: float) -> dict[tuple[object, str], float]:
    """Return the times of tenures and looks, divided by `quicker`, by the module and the name that they have there."""
    times = [(tenure, "TENURE_S"), (tenure, "MARGIN_S"), (tenure, "PAUSE_S"), (member, "LOOK_EVERY_S")]
    return {(module, name): getattr(module, name) / quicker for module, name in times}


async def run(told: Told) -> None:
    async def look() -> Sighting:
        began = time.monotonic()
        await asyncio.sleep(0.05)  # a request to the API server
        return Sighting(began, True, "leader", told.hub)

    edge = LinkedEdge(EdgeSettings(port=0, name=told.name), control=told.control, secret=told.secret.encode(), look=look)
    for event in told.events:
        decoded = msgspec.msgpack.decode(base64.b64decode(event), type=ToEdge)
        assert isinstance(decoded, FunctionChanged | FunctionRemoved | ReplicaChanged)
        edge.apply(decoded)
    async with edge:
        print(edge.edge.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


@contextlib.asynccontextmanager
async def another_edge(told: Told) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Run one: its process and its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(told) + b"\n")
        yield process, int(await asyncio.wait_for(process.stdout.readline(), 20))
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


if __name__ == "__main__":
    given = msgspec.json.decode(sys.stdin.readline(), type=Told)
    for (module, name), value in hasten(given.quicker).items():
        setattr(module, name, value)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(given))
