"""Latency at a fixed rate, free of coordinated omission.

Calls are due at times drawn beforehand (Poisson, the same for every target), whether or not earlier ones have been
answered; each one's latency counts from when it was due, so that a stall is felt by all calls that fell into it.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import time
from collections import deque
from typing import Final, NamedTuple

SEED: Final = 20_240_601
PATIENCE_S: Final = 10.0


class Latencies(NamedTuple):
    p50_us: float
    p99_us: float
    p999_us: float
    late_us: float
    """How late this generator itself was at the 99th percentile: what it measures is no finer."""


def at_rate(port: int, path: str, body: bytes, *, rate: float, seconds: float, connections: int) -> Latencies:
    """Ask for `path` `rate` times a second. Raises ConnectionError when an answer is not 200 with `body`.

    Connections take turns: one that is left idle is closed by the server in the end.
    """
    draw = random.Random(SEED)
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    due: deque[float] = deque()
    at = 0.0
    while (at := at + draw.expovariate(rate)) < seconds:
        due.append(at)
    expected = len(due)
    took: list[float] = []
    late: list[float] = []
    with contextlib.ExitStack() as stack:
        free = deque(stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(connections))
        for connection in free:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        busy: dict[socket.socket, tuple[float, bytes]] = {}
        clock = time.perf_counter
        start = clock() + 0.01
        while len(took) < expected:
            now = clock() - start
            if now > seconds + PATIENCE_S:
                raise ConnectionError(f"port {port}: {expected - len(took)} of {expected} calls were not answered")
            while due and due[0] <= now and free:
                connection = free.popleft()
                busy[connection] = (due[0], b"")
                late.append(now - due.popleft())
                connection.sendall(request)
                now = clock() - start
            pause = max(0.0, due[0] - now) if due and free else 1.0
            for connection in select.select(list(busy), [], [], pause)[0]:
                began, got = busy[connection]
                piece = connection.recv(65536)
                if not piece:
                    raise ConnectionError(f"port {port} closed a connection after {got!r}, with a call on it")
                got += piece
                head, end, rest = got.partition(b"\r\n\r\n")
                if not end or len(rest) < len(body):
                    busy[connection] = (began, got)
                    continue
                if rest != body or not head.startswith(b"HTTP/1.1 200 "):
                    raise ConnectionError(f"port {port} answers {got[:200]!r}")
                took.append(clock() - start - began)
                del busy[connection]
                free.append(connection)
    took.sort()
    late.sort()
    points = [took[min(len(took) - 1, int(len(took) * part))] * 1e6 for part in (0.5, 0.99, 0.999)]
    return Latencies(points[0], points[1], points[2], late[int(len(late) * 0.99)] * 1e6)
