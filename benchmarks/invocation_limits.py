"""What the edge holds under pressure: 10,000 waiting calls, long bodies, long load, a flooded neighbour, many deploys.

    python -m benchmarks.invocation_limits [--slope-seconds 180] [--gigabytes 1] [--functions 50] [PART ...]

Parts: waiting, bodies, slope (the edge alone, in a process), fairness, lag (a whole platform); all without an argument.
Each figure stands beside its goal.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.invocation_edge import FUNCTION
from benchmarks.invocation_lab import Case, end, lab, wrk
from benchmarks.invocation_rate import at_rate
from tests.end_to_end.platform import running

MIB: Final = 1024 * 1024
WAITING: Final = 10_000
SLOW: Final = "import time\n\ndef handle(event, context):\n    time.sleep(0.1)\n    return 'ok'\n"
PROMPT: Final = "def handle(event, context):\n    return 'ok'\n"
ONE_REPLICA: Final = ("--label", "com.openfaas.scale.min=1", "--label", "com.openfaas.scale.max=1")
LAG_RUNNER: Final = [sys.executable, "-m", "benchmarks.invocation_lag"]


def verdict(met: bool) -> str:
    """How a goal is told."""
    return "met" if met else "MISSED"


def memory(pid: int, what: str = "VmRSS") -> int:
    """Bytes of memory that a process has now, or had at most (`VmHWM`)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(what))) * 1024


