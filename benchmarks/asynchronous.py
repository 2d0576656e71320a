"""Asynchronous calls: what their stores cost beside the bare ones, how long a call takes, and a million that wait.

    python -m benchmarks.asynchronous stores [--rounds 3] [--calls 20000] [--store sqlite]
    python -m benchmarks.asynchronous latency [--rate 100] [--seconds 20]
    python -m benchmarks.asynchronous million [--calls 1000000] [--store sqlite]

`stores`: calls that are accepted, and that are taken and ended, a second, by 256 callers at a time, each of which waits for
its answer, and what a call costs in CPU, all threads together: of that the machine's other work takes nothing away. Yardsticks
of the same run and disk: inserting the same bytes into a bare SQLite table, a commit each and as many a commit as the store's
own groups had, by one thread that waits for nobody; reading, marking and updating such rows in the same groups, which is what
it is to complete calls (that many inserts a second are told beside it: the same rows are written then without being found
first, and once instead of twice); `redis-benchmark` adding the same bytes to a stream (XADD) of the same server with as many
clients; consumers of a group that read such a stream, acknowledge, and write the results, grouped the same, without a script,
which is what it is to complete calls there (told beside XADD, which goes by no Python). Of the server its CPU a call is told
too. All sync each commit: `synchronous = FULL`, `appendfsync always`. The goal is half of each yardstick's rate, for completed
calls both of the same work and of the bare insert or XADD.

`latency`: from the submission's first byte to the answer of a long poll for its end, on a real platform, at a fixed rate.

`million`: how fast and how large it is as calls pile up, and what deploys take beside them. Needs redis-server and
redis-tools.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from benchmarks import asynchronous_bare_redis as bare_redis
from benchmarks.asynchronous_bare import bare_completions, bare_inserts
from benchmarks.embedded import deploy_s, rss_mib
from cli.process import collect_seldom
from gateway.asynchronous.calls import Outcome, State, Submission, queue_of
from gateway.asynchronous.redis.store import RedisStore
from gateway.asynchronous.rows import encoded_outcome, encoded_request
from gateway.asynchronous.sqlite_store import SqliteStore
from gateway.asynchronous.store import Keep, Store
from orchestration.names import FunctionId
from tests.end_to_end.platform import Platform, running
from tests.gateway.asynchronous.redis_server import RedisServer

CALLERS: Final = 256
TAKERS: Final = 4
"""Calls are taken while others end, as workers do."""
TAKEN: Final = CALLERS // TAKERS
"""Calls that are taken at a time, at most."""
FUNCTION: Final = FunctionId("openfaas-fn", "bench")
BODY: Final = b"b" * 256
HEADERS: Final = (("Content-Type", "application/json"), ("User-Agent", "benchmark/1.0"), ("Host", "gateway.example:8080"))
OUTCOME: Final = Outcome(status=200, headers=HEADERS[:1])


def wanted(due: float = 0.0) -> Submission:
    return Submission(queue=queue_of(FUNCTION), function=FUNCTION, headers=HEADERS, body=BODY, due=due)


class Rate(NamedTuple):
    """Calls a second, CPU microseconds a call, here and in a server, calls a commit that was synced."""

    accepted: float
    completed: float
    accepted_us: float
    completed_us: float
    accepted_server_us: float
    completed_server_us: float
    accepted_group: float
    completed_group: float


async def many(count: int, work: Callable[[], Awaitable[object]]) -> float:
    """Do `work` so often, CALLERS at a time; return how often a second."""
    left = count

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await work()

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return count / (time.perf_counter() - started)


async def measured(store: Store, calls: int, batches: Callable[[], int], server_s: Callable[[], float] = lambda: 0.0) -> Rate:
    """Submit calls, then take and end them all; `batches` counts the store's synced commits, `server_s` is its server's CPU."""
    before, cpu_s, server_cpu_s = batches(), time.process_time(), server_s()
    accepted = await many(calls, lambda: store.submit([wanted()], time.time()))
    accepted_us = (time.process_time() - cpu_s) / calls * 1e6
    accepted_server_us = (server_s() - server_cpu_s) / calls * 1e6
    accepted_group = calls / (batches() - before)
    depth = (await store.depths(time.time()))[queue_of(FUNCTION)]
    assert depth.waiting == calls, f"{depth.waiting} of {calls} calls are there: it was not accepting that was measured"

    async def carry_out() -> int:
        ended = 0
        while taken := await store.take(lambda _: CALLERS, TAKEN, time.time(), 30):
            finishes = (store.finish(call.lease, State.SUCCEEDED, OUTCOME, time.time(), body=BODY) for call in taken)
            ended += sum(await asyncio.gather(*finishes))
        return ended

    before, cpu_s, server_cpu_s = batches(), time.process_time(), server_s()
    started = time.perf_counter()
    ended = sum(await asyncio.gather(*(carry_out() for _ in range(TAKERS))))
    completed = ended / (time.perf_counter() - started)
    completed_us = (time.process_time() - cpu_s) / calls * 1e6
    completed_server_us = (server_s() - server_cpu_s) / calls * 1e6
    assert ended == calls, f"{ended} of {calls} calls have ended"
    completed_group = calls / max(1, batches() - before)
    while await store.sweep(time.time() + 1, Keep(ended_s=0)):
        pass
    cost = accepted_us, completed_us, accepted_server_us, completed_server_us
    return Rate(accepted, completed, *cost, accepted_group, completed_group)


def verdict(ratio: float, goal: float) -> str:
    return f"{ratio:.2f} of it, goal ≥ {goal}: {'met' if ratio >= goal else 'MISSED'}"


async def of_file(folder: Path, calls: int) -> Rate:
    """Measure the store of one machine."""
    store = SqliteStore(folder)
    synced = [0]
    choose = store._writer._sync

    def counted(wanted: bool) -> None:
        synced[0] += wanted
        choose(wanted)

    store._writer._sync = counted  # type: ignore[method-assign]
    try:
        return await measured(store, calls, lambda: synced[0])
    finally:
        await store.close()


async def of_server(server: RedisServer, folder: Path, calls: int) -> Rate:
    """Measure the store in Redis."""
    store = RedisStore(server.settings, folder / "spool")
    batches = [0]
    send = store._adding._send

    async def sent(batch: list[bytes]) -> bytes:
        batches[0] += 1
        return await send(batch)

    store._adding._send = sent  # type: ignore[assignment]
    try:
        return await measured(store, calls, lambda: batches[0], lambda: bare_redis.cpu_s(server))
    finally:
        await store.close()


def say(title: str, rates: list[Rate]) -> Rate:
    """Print the middle of what was measured, and return it."""
    middle = Rate(*(statistics.median(values) for values in zip(*rates, strict=True)))
    server = middle.completed_server_us > 0
    accepted = f" and {middle.accepted_server_us:.1f} of the server's" if server else ""
    completed = f" and {middle.completed_server_us:.1f}" if server else ""
    print(
        f"{title}: {middle.accepted:,.0f} accepted/s, {middle.accepted_us:.1f} us of CPU each{accepted},"
        f" {middle.accepted_group:.0f} a commit; {middle.completed:,.0f} completed/s,"
        f" {middle.completed_us:.1f} us{completed} each"
    )
    return middle


def compare(rate: float, kind: str, yardstick: str, found: list[float], goal: float = 0.0) -> None:
    """Print how a rate stands beside a yardstick's, measured in the same rounds."""
    ratio = rate / statistics.median(found)
    says = verdict(ratio, goal) if goal else f"{ratio:.2f} of it"
    print(f"    {yardstick}: {statistics.median(found):,.0f}/s; {kind} {says}")


