"""What the Python runtime adds to a sync handler: one replica, loaded directly, beside a plain loop in a process.

    python -m benchmarks.runtime [--rounds 5] [--seconds 1] [--python PATH]

The yardstick is a single-threaded epoll loop that finds the end of the head, calls the same handler and sends a fixed
head: what no server in Python can beat for a handler that works. For a handler that waits the yardstick is what 50
connections can do at most, connections ÷ waiting time. Replica and yardstick take turns; wrk has one thread.

Then what slow calls do to quick ones of the same function: 1,800 quick calls a second from when each was due (Poisson),
alone, and with 200 calls a second beside them that sleep 50 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.invocation_lab import Case, Target, free_port, start, wrk
from benchmarks.invocation_rate import at_rate
from tests.runtime_templates.replica import Replica

CONNECTIONS: Final = 50


class Handler(NamedTuple):
    """A handler that answers `ok`. `waits_s`: for so long it does nothing."""

    name: str
    code: str
    waits_s: float = 0.0


HANDLERS: Final = [
    Handler("trivial", "return {'statusCode': 200, 'body': 'ok'}"),
    Handler("0.3 ms of Python", "work(6_600); return 'ok'"),
    Handler("5 ms of Python", "work(110_000); return 'ok'"),
    Handler("0.3 ms asleep", "time.sleep(0.0003); return 'ok'", 0.0003),
    Handler("2 ms asleep", "time.sleep(0.002); return 'ok'", 0.002),
    Handler("100 ms asleep", "time.sleep(0.1); return 'ok'", 0.1),
    Handler("1 in 10 50 ms asleep", "next(count) % 10 or time.sleep(0.05); return 'ok'", 0.005),
    Handler("1 in 200 50 ms asleep", "next(count) % 200 or time.sleep(0.05); return 'ok'"),
    Handler("two pieces", "return iter(['o', 'k'])"),
]
SOURCE: Final = """
import itertools, time
count = itertools.count(1)
def work(n):
    for i in range(n):
        pass
def handle(event, context):
    {code}
"""
BY_PATH: Final = Handler("by path", "event.path == '/slow' and time.sleep(0.05); return 'ok'")

PLAIN: Final = """
import select, socket, sys
sys.path.insert(0, sys.argv[1])
from function.handler import handle
HEAD = b"HTTP/1.1 200 OK\\r\\nDate: Thu, 01 Jan 1970 00:00:00 GMT\\r\\nContent-Type: text/html\\r\\n" + \\
    b"Content-Length: 2\\r\\n\\r\\n"
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
poll, clients = select.epoll(), {}
poll.register(listener.fileno(), select.EPOLLIN)
while True:
    for fd, _ in poll.poll():
        client = clients.get(fd)
        if client is None:
            client, _ = listener.accept()
            clients[client.fileno()] = client
            poll.register(client.fileno(), select.EPOLLIN)
            continue
        try:
            data = client.recv(65536)
            if data.endswith(b"\\r\\n\\r\\n"):
                handle(None, None)
                client.send(HEAD + b"ok")
        except ConnectionError:
            data = b""
        if not data:
            poll.unregister(fd)
            clients.pop(fd).close()
"""


class Run(NamedTuple):
    rps: float
    p50_us: float
    p99_us: float
    cpu_us: float


@contextlib.contextmanager
def replica(folder: Path, handler: Handler, python: str) -> Iterator[Target]:
    """A replica as the platform starts it, but on TCP."""
    served = Replica(folder, SOURCE.format(code=handler.code), "python3-http", tcp=True, environment={}, python=python)
    try:
        assert isinstance(served.address, tuple), served.notified
        yield Target(handler.name, served.address[1], "", served.process.pid)
    finally:
        served.end()


@contextlib.contextmanager
def plain(folder: Path, handler: Handler, python: str) -> Iterator[Target]:
    """The yardstick."""
    (folder / "function").mkdir(parents=True)
    (folder / "function" / "handler.py").write_text(SOURCE.format(code=handler.code))
    (folder / "plain.py").write_text(PLAIN)
    with contextlib.ExitStack() as stack:
        port = free_port()
        yield Target("plain", port, "", start(stack, [python, str(folder / "plain.py"), str(folder), str(port)], port))


def load(folder: Path, target: Target, seconds: float) -> Run:
    """Let wrk load `target`."""
    before = target.cpu_s()
    report = wrk(folder, target.port, "/", Case("GET", "2b", CONNECTIONS), seconds)
    cpu_s = target.cpu_s() - before
    requests = report["requests"]
    return Run(requests / report["us"] * 1e6, report["p50"], report["p99"], cpu_s / requests * 1e6)


def row(folder: Path, handler: Handler, python: str, rounds: int, seconds: float) -> str:
    """Tell one handler."""
    ours, ratios = [], []
    with replica(folder / "ours", handler, python) as target, contextlib.ExitStack() as stack:
        yardstick = None if handler.waits_s else stack.enter_context(plain(folder / "plain", handler, python))
        for _ in range(rounds):
            ours.append(load(folder, target, seconds))
            most = load(folder, yardstick, seconds).rps if yardstick else CONNECTIONS / handler.waits_s
            ratios.append(ours[-1].rps / most)
    rps, p50, p99, cpu = (statistics.median(column) for column in zip(*ours, strict=True))
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
    beside = "÷ plain" if not handler.waits_s else "÷ most"
    return f"  {handler.name:22}{rps:>9,.0f}/s{p50:>9,.0f}{p99:>10,.0f}{cpu:>9.0f}   {spread} {beside}"


def slow_calls(port: int, seconds: float) -> None:
    at_rate(port, "/slow", b"ok", rate=200, seconds=seconds, connections=50)


def mixed(folder: Path, python: str, rounds: int, seconds: float) -> Iterator[str]:
    """Tell what slow calls do to quick ones."""
    with replica(folder / "mixed", BY_PATH, python) as target:
        for name, with_slow in (("alone", False), ("beside slow calls", True)):
            rows = []
            for _ in range(rounds):
                beside = multiprocessing.Process(target=slow_calls, args=(target.port, seconds + 0.5))
                if with_slow:
                    beside.start()
                rows.append(at_rate(target.port, "/quick", b"ok", rate=1800, seconds=seconds, connections=50))
                if with_slow:
                    beside.join()
            p50, p99, p999, late = (statistics.median(column) for column in zip(*rows, strict=True))
            yield f"  {name:22}{p50:>9,.0f}{p99:>10,.0f}{p999:>10,.0f}   generator late at its p99: {late:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each run")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs replica and yardstick")
    options = parser.parse_args()
    version = subprocess.run([options.python, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"{version}, {CONNECTIONS} connections, medians of {options.rounds} rounds of {options.seconds:g} s")
    print(f"  {'handler':22}{'requests':>11}{'p50 µs':>9}{'p99 µs':>10}{'CPU µs':>9}   requests/s ÷ yardstick (range)")
    with tempfile.TemporaryDirectory(prefix="rt") as name:
        for number, handler in enumerate(HANDLERS):
            folder = Path(name) / str(number)
            folder.mkdir()
            print(row(folder, handler, options.python, options.rounds, options.seconds), flush=True)
        print(f"\nquick calls at 1,800/s\n  {'':22}{'p50 µs':>9}{'p99 µs':>10}{'p99.9 µs':>10}")
        for line in mixed(Path(name), options.python, options.rounds, 2 * options.seconds):
            print(line)


if __name__ == "__main__":
    main()