def cpu_ticks(pid: int) -> int:
    """CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def at_rest(pid: int) -> None:
    """Wait until a process has used no CPU time for half a second: everything it was sent is dealt with."""
    deadline = time.monotonic() + 60
    used, since = -1, time.monotonic()
    while time.monotonic() - since < 0.5:
        if (now := cpu_ticks(pid)) > used + 1:
            used, since = now, time.monotonic()
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} does not come to rest")
        time.sleep(0.05)


@contextlib.contextmanager
def edge(folder: Path, *flags: str) -> Iterator[tuple[int, int]]:
    """Run an edge over `folder`/origin; yields its process id and port."""
    command = [sys.executable, "-m", "benchmarks.invocation_edge", str(folder / "origin"), *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
    finally:
        end(process)


# 10,000 calls wait at zero


class Wire(asyncio.Protocol):
    """A connection that hands every read to `on_data`."""

    transport: asyncio.Transport

    def __init__(self, on_data: Callable[[Wire, bytes], None]) -> None:
        self._on_data = on_data

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._on_data(self, data)


async def ten_thousand(folder: Path, pid: int, port: int) -> None:
    loop = asyncio.get_running_loop()
    order: list[int] = []
    statuses: list[int] = []
    done = asyncio.Event()

    def serve(wire: Wire, data: bytes) -> None:
        order.append(int(data.split(b" ", 2)[1][1:]))
        wire.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def answered(wire: Wire, data: bytes) -> None:
        statuses.append(int(data.split(b" ", 2)[1]))
        if len(statuses) in (1, WAITING + 1):
            done.set()

    async def connect() -> Wire:
        return (await loop.create_connection(lambda: Wire(answered), "127.0.0.1", port))[1]

    def call(wire: Wire, number: int) -> None:
        wire.transport.write(b"GET /function/%b/%d HTTP/1.1\r\nHost: h\r\n\r\n" % (FUNCTION.encode(), number))

    origin = await loop.create_unix_server(lambda: Wire(serve), str(folder / "origin"))
    empty = memory(pid)
    wires = [await connect() for _ in range(WAITING + 1)]
    at_rest(pid)
    connected = memory(pid)
    for number, wire in enumerate(wires[:WAITING]):
        call(wire, number)
        if number % 100 == 99:
            await asyncio.sleep(0.005)  # calls of different connections come in order only when they come apart
    await asyncio.sleep(0.1)
    at_rest(pid)
    full = memory(pid)
    start = time.perf_counter()
    call(wires[WAITING], WAITING)
    async with asyncio.timeout(10):
        await done.wait()
    refused_ms = (time.perf_counter() - start) * 1000
    print(f"  an idle client connection holds {(connected - empty) / (WAITING + 1):,.0f} bytes")
    print(f"  a waiting call holds {(full - connected) / WAITING:,.0f} bytes on top")
    print(f"  call {WAITING + 1:,}: {statuses} after {refused_ms:.1f} ms; goal 503 at once: {verdict(statuses == [503])}")
    done.clear()
    start = time.perf_counter()
    os.kill(pid, signal.SIGUSR1)
    async with asyncio.timeout(60):
        await done.wait()
    took = time.perf_counter() - start
    behind = sum(later < earlier for earlier, later in itertools.pairwise(order))
    served = set(statuses[1:]) == {200} and sorted(order) == list(range(WAITING))
    print(f"  all served once in {took:.1f} s, one at a time: {verdict(served)}; out of the order sent: {behind}")
    for wire in wires:
        wire.transport.close()
    origin.close()


def waiting(options: argparse.Namespace, folder: Path) -> None:
    """10,000 calls wait at a function at zero; one more is refused; all are served in order once it runs."""
    with edge(folder, "--limit", "1", "--at-zero") as (pid, port):
        uvloop.run(ten_thousand(folder, pid, port))


# a long body, each way


def pour_and_drink(listening: socket.socket, size: int) -> None:
    """An origin for one connection after another: answers GET with `size` bytes, POST when it has read as many."""
    piece = bytes(MIB)
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            if head.startswith(b"GET"):
                connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
                for _ in range(size // MIB):
                    connection.sendall(piece)
            else:
                missing = size - len(head.partition(b"\r\n\r\n")[2])
                while missing:
                    missing -= len(connection.recv(MIB))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)


def bodies(options: argparse.Namespace, folder: Path) -> None:
    """A long body in each direction, through a memory that must not grow with it."""
    size = int(options.gigabytes * 1024) * MIB
    with socket.socket(socket.AF_UNIX) as listening, edge(folder) as (pid, port):
        listening.bind(str(folder / "origin"))
        listening.listen()
        threading.Thread(target=pour_and_drink, args=(listening, size), daemon=True).start()
        for method in ("GET", "POST"):
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # VmHWM counts from now
            before, start = memory(pid), time.perf_counter()
            with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                head = f"{method} /function/{FUNCTION} HTTP/1.1\r\nHost: h\r\nContent-Length: "
                client.sendall(f"{head}{size if method == 'POST' else 0}\r\n\r\n".encode())
                if method == "POST":
                    piece = bytes(MIB)
                    for _ in range(size // MIB):
                        client.sendall(piece)
                got = b""
                while b"\r\n\r\n" not in got:
                    got += client.recv(65536)
                head_bytes, _, rest = got.partition(b"\r\n\r\n")
                if not head_bytes.startswith(b"HTTP/1.1 200 "):
                    raise ConnectionError(f"the answer is {got!r}")
                missing = (size if method == "GET" else 2) - len(rest)
                buffer = bytearray(MIB)
                while missing:
                    count = client.recv_into(buffer)
                    if not count:
                        raise ConnectionError(f"{missing} bytes are missing")
                    missing -= count
            took = time.perf_counter() - start
            grown = (memory(pid, "VmHWM") - before) / MIB
            speed = f"{method} {size / MIB:,.0f} MiB: {size / took / MIB:,.0f} MiB/s"
            print(f"  {speed}, memory {grown:+.1f} MiB at most; goal ≤ 20: {verdict(grown <= 20)}")
        listening.shutdown(socket.SHUT_RDWR)


# long load


def slope(options: argparse.Namespace, folder: Path) -> None:
    """Memory under steady load, after a fifth of the time for warming up."""
    case = Case("GET", "2b", 50, "fresh")
    with lab(folder) as bench:
        target = bench.targets["Pinnace"]
        samples: list[tuple[float, float]] = []
        with ThreadPoolExecutor(1) as pool:
            load = pool.submit(wrk, folder, target.port, f"{target.prefix}/fresh", case, options.slope_seconds)
            start = time.monotonic()
            while not load.done():
                samples.append((time.monotonic() - start, memory(target.pid) / MIB))
                time.sleep(0.5)
            report = load.result()
    steady = [(at, mib) for at, mib in samples if at > options.slope_seconds / 5]
    per_s, _ = statistics.linear_regression(*zip(*steady, strict=True))
    print(f"  {report['requests']:,} calls in {options.slope_seconds:g} s, no head twice; memory {steady[-1][1]:.1f} MiB")
    print(f"  slope {per_s * 600:+.2f} MiB in 10 minutes; goal ≤ 1: {verdict(per_s * 600 <= 1)}")


# a flooded neighbour


def fairness(options: argparse.Namespace, folder: Path) -> None:
    """500 connections on a function of 100 ms and limit 10; another function is called 50 times a second."""
    with running(folder, "--no-auth") as platform:
        platform.deploy("slow", SLOW, *ONE_REPLICA, "--env", "max_inflight=10")
        platform.deploy("bystander", PROMPT, *ONE_REPLICA)

        def bystander() -> float:
            return at_rate(platform.port, "/function/bystander", b"ok", rate=50, seconds=20, connections=10).p99_us

        alone = bystander()
        flood = subprocess.Popen(
            ["wrk", "-t1", "-c500", "-d1h", "--timeout", "60s", f"{platform.url}/function/slow"],
            stdout=subprocess.PIPE,
            text=True,
        )
        time.sleep(2)
        beside = bystander()
        flood.send_signal(signal.SIGINT)
        out, _ = flood.communicate(timeout=30)
    rate = next(line.split()[1] for line in out.splitlines() if line.startswith("Requests/sec"))
    print(f"  the slow function does {rate} calls/s (100 is what its limit allows)")
    print(f"  p99 of the bystander: {alone:,.0f} µs alone, {beside:,.0f} µs beside; goal ≤ 2 x: {verdict(beside <= 2 * alone)}")


# many deploys


def lag(options: argparse.Namespace, folder: Path) -> None:
    """How late the platform's loop runs what is due, while functions deploy one after the other."""
    file = folder / "lag"
    with running(folder, "--no-auth", command=[*LAG_RUNNER, file]) as platform:
        platform.deploy("bystander", PROMPT, *ONE_REPLICA)
        before = file.stat().st_size
        start = time.perf_counter()
        for number in range(options.functions):
            platform.deploy(f"new-{number}", PROMPT.replace("'ok'", f"'ok {number}'"))
        took = time.perf_counter() - start
        with file.open() as lines:
            lines.seek(before)
            late = sorted(float(line) for line in lines.readlines()[1:-1])
        answer = platform.call(f"new-{options.functions - 1}").text
    p99 = late[int(len(late) * 0.99)]
    print(f"  {options.functions} deploys in {took:.0f} s, the last one answers {answer!r}; {len(late):,} ticks")
    print(
        f"  loop lag p50 {statistics.median(late):.1f}, p99 {p99:.1f}, max {late[-1]:.1f} ms; goal p99 ≤ 5: {verdict(p99 <= 5)}"
    )


PARTS: Final = {"waiting": waiting, "bodies": bodies, "slope": slope, "fairness": fairness, "lag": lag}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slope-seconds", type=float, default=180.0)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--functions", type=int, default=50)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART")
    options = parser.parse_args()
    for name in options.parts or PARTS:
        print(f"{name}: {PARTS[name].__doc__}")
        with tempfile.TemporaryDirectory(prefix="inv") as folder:
            PARTS[name](options, Path(folder))


if __name__ == "__main__":
    main()