async def stores_in_file(rounds: int, calls: int) -> None:
    rates: list[Rate] = []
    one, inserts, completions = [], [], []
    request, outcome = encoded_request(wanted()), encoded_outcome(OUTCOME)
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            rates.append(await of_file(folder, calls))
            group, ends = round(rates[-1].accepted_group), round(rates[-1].completed_group)
            one.append(bare_inserts(folder, request, BODY, max(1, calls // 20), 1))
            inserts.append(bare_inserts(folder, request, BODY, calls, group))
            completions.append(bare_completions(folder, request, BODY, outcome, calls, taken=TAKEN, group=ends))
    middle = say("SQLite", rates)
    compare(middle.accepted, "accepted", "bare insert, a commit each", one)
    compare(middle.accepted, "accepted", "bare insert, grouped the same", inserts, 0.5)
    compare(middle.completed, "completed", "bare select, mark and update, grouped the same", completions, 0.5)
    compare(middle.completed, "completed", "bare insert, grouped as the accepted", inserts, 0.5)


async def stores_in_server(rounds: int, calls: int) -> None:
    rates: list[Rate] = []
    single: list[float] = []
    piped: list[float] = []
    completions = []
    request, outcome = encoded_request(wanted()), encoded_outcome(OUTCOME)
    with tempfile.TemporaryDirectory() as name, RedisServer() as server:
        assert b"always" in server.command("CONFIG", "GET", "appendfsync")
        for _ in range(rounds):
            rates.append(await of_server(server, Path(name), calls))
            for pipeline, found in ((1, single), (16, piped)):
                found.append(bare_redis.adds(server, request, BODY, calls, clients=CALLERS, pipeline=pipeline))
            completions.append(await bare_redis.completions(server, request, BODY, outcome, calls, takers=TAKERS, taken=TAKEN))
    middle, (bare, bare_us, bare_server_us) = say("Redis", rates), zip(*completions, strict=True)
    compare(middle.accepted, "accepted", "redis-benchmark XADD, as many clients", single, 0.5)
    compare(middle.completed, "completed", "XREADGROUP, XACK and HSET, grouped the same", list(bare), 0.5)
    cost = statistics.median(bare_us), statistics.median(bare_server_us)
    print(f"        which takes {cost[0]:.1f} us of CPU and {cost[1]:.1f} of the server's each")
    compare(middle.completed, "completed", "redis-benchmark XADD, as many clients", single, 0.5)
    for kind, rate in (("accepted", middle.accepted), ("completed", middle.completed)):
        compare(rate, kind, "… each 16 at a time", piped)


async def post_and_wait(platform: Platform, name: str) -> float:
    """Return how long a call took from its submission until its end was known."""
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", platform.port)
    try:
        body = b"ping"
        writer.write(
            b"POST /async-function/%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n%b" % (name.encode(), body)
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 202"), head
        call_id = next(line.split(": ")[1] for line in head.splitlines() if line.lower().startswith("x-call-id"))
        writer.write(f"GET /async-function/{call_id}/result?wait=20s HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 200"), head
        assert await reader.readexactly(4) == body, "the function's answer, not another"
        return time.perf_counter() - started
    finally:
        writer.close()


async def paced(platform: Platform, name: str, rate: int, seconds: float) -> list[float]:
    """Send at the rate, whatever has come back; return the latencies in milliseconds."""
    tasks = []
    started = time.perf_counter()
    for number in range(int(rate * seconds)):
        await asyncio.sleep(started + number / rate - time.perf_counter())
        tasks.append(asyncio.create_task(post_and_wait(platform, name)))
    return [took * 1000 for took in await asyncio.gather(*tasks)]


def latency(rate: int, seconds: float) -> None:
    handler = "def handle(event, context):\n    return event.body\n"
    with RedisServer() as server:
        for title, flags, goal in (("SQLite", (), 10.0), ("Redis", ("--queue", server.settings.url), 0.0)):
            with tempfile.TemporaryDirectory() as home, running(Path(home), *flags) as platform:
                platform.deploy("echo", handler)
                uvloop.run(paced(platform, "echo", rate, 2))
                took = sorted(uvloop.run(paced(platform, "echo", rate, seconds)))
                p50, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
                says = f"; p50 goal ≤ {goal:g} ms: {'met' if p50 <= goal else 'MISSED'}" if goal else ""
                print(f"{title}, {rate}/s for {seconds:g} s: p50 {p50:.1f} ms, p99 {p99:.1f} ms{says}")


async def piled(store: Store, calls: int, size_mib: Callable[[], float], windows: int = 10) -> tuple[list[float], list[float]]:
    """Submit calls that are not due yet; return rates and sizes, one of each a tenth."""
    rates, sizes = [], []
    later = time.time() + 365 * 86_400
    for _ in range(windows):
        rates.append(await many(calls // windows, lambda: store.submit([wanted(later)], time.time())))
        sizes.append(size_mib())
    depth = (await store.depths(time.time()))[queue_of(FUNCTION)]
    assert depth.waiting == calls // windows * windows
    return rates, sizes


def own_mib() -> float:
    return rss_mib(os.getpid())


def million_in_file(calls: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        data = Path(home, "data")
        data.mkdir()

        async def fill_file() -> tuple[list[float], list[float]]:
            store = SqliteStore(data)
            try:
                return await piled(store, calls, own_mib)
            finally:
                await store.close()

        flat("SQLite", calls, *uvloop.run(fill_file()), "this process")
        os.sync()  # what deploys pay for is calls that wait, not the disk that still writes them
        with running(Path(home)) as full, tempfile.TemporaryDirectory() as other, running(Path(other)) as empty:
            listed = full.request("GET", "/api/v1/async/queues").json()
            assert json.dumps(listed).count(str(calls // 10 * 10)), "the platform sees what waits"
            took: dict[str, list[float]] = {"full": [], "empty": []}
            for number in range(9):
                for name, platform in (("full", full), ("empty", empty)):
                    took[name].append(deploy_s(platform, f"f-{number}", f"answer {number}"))
            beside, alone = statistics.median(took["full"]), statistics.median(took["empty"])
            says = "met" if beside <= alone * 1.2 else "MISSED"
            print(f"    deploy beside them {beside:.2f} s, without any {alone:.2f} s, goal ≤ 1.2 of it: {says}")
            assert full.process is not None and empty.process is not None
            print(f"    platform {rss_mib(full.process.pid):.0f} MiB, without any {rss_mib(empty.process.pid):.0f} MiB")


def million_in_server(calls: int) -> None:
    with tempfile.TemporaryDirectory() as spool, RedisServer() as server:

        def server_mib() -> float:
            found = server.command("INFO", "memory").decode().partition("used_memory:")[2]
            return int(found.splitlines()[0]) / (1 << 20)

        async def fill_server() -> tuple[list[float], list[float]]:
            store = RedisStore(server.settings, Path(spool) / "spool")
            try:
                return await piled(store, calls, own_mib)
            finally:
                await store.close()

        before = server_mib()
        flat("Redis", calls, *uvloop.run(fill_server()), "this process")
        print(f"    server: {(server_mib() - before) * (1 << 20) / calls:.0f} bytes a waiting call of {len(BODY)} bytes")


def flat(title: str, calls: int, rates: list[float], sizes: list[float], who: str) -> None:
    """Say whether the last tenths were as quick as the first, and nothing grew."""
    first, last = statistics.median(rates[:3]), statistics.median(rates[-3:])
    print(f"{title}: {calls:,} calls wait; {first:,.0f} accepted/s at first, {last:,.0f} at last: ", end="")
    print(verdict(last / first, 0.8))
    print(f"    each tenth: {', '.join(f'{rate:,.0f}' for rate in rates)}")
    grown = sizes[-1] - sizes[0]
    print(f"    {who} {sizes[0]:.0f} MiB after a tenth, {sizes[-1]:.0f} at the end: {'met' if grown < 32 else 'MISSED'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["stores", "latency", "million"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=0)
    parser.add_argument("--rate", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--store", choices=["sqlite", "redis", "both"], default="both", help="of stores and million")
    options = parser.parse_args()
    if options.what == "stores":
        collect_seldom()  # as the platform does, and leaves out what it is made of
        gc.collect()
        gc.freeze()
        if options.store != "redis":
            uvloop.run(stores_in_file(options.rounds, options.calls or 20_000))
        if options.store != "sqlite":
            uvloop.run(stores_in_server(options.rounds, options.calls or 20_000))
    elif options.what == "latency":
        latency(options.rate, options.seconds)
    else:
        if options.store != "redis":
            million_in_file(options.calls or 1_000_000)
        if options.store != "sqlite":
            million_in_server(options.calls or 1_000_000)


if __name__ == "__main__":
    main()
