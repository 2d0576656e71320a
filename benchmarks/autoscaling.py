"""The autoscaler live: a step of load on the embedded platform, up and down again, with no call lost.

    python -m benchmarks.autoscaling [--seconds 10] [--rounds 3] [--workers 1]

100 closed-loop clients meet a 100 ms handler that takes 10 calls at a time, of which there is one replica, or none; at most
40 are allowed. The yardstick is the handler itself: 100 ms. Told are: when the first decision came and what it asked
for, when as many replicas were ready as the load needs (ceil(100 / 7) = 15), the calls' times once that is over, failures,
and how long after the load the floor was reached, beside the time that was configured. `slow` is the same with a handler of
0.5 s; `burst` sends 100 calls at once to zero.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import socket
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.clients import Log, load
from benchmarks.cold_start_lab import percentile
from tests.end_to_end.platform import Platform, running, until

HANDLER: Final = "import time\ndef handle(event, context):\n    time.sleep({seconds})\n    return 'ok'\n"
LABELS: Final = {
    "com.pinnace.concurrency": "10",
    "com.openfaas.scale.max": "40",
    "com.openfaas.scale.zero": "true",
    "com.openfaas.scale.zero-duration": "8s",
}
CLIENTS: Final = 100
NEED: Final = 15  # ceil(100 / (10 x 0.7))


def scaling(platform: Platform, name: str) -> dict[str, Any]:
    """What the platform tells of its decisions."""
    answer: dict[str, Any] = platform.request("GET", f"/api/v1/functions/{name}/scaling").json()
    return answer


async def watched(platform: Platform, name: str, started: float, ready_at: list[float]) -> None:
    """Note when as many replicas were ready as are needed."""
    while not ready_at:
        status = await asyncio.to_thread(platform.status, name)
        if (status.get("availableReplicas") or 0) >= NEED:
            ready_at.append(time.monotonic() - started)
        await asyncio.sleep(0.02)


async def step(platform: Platform, name: str, seconds: float) -> tuple[Log, float, list[float]]:
    """Load `name` for `seconds`; returns what clients saw, when they started, and when the need was met."""
    log, ready_at = Log(), list[float]()
    started = time.monotonic()
    watching = asyncio.create_task(watched(platform, name, started, ready_at))
    await load(platform.port, f"/function/{name}", CLIENTS, seconds, log)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return log, started, ready_at


def report(platform: Platform, name: str, handler_s: float, seconds: float, *, from_zero: bool) -> None:
    """Run one step and tell."""
    if from_zero:
        platform.scale(name, 0)
        until(lambda: not platform.pids(name))
    else:
        platform.scale(name, 1)
        until(lambda: platform.status(name).get("availableReplicas") == 1)
    log, started, ready_at = asyncio.run(step(platform, name, seconds))
    ended = time.monotonic()
    until(lambda: not platform.status(name).get("replicas"), within_s=60)
    floor_s = time.monotonic() - ended
    late = [took for began, took in log.calls if began - started >= 5]
    changes = scaling(platform, name)["changes"][::-1]
    up = [f"{c['previous']}→{c['replicas']}" for c in changes if c["replicas"] > c["previous"]]
    print(
        f"  from {'zero' if from_zero else 'one '}: {len(log.calls)} calls, {len(log.failures)} failed;"
        f" {NEED} ready after {ready_at[0] if ready_at else float('nan'):.2f} s (goal 2);"
        f" p50 {percentile(late, 0.5) * 1e3:.0f} ms, p99 after 5 s {percentile(late, 0.99) / handler_s:.2f} x the"
        f" handler (goal 1.3);"
        f" zero after {floor_s:.1f} s (set: 8); last ups {', '.join(up[-4:])}"
    )
    for failure in log.failures[:3]:
        print(f"    {failure}")


def burst(platform: Platform, name: str) -> Log:
    """100 calls at once, on connections that are open already, each sent with one system call."""
    log = Log()
    request = f"GET /function/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", platform.port), 30)) for _ in range(CLIENTS)]
        began = time.monotonic()
        for connection in sockets:
            connection.sendall(request)
        for connection in sockets:
            head = connection.recv(65536)
            log.calls.append((began, time.monotonic() - began))
            if not head.startswith(b"HTTP/1.1 200 "):
                log.failures.append(head.decode())
    return log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="edge processes")
    options = parser.parse_args()
    flags = [part for key, value in LABELS.items() for part in ("--label", f"{key}={value}")]
    with (
        tempfile.TemporaryDirectory(prefix="scale") as home,
        running(Path(home), "--workers", str(options.workers)) as platform,
    ):
        for name, handler_s in (("quick", 0.1), ("slow", 0.5)):
            platform.deploy(name, HANDLER.format(seconds=handler_s), *flags)
            print(f"{name}: a handler of {handler_s:g} s, {CLIENTS} clients for {options.seconds:g} s")
            for number in range(options.rounds):
                report(platform, name, handler_s, options.seconds, from_zero=bool(number % 2))
        print("burst: 100 calls at once to zero, the first decisions")
        for _ in range(3 * options.rounds):
            platform.scale("quick", 0)
            until(lambda: not platform.pids("quick"))
            log = burst(platform, "quick")
            changes = scaling(platform, "quick")["changes"]
            woken = next(index for index, change in enumerate(changes) if change["previous"] == 0)
            asked = changes[woken::-1]
            first = asked[0]
            print(
                f"  asked for {first['replicas']} when {first['queued']} waited"
                + "".join(f", then {c['replicas']} after {_ms(first, c):.0f} ms" for c in asked[1:])
                + f" (need {NEED}); {len(log.failures)} failed; all answered after {max(took for _, took in log.calls):.2f} s"
            )


def _ms(first: dict[str, Any], later: dict[str, Any]) -> float:
    moments = [datetime.datetime.fromisoformat(change["at"]).timestamp() for change in (first, later)]
    return (moments[1] - moments[0]) * 1e3


if __name__ == "__main__":
    main()
